//! Reading what a program prints, until it ends.

use crate::{Error, Result, Stage};
use ireko_sys::{Errno, Failure};
use std::io::PipeReader;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) truncated: bool,
}

/// Reads both pipes until they end or the process does. Then what it has written by
/// then is taken, and who else holds the pipes is not waited for.
pub(crate) fn drain(
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    process: BorrowedFd<'_>,
    limit: usize,
) -> Result<Drained> {
    let mut pipes = [stdout, stderr];
    let mut kept = [Vec::new(), Vec::new()];
    let mut truncated = false;
    for pipe in pipes.iter().flatten() {
        not_blocking(pipe.as_fd())?;
    }
    while pipes.iter().any(Option::is_some) {
        let number = |pipe: &Option<PipeReader>| pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut fds = [number(&pipes[0]), number(&pipes[1]), process.as_raw_fd()]
            .map(|fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        // SAFETY: three pollfds on this stack; negative numbers are left out.
        if unsafe { libc::poll(fds.as_mut_ptr(), 3, -1) } < 0 {
            if Errno::last().raw() == libc::EINTR {
                continue;
            }
            return Err(failed(Errno::last()));
        }
        let ended = fds[2].revents != 0;
        for index in 0..2 {
            let Some(pipe) = &pipes[index] else { continue };
            // What lies in the pipe when the program has ended is all that it wrote:
            // a grandchild may go on writing for ever.
            let most = if ended { lying(pipe.as_fd())? } else { usize::MAX };
            if take(pipe.as_fd(), &mut kept[index], limit, most, &mut truncated)? || ended {
                pipes[index] = None;
            }
        }
        if ended {
            break;
        }
    }
    let [stdout, stderr] = kept;
    Ok(Drained { stdout, stderr, truncated })
}

/// Reads what there is, up to `most`; `true` at the end.
fn take(
    pipe: BorrowedFd<'_>,
    kept: &mut Vec<u8>,
    limit: usize,
    most: usize,
    truncated: &mut bool,
) -> Result<bool> {
    let mut buffer = [0u8; 64 << 10];
    let mut left = most;
    while left > 0 {
        let room = buffer.len().min(left);
        // SAFETY: no more than the buffer is long.
        let n = unsafe { libc::read(pipe.as_raw_fd(), buffer.as_mut_ptr().cast(), room) };
        match n {
            0 => return Ok(true),
            n if n > 0 => {
                let n = n as usize;
                let fits = n.min(limit.saturating_sub(kept.len()));
                kept.extend_from_slice(&buffer[..fits]);
                *truncated |= fits < n;
                left -= n;
                // Once round, so that the other pipe and the end are looked at too.
                if most == usize::MAX {
                    return Ok(false);
                }
            }
            _ => match Errno::last().raw() {
                libc::EINTR => {}
                libc::EAGAIN => return Ok(false),
                _ => return Err(failed(Errno::last())),
            },
        }
    }
    Ok(false)
}

fn lying(pipe: BorrowedFd<'_>) -> Result<usize> {
    let mut n: libc::c_int = 0;
    // SAFETY: FIONREAD fills an int.
    if unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut n) } < 0 {
        return Err(failed(Errno::last()));
    }
    Ok(usize::try_from(n).unwrap_or(0))
}

fn not_blocking(pipe: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: numbers; the pipe is ours alone.
    let set = unsafe {
        let flags = libc::fcntl(pipe.as_raw_fd(), libc::F_GETFL);
        flags >= 0 && libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
    };
    if set { Ok(()) } else { Err(failed(Errno::last())) }
}

fn failed(errno: Errno) -> Error {
    Error::new(Stage::Running, Failure::kernel("read what the program prints", errno))
}
