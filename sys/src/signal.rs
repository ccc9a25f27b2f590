use crate::{Error, ErrorKind, Failure};
use std::fmt;
use std::str::FromStr;

/// A signal that can be sent or that ended a process. Displays as `SIGTERM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Interrupt, as Ctrl-C sends it.
    pub const INT: Self = Self(libc::SIGINT);
    /// Quit.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// The end that nothing can refuse.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// For the program's own use.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// For the program's own use.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// A polite request to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// A forbidden system call.
    pub const SYS: Self = Self(libc::SIGSYS);

    /// The number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

fn invalid(text: impl fmt::Display) -> Error {
    Failure::ours(
        ErrorKind::Invalid,
        format!("read the signal {text}"),
        "not a name such as TERM or SIGTERM, nor a number from 1 to 64",
    )
    .into()
}

/// 1 to 64; anything else is `Invalid`.
impl TryFrom<i32> for Signal {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self, Error> {
        if (1..=RTMAX).contains(&number) { Ok(Self(number)) } else { Err(invalid(number)) }
    }
}

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
impl FromStr for Signal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(number) = text.parse::<i32>() {
            return Self::try_from(number);
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        let offset = |rest: &str| {
            if rest.is_empty() {
                Some(0)
            } else {
                rest.strip_prefix(['+', '-'])?.parse::<i32>().ok()
            }
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest)
                .filter(|n| !rest.starts_with('-') && *n <= RTMAX - RTMIN)
                .map(|n| RTMIN + n)
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest)
                .filter(|n| !rest.starts_with('+') && *n <= RTMAX - RTMIN)
                .map(|n| RTMAX - n)
        } else {
            nix::sys::signal::Signal::from_str(&format!("SIG{name}")).ok().map(|s| s as i32)
        };
        number.map(Self).ok_or_else(|| invalid(format_args!("{text:?}")))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            Err(_) => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal;

    #[test]
    fn reads_names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(text.parse::<Signal>().unwrap().raw(), number, "{text}");
        }
        for text in ["", "0", "65", "SIGFOO", "RTMIN-1", "RTMIN+31", "RTMIN+x", "-9"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn displays_the_name() {
        assert_eq!(Signal::SYS.to_string(), "SIGSYS");
        assert_eq!(Signal::try_from(37).unwrap().to_string(), "SIGRTMIN+3");
    }
}
