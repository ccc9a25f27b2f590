use crate::{Errno, ErrorKind, Failure, ProcRoot, Result, Signal};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// A process that cannot be confused with a later one of the same number.
///
/// The fd becomes readable when the process ends: epoll, mio and tokio's
/// `AsyncFd` take it as it is. See
/// [`pidfd_open(2)`](https://man7.org/linux/man-pages/man2/pidfd_open.2.html).
#[doc(alias = "pidfd_open")]
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

/// How a process ended and what it used, with those of its children that were
/// waited for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Reaped {
    /// The status.
    pub status: ExitStatus,
    /// Cpu time in programs; zero where the status had to be asked for afterwards.
    pub cpu_user: Duration,
    /// Cpu time in the kernel.
    pub cpu_system: Duration,
    /// The largest resident set among those processes, bytes.
    pub max_rss: u64,
}

// Linux 6.13, exit information since 6.15; see include/uapi/linux/pidfd.h.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}
const PIDFD_INFO_EXIT: u64 = 1 << 3;
// _IOWR(0xFF, 11, 64 bytes)
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;

impl Pidfd {
    /// Holds the process that has this number now. Linux 5.3.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn open(pid: u32) -> Result<Self> {
        // SAFETY: pidfd_open takes two numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(Failure::kernel(format!("open process {pid}"), Errno::last()).into());
        }
        // SAFETY: the kernel has just given us this fd, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// The number in the caller's pid namespace; `NotFound` once it was waited for.
    ///
    /// # Errors
    /// `NotFound`; otherwise what reading `/proc` may say.
    pub fn pid(&self) -> Result<u32> {
        let gone = || Failure::ours(ErrorKind::NotFound, "read a process's number", "it has ended");
        let path = format!("self/fdinfo/{}", self.0.as_raw_fd());
        let mut text = String::new();
        ProcRoot::open()?
            .read(&path)?
            .read_to_string(&mut text)
            .map_err(|e| Failure::kernel("read a pidfd's fdinfo", Errno::of(&e)))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pid:")).ok_or_else(gone)?;
        line.trim().parse::<u32>().ok().filter(|pid| *pid > 0).ok_or_else(|| gone().into())
    }

    /// Sends a signal; `NotFound` when the process has ended.
    ///
    /// # Errors
    /// `NotFound`, `Denied`.
    #[doc(alias = "pidfd_send_signal")]
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // SAFETY: no siginfo is passed; the rest are numbers.
        let r = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal.raw(),
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if r < 0 {
            return Err(Failure::kernel(format!("send {signal}"), Errno::last()).into());
        }
        Ok(())
    }

    /// Waits for the end of a child of this program.
    ///
    /// # Errors
    /// `Lost` when another part of the program took the status and the kernel
    /// cannot tell it any more (before 6.15).
    #[doc(alias = "waitid")]
    pub fn wait(&self) -> Result<Reaped> {
        loop {
            match self.waitid(0)? {
                Some(reaped) => return Ok(reaped),
                None => continue,
            }
        }
    }

    /// As [`wait`](Self::wait), but `None` instead of waiting.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<Reaped>> {
        self.waitid(libc::WNOHANG)
    }

    /// Waits this long, or for ever, for the process to end; reaps nothing.
    ///
    /// # Errors
    /// `Kernel`, should poll fail.
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool> {
        // What is too long for a deadline is for ever.
        let deadline = timeout.and_then(|t| std::time::Instant::now().checked_add(t));
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(std::time::Instant::now()));
            let spec = left.map(|l| libc::timespec {
                tv_sec: l.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: l.subsec_nanos().into(),
            });
            let mut fd = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd and an optional timespec, both on this stack.
            let n = unsafe {
                let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
                libc::ppoll(&mut fd, 1, spec, std::ptr::null())
            };
            match n {
                0 => return Ok(false),
                n if n > 0 => return Ok(true),
                _ if Errno::last().raw() == libc::EINTR => {}
                _ => return Err(Failure::kernel("poll a process", Errno::last()).into()),
            }
        }
    }

    fn waitid(&self, flags: i32) -> Result<Option<Reaped>> {
        loop {
            // SAFETY: both are plain data that the kernel fills.
            let (mut info, mut usage): (libc::siginfo_t, libc::rusage) =
                unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
            // The raw call, for its fifth argument: libc's has no usage.
            // SAFETY: both pointers are to locals of the types the kernel expects.
            let r = unsafe {
                libc::syscall(
                    libc::SYS_waitid,
                    libc::P_PIDFD,
                    self.0.as_raw_fd(),
                    &raw mut info,
                    libc::WEXITED | libc::__WALL | flags,
                    &raw mut usage,
                )
            };
            if r == 0 {
                // SAFETY: waitid filled the fields of a SIGCHLD siginfo.
                let (pid, value) = unsafe { (info.si_pid(), info.si_status()) };
                if pid == 0 {
                    return Ok(None);
                }
                let raw = match info.si_code {
                    libc::CLD_EXITED => (value & 0xff) << 8,
                    libc::CLD_DUMPED => (value & 0x7f) | 0x80,
                    _ => value & 0x7f,
                };
                return Ok(Some(Reaped {
                    status: ExitStatus::from_raw(raw),
                    cpu_user: duration(usage.ru_utime),
                    cpu_system: duration(usage.ru_stime),
                    max_rss: (usage.ru_maxrss as u64).saturating_mul(1024),
                }));
            }
            match Errno::last().raw() {
                libc::EINTR => {}
                libc::ECHILD => return self.told_afterwards(flags),
                _ => return Err(Failure::kernel("wait for a process", Errno::last()).into()),
            }
        }
    }

    /// Somebody else reaped it, or it is no child of ours: the kernel keeps the
    /// status for whoever holds the pidfd, since 6.15.
    fn told_afterwards(&self, flags: i32) -> Result<Option<Reaped>> {
        if !self.poll((flags & libc::WNOHANG != 0).then_some(Duration::ZERO))? {
            return Ok(None);
        }
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the structure has the size that is part of the request number.
        let r = unsafe { libc::ioctl(self.0.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
        if r < 0 || info.mask & PIDFD_INFO_EXIT == 0 {
            return Err(Failure::ours(
                ErrorKind::Lost,
                "wait for a process",
                "its status was taken by another part of this program",
            )
            .remedy("do not ignore SIGCHLD nor wait for any child, or use Linux 6.15")
            .into());
        }
        Ok(Some(Reaped {
            status: ExitStatus::from_raw(info.exit_code),
            cpu_user: Duration::ZERO,
            cpu_system: Duration::ZERO,
            max_rss: 0,
        }))
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec.max(0) as u64, (time.tv_usec.max(0) as u32).saturating_mul(1000))
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Pidfd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Pidfd> for OwnedFd {
    fn from(fd: Pidfd) -> Self {
        fd.0
    }
}

#[cfg(test)]
#[allow(clippy::zombie_processes, reason = "the pidfd waits for them")]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn waits_for_a_child() {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pidfd = Pidfd::open(child.id()).unwrap();
        assert_eq!(pidfd.wait().unwrap().status.code(), Some(7));
    }

    #[test]
    fn tells_a_status_that_was_taken_or_says_lost() {
        let mut child = Command::new("sh").args(["-c", "exit 9"]).spawn().unwrap();
        let pidfd = Pidfd::open(child.id()).unwrap();
        child.wait().unwrap();
        match pidfd.wait() {
            Ok(reaped) => assert_eq!(reaped.status.code(), Some(9)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Lost),
        }
    }

    #[test]
    fn signals_and_tells_its_number() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = Pidfd::open(child.id()).unwrap();
        assert_eq!(pidfd.pid().unwrap(), child.id());
        assert!(pidfd.try_wait().unwrap().is_none());
        pidfd.signal(Signal::KILL).unwrap();
        assert_eq!(pidfd.wait().unwrap().status.signal(), Some(9));
        assert_eq!(pidfd.signal(Signal::TERM).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
