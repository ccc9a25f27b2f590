use crate::fs::{self, Sys};
use crate::{Cgroup, Controllers, ErrorKind, Result, text};
use ireko_sys::{Errno, Failure};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

enum Freezer<'a> {
    V2(BorrowedFd<'a>),
    V1(BorrowedFd<'a>),
}

impl Freezer<'_> {
    fn set(&self, frozen: bool) -> Sys<()> {
        match (self, frozen) {
            (Self::V2(dir), true) => fs::write(*dir, c"cgroup.freeze", b"1"),
            (Self::V2(dir), false) => fs::write(*dir, c"cgroup.freeze", b"0"),
            (Self::V1(dir), true) => fs::write(*dir, c"freezer.state", b"FROZEN"),
            (Self::V1(dir), false) => fs::write(*dir, c"freezer.state", b"THAWED"),
        }
    }

    fn is_frozen(&self) -> Sys<bool> {
        Ok(match self {
            Self::V2(dir) => text::keyed(&fs::read(*dir, c"cgroup.events")?, "frozen") == Some(1),
            Self::V1(dir) => fs::read(*dir, c"freezer.state")?.trim() == "FROZEN",
        })
    }
}

impl Cgroup {
    /// Stops everything inside and below, and returns when it has stopped. On v1 it
    /// needs the freezer or a v2 directory: [`Template::also`](crate::Template::also).
    ///
    /// # Errors
    /// `TimedOut` naming a process of the group, and everything goes on again;
    /// `Unsupported` on v1 without one of those, and before Linux 5.2.
    #[doc(alias = "cgroup.freeze")]
    #[doc(alias = "freezer.state")]
    pub fn freeze(&self, within: Duration) -> Result<()> {
        let freezer = self.freezer()?;
        let deadline = Instant::now() + within;
        let failed = |errno| self.failed("freeze", errno);
        freezer.set(true).map_err(failed)?;
        let mut pause = Duration::from_micros(50);
        while !freezer.is_frozen().map_err(failed)? {
            if Instant::now() > deadline {
                let _ = freezer.set(false);
                let who = self.processes();
                let who = who.first().map_or("a process".to_owned(), |p| format!("process {p}"));
                let why = format!("{who} or another has not stopped within {within:?}");
                return Err(Failure::ours(ErrorKind::TimedOut, "freeze a group", why).into());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
            // On v1 who forked while it froze is told again.
            if let Freezer::V1(_) = freezer {
                freezer.set(true).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// `Unsupported`, as for [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<()> {
        self.freezer()?.set(false).map_err(|errno| self.failed("thaw", errno).into())
    }

    fn freezer(&self) -> Result<Freezer<'_>> {
        if let Some(dir) = self.dir().filter(|dir| fs::exists(*dir, c"cgroup.freeze")) {
            return Ok(Freezer::V2(dir));
        }
        match self.held(Controllers::FREEZER) {
            Some((_, dir)) if fs::exists(dir, c"freezer.state") => Ok(Freezer::V1(dir)),
            _ => Err(self
                .failed("freeze", Errno::from_raw(libc::EOPNOTSUPP))
                .remedy("make the group with Template::also(Controllers::FREEZER)")
                .into()),
        }
    }
}
