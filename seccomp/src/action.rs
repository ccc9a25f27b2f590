use crate::{Errno, Error, ErrorKind};
use ireko_sys::Failure;
use std::fmt;
use std::str::FromStr;

/// What happens to a system call.
///
/// Displays as in the text of a profile: `allow`, `EPERM`, `kill-process`. See
/// [`seccomp(2)`](https://man7.org/linux/man-pages/man2/seccomp.2.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// It is done.
    #[doc(alias = "SECCOMP_RET_ALLOW")]
    Allow,
    /// It fails with this, and nothing is done. 0 pretends that it succeeded.
    #[doc(alias = "SECCOMP_RET_ERRNO")]
    Errno(Errno),
    /// The whole process ends by SIGSYS. Linux 4.14.
    #[doc(alias = "SECCOMP_RET_KILL_PROCESS")]
    KillProcess,
    /// The thread ends.
    #[doc(alias = "SECCOMP_RET_KILL_THREAD")]
    KillThread,
    /// SIGSYS that the program may catch.
    #[doc(alias = "SECCOMP_RET_TRAP")]
    Trap,
    /// It is done, and the kernel writes it down. Linux 4.14.
    #[doc(alias = "SECCOMP_RET_LOG")]
    Log,
    /// Who holds the listener of the filter decides; without one it fails with
    /// `ENOSYS`. Linux 5.0.
    #[doc(alias = "SECCOMP_RET_USER_NOTIF")]
    Notify,
    /// A tracer decides, and is told this number; without one it fails with `ENOSYS`.
    #[doc(alias = "SECCOMP_RET_TRACE")]
    Trace(u16),
}

/// The kernel keeps smaller numbers only.
pub(crate) const MAX_ERRNO: i32 = 4095;

impl Action {
    /// What a filter returns for it.
    pub(crate) fn raw(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | errno.raw().clamp(0, MAX_ERRNO) as u32,
            Self::Notify => 0x7fc0_0000,
            Self::Trace(data) => 0x7ff0_0000 | u32::from(data),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// What the kernel makes of what a filter returns.
    pub(crate) fn of_raw(value: u32) -> Self {
        let data = value as u16;
        match value & 0xffff_0000 {
            0 => Self::KillThread,
            0x0003_0000 => Self::Trap,
            0x0005_0000 => Self::Errno(Errno::from_raw(i32::from(data).min(MAX_ERRNO))),
            0x7fc0_0000 => Self::Notify,
            0x7ff0_0000 => Self::Trace(data),
            0x7ffc_0000 => Self::Log,
            0x7fff_0000 => Self::Allow,
            // An action that the kernel does not know ends the process.
            _ => Self::KillProcess,
        }
    }

    /// The kernel's order of filters stacked on one another: the least wins.
    pub(crate) fn rank(self) -> i32 {
        (self.raw() & 0xffff_0000) as i32
    }

    /// The stricter of two; of two of a kind, the first.
    pub(crate) fn stricter(self, other: Self) -> Self {
        if self.is_stricter_than(other) || !other.is_stricter_than(self) { self } else { other }
    }

    pub(crate) fn is_stricter_than(self, other: Self) -> bool {
        self.rank() < other.rank()
    }

    /// Whether the call may be done by it, as far as this filter goes.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::Errno(_) | Self::KillProcess | Self::KillThread | Self::Trap)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Errno(errno) => f.write_str(&errno.name()),
            Self::KillProcess => f.write_str("kill-process"),
            Self::KillThread => f.write_str("kill-thread"),
            Self::Trap => f.write_str("trap"),
            Self::Log => f.write_str("log"),
            Self::Notify => f.write_str("notify"),
            Self::Trace(data) => write!(f, "trace {data}"),
        }
    }
}

/// What [`Display`](fmt::Display) writes.
impl FromStr for Action {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Failure::ours(
                ErrorKind::Invalid,
                format!("read the action {text:?}"),
                "not allow, an error such as EPERM, kill-process, kill-thread, trap, log, notify \
                 or trace with a number",
            )
        };
        Ok(match text {
            "allow" => Self::Allow,
            "kill-process" => Self::KillProcess,
            "kill-thread" => Self::KillThread,
            "trap" => Self::Trap,
            "log" => Self::Log,
            "notify" => Self::Notify,
            _ => {
                if let Some(data) = text.strip_prefix("trace ") {
                    return Ok(Self::Trace(data.trim().parse().map_err(|_| invalid())?));
                }
                let known = |number: &i32| Errno::from_raw(*number).name() == text;
                Self::Errno(Errno::from_raw((0..=MAX_ERRNO).find(known).ok_or_else(invalid)?))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Action; 8] = [
        Action::KillProcess,
        Action::KillThread,
        Action::Trap,
        Action::Errno(Errno::EPERM),
        Action::Notify,
        Action::Trace(7),
        Action::Log,
        Action::Allow,
    ];

    #[test]
    fn the_order_is_the_kernels() {
        for pair in ALL.windows(2) {
            assert!(pair[0].is_stricter_than(pair[1]), "{pair:?}");
            assert_eq!(pair[1].stricter(pair[0]), pair[0]);
        }
        let (a, b) = (Action::Errno(Errno::EPERM), Action::Errno(Errno::ENOSYS));
        assert_eq!((a.stricter(b), b.stricter(a)), (a, b));
    }

    #[test]
    fn values_and_words_come_back() {
        for action in ALL.into_iter().chain([Action::Errno(Errno::from_raw(0))]) {
            assert_eq!(Action::of_raw(action.raw()), action);
            assert_eq!(action.to_string().parse::<Action>().unwrap(), action);
        }
        assert_eq!(Action::of_raw(0x1234_0000), Action::KillProcess);
        assert_eq!(Action::of_raw(0x0005_ffff), Action::Errno(Errno::from_raw(4095)));
        assert_eq!("ENOSYS".parse::<Action>().unwrap(), Action::Errno(Errno::ENOSYS));
        for text in ["", "Allow", "EFOO", "trace", "trace 70000", "errno 5000"] {
            assert!(text.parse::<Action>().is_err(), "{text}");
        }
    }
}
