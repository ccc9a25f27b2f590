use crate::{Cap, Error, ErrorKind, Result, kernel};
use ireko_sys::Failure;
use std::fmt;
use std::str::FromStr;

/// A set of capabilities: 64 bits, as the kernel keeps it. Default: none.
///
/// Parses `CAP_CHOWN,CAP_KILL`, `all` (of the running kernel) and `none`; displays as
/// names, and as numbers those that have no name here.
///
/// ```
/// use ireko_capabilities::{Cap, CapSet};
/// const SET: CapSet = CapSet::STANDARD.with(Cap::NetBindService).without(Cap::Kill);
/// assert!(SET.contains(Cap::NetBindService) && !SET.contains(Cap::Kill));
/// assert_eq!(SET.iter().count(), 7);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct CapSet(u64);

impl CapSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// The seven of the `Standard` preset: what package managers, and servers that drop
    /// their own privileges, need inside a user namespace.
    pub const STANDARD: Self = Self::EMPTY
        .with(Cap::Chown)
        .with(Cap::DacOverride)
        .with(Cap::Fowner)
        .with(Cap::Fsetid)
        .with(Cap::Kill)
        .with(Cap::Setgid)
        .with(Cap::Setuid);

    /// Docker's fourteen: the seven and these.
    pub const COMPAT: Self = Self::STANDARD
        .with(Cap::Setpcap)
        .with(Cap::NetBindService)
        .with(Cap::NetRaw)
        .with(Cap::SysChroot)
        .with(Cap::Mknod)
        .with(Cap::AuditWrite)
        .with(Cap::Setfcap);

    /// Every one the running kernel has, those without a name here included.
    pub fn all() -> Self {
        let bits = (0..64).take_while(|cap| kernel::in_bounding_set(*cap).is_some());
        Self(bits.fold(0, |set, cap| set | 1 << cap))
    }

    /// The set of these bits, bit `n` for the capability with number `n`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// And this one.
    pub const fn with(self, cap: Cap) -> Self {
        Self(self.0 | 1 << cap.number())
    }

    /// But this one.
    pub const fn without(self, cap: Cap) -> Self {
        Self(self.0 & !(1 << cap.number()))
    }

    /// Those in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in this one and not in the other.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn contains(self, cap: Cap) -> bool {
        self.0 & (1 << cap.number()) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the other has all of them.
    #[must_use]
    pub const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Those that have a name, by number.
    pub fn iter(self) -> impl Iterator<Item = Cap> {
        Cap::ALL.iter().copied().filter(move |cap| self.contains(*cap))
    }
}

impl FromIterator<Cap> for CapSet {
    fn from_iter<I: IntoIterator<Item = Cap>>(caps: I) -> Self {
        caps.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl From<Cap> for CapSet {
    fn from(cap: Cap) -> Self {
        Self::EMPTY.with(cap)
    }
}

/// Names with commas between, `all`, or `none`. A capability without a name here is
/// written as its number.
impl FromStr for CapSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            word if word.eq_ignore_ascii_case("none") => return Ok(Self::EMPTY),
            word if word.eq_ignore_ascii_case("all") => return Ok(Self::all()),
            _ => {}
        }
        text.split(',').try_fold(Self::EMPTY, |set, name| {
            let digits = name.trim();
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Ok(set.with(name.parse()?));
            }
            match digits.parse::<u8>() {
                Ok(number @ 0..64) => Ok(Self(set.0 | 1 << number)),
                _ => Err(Failure::ours(
                    ErrorKind::Invalid,
                    format!("read the capability {name:?}"),
                    "numbers go from 0 to 63",
                )
                .into()),
            }
        })
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut comma = "";
        for number in (0..64).filter(|number| self.0 & 1 << number != 0) {
            match Cap::from_number(number) {
                Some(cap) => write!(f, "{comma}{cap}")?,
                None => write!(f, "{comma}{number}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_bits_that_proc_shows() {
        // Docker's default, as CapBnd of a container shows it.
        assert_eq!(CapSet::COMPAT.bits(), 0x0000_0000_a804_25fb);
        assert_eq!(CapSet::STANDARD.bits(), 0x0000_0000_0000_00fb);
        assert!(CapSet::STANDARD.is_subset_of(CapSet::COMPAT));
        assert_eq!(CapSet::default(), CapSet::EMPTY);
    }

    #[test]
    fn reads_lists_and_words() {
        let two = CapSet::EMPTY.with(Cap::Chown).with(Cap::Kill);
        for text in ["CAP_CHOWN,CAP_KILL", "kill, chown", "0,5", "chown,chown,5"] {
            assert_eq!(text.parse::<CapSet>().unwrap(), two, "{text}");
        }
        assert_eq!("none".parse::<CapSet>().unwrap(), CapSet::EMPTY);
        assert_eq!("ALL".parse::<CapSet>().unwrap(), CapSet::all());
        for text in ["", ",", "chown,", "chown,all", "64", "-1", "300", "+5", "chown kill"] {
            assert_eq!(text.parse::<CapSet>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }

    #[test]
    fn displays_what_it_reads() {
        for bits in [0, 1, 0xa804_25fb, 1 << 40, 1 << 41 | 1, u64::MAX] {
            let set = CapSet::from_bits(bits);
            assert_eq!(set.to_string().parse::<CapSet>().unwrap(), set);
        }
        assert_eq!(CapSet::from_bits(1 << 41 | 1).to_string(), "CAP_CHOWN,41");
        assert_eq!(CapSet::EMPTY.to_string(), "none");
    }

    #[test]
    fn all_is_what_the_kernel_says() {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        let last: u32 = last.trim().parse().unwrap();
        assert_eq!(CapSet::all().bits(), u64::MAX >> (63 - last));
    }

    #[test]
    fn set_arithmetic() {
        let (a, b) = (CapSet::from_bits(0b0110), CapSet::from_bits(0b0011));
        assert_eq!(a.union(b).bits(), 0b0111);
        assert_eq!(a.intersection(b).bits(), 0b0010);
        assert_eq!(a.difference(b).bits(), 0b0100);
        assert_eq!(a.iter().collect::<Vec<_>>(), [Cap::DacOverride, Cap::DacReadSearch]);
        assert_eq!(a.iter().collect::<CapSet>(), a);
        assert!(!a.is_subset_of(b) && a.intersection(b).is_subset_of(b));
    }
}
