use crate::{Errno, Failure, Result};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The same open file under a number of at least `min`, closed on exec.
///
/// Descriptors of ours stay clear of the low numbers: a caller may have closed
/// its standard streams, and a child is given files under numbers of its choice.
///
/// # Errors
/// `Exhausted` when no number from `min` on is left.
#[doc(alias = "F_DUPFD_CLOEXEC")]
pub fn above(min: i32, fd: impl AsFd) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an open fd and a number; it touches no memory.
    let new = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, min) };
    if new < 0 {
        return Err(Failure::kernel("duplicate a file descriptor", Errno::last()).into());
    }
    // SAFETY: the kernel has just given us this fd, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}
