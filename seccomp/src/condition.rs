use std::fmt;
use std::ops::Not;

/// An argument of a system call, from 0 to 5: `arg(0).equals_int(2)`.
///
/// The kernel ignores the upper half of an argument that is an `int` or an `unsigned
/// int`: a condition on all 64 bits of one is passed by setting a bit there. Such
/// arguments (families, requests, flags of most calls) take the methods with `_int`.
///
/// ```
/// use ireko_seccomp::{Action, Profile, arg};
/// let profile = Profile::standard()
///     .rule("socket", [arg(0).equals_int(16), arg(2).equals_int(12)], Action::Allow)
///     .rule("ioctl", [!arg(1).at_most_int(0xffff)], Action::KillProcess);
/// # let _ = profile;
/// ```
#[must_use]
pub const fn arg(index: u8) -> Arg {
    Arg(index)
}

/// See [`arg`].
#[derive(Clone, Copy, Debug)]
pub struct Arg(u8);

impl Arg {
    /// Equal, all 64 bits: for pointers, sizes, offsets.
    pub const fn equals(self, value: u64) -> Condition {
        self.masked(u64::MAX, value)
    }

    /// Equal as an `int`, the upper half ignored as the kernel ignores it.
    pub const fn equals_int(self, value: u32) -> Condition {
        self.masked_int(u32::MAX, value)
    }

    /// Equal in the bits of `mask`: for flags.
    pub const fn masked(self, mask: u64, value: u64) -> Condition {
        self.condition(true, Test::Masked { mask, value })
    }

    /// Equal in the bits of `mask`, the upper half ignored.
    pub const fn masked_int(self, mask: u32, value: u32) -> Condition {
        self.condition(false, Test::Masked { mask: mask as u64, value: value as u64 })
    }

    /// At most this, unsigned.
    pub const fn at_most(self, value: u64) -> Condition {
        self.condition(true, Test::AtMost(value))
    }

    /// At most this, unsigned, the upper half ignored.
    pub const fn at_most_int(self, value: u32) -> Condition {
        self.condition(false, Test::AtMost(value as u64))
    }

    const fn condition(self, wide: bool, test: Test) -> Condition {
        Condition { arg: self.0, wide, test, holds: true }
    }
}

/// A condition on one argument, made by [`arg`]. `!` makes the opposite of it.
///
/// Displays as in the text of a profile: `int0 == 2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Condition {
    pub(crate) arg: u8,
    /// All 64 bits, or the lower half.
    pub(crate) wide: bool,
    pub(crate) test: Test,
    /// False for the opposite.
    pub(crate) holds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Masked { mask: u64, value: u64 },
    AtMost(u64),
}

impl Condition {
    /// Why it cannot be meant, if so.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        match self.test {
            _ if self.arg > 5 => Some("arguments go from 0 to 5"),
            Test::Masked { mask, value } if value & !mask != 0 => {
                Some("the value has bits that the mask has not")
            }
            _ => None,
        }
    }

    pub(crate) fn holds_for(&self, args: [u64; 6]) -> bool {
        let given = args.get(usize::from(self.arg)).copied().unwrap_or(0);
        let given = if self.wide { given } else { u64::from(given as u32) };
        self.holds
            == match self.test {
                Test::Masked { mask, value } => given & mask == value,
                Test::AtMost(value) => given <= value,
            }
    }
}

impl Not for Condition {
    type Output = Self;

    fn not(self) -> Self {
        Self { holds: !self.holds, ..self }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = if self.wide { u64::MAX } else { u64::from(u32::MAX) };
        write!(f, "{}{} ", if self.wide { "arg" } else { "int" }, self.arg)?;
        let (operator, value) = match (self.test, self.holds) {
            (Test::AtMost(value), true) => ("<=", value),
            (Test::AtMost(value), false) => (">", value),
            (Test::Masked { mask, value }, holds) => {
                if mask != full {
                    write!(f, "& {mask:#x} ")?;
                }
                (if holds { "==" } else { "!=" }, value)
            }
        };
        if value < 10 {
            write!(f, "{operator} {value}")
        } else {
            write!(f, "{operator} {value:#x}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int_conditions_ignore_the_upper_half() {
        let set = |value| [0, value, 0, 0, 0, 0];
        assert!(arg(1).equals_int(0x5412).holds_for(set(0x1_0000_5412)));
        assert!(!arg(1).equals(0x5412).holds_for(set(0x1_0000_5412)));
        assert!(arg(1).at_most_int(3).holds_for(set(0xffff_ffff_0000_0003)));
        assert!(!arg(1).at_most(3).holds_for(set(0x1_0000_0003)));
        assert!(arg(1).masked_int(6, 2).holds_for(set(0xff_0000_000b)));
        assert!((!arg(1).masked(6, 2)).holds_for(set(4)));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(arg(6).equals(1).mistake(), Some("arguments go from 0 to 5"));
        assert!(arg(0).masked(1, 2).mistake().is_some());
        assert_eq!(arg(5).masked(3, 2).mistake(), None);
    }

    #[test]
    fn displays_as_text() {
        assert_eq!(arg(0).equals_int(2).to_string(), "int0 == 2");
        assert_eq!((!arg(1).equals(0x5412)).to_string(), "arg1 != 0x5412");
        assert_eq!(arg(0).masked(0x7e02_0000, 0).to_string(), "arg0 & 0x7e020000 == 0");
        assert_eq!((!arg(3).at_most_int(9)).to_string(), "int3 > 9");
    }
}
