use super::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The name of a container: one of its user, until it is removed. A random one
/// is never used again.
///
/// Letters, digits, `-`, `_`, `+` and `.`, first a letter or digit, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that no other container has had: random in each process, then counted.
    pub(crate) fn random() -> Self {
        static SEED: std::sync::OnceLock<(u32, u64)> = std::sync::OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let me = std::process::id();
        let seed = SEED.get_or_init(|| (me, random()));
        // A fork of this process must not go on with the same numbers.
        let seed = if seed.0 == me { seed.1 } else { seed.1 ^ random() };
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{:012x}-{n:x}", seed & 0xffff_ffff_ffff))
    }
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: eight bytes of room. It cannot fail after boot; zeros would be no harm,
    // a taken name is refused.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    u64::from_ne_bytes(bytes)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error names the first byte that will not do.
impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Err(Error::invalid(format!("use {text:?} as an id"), reason));
        let bytes = text.as_bytes();
        if bytes.len() > 64 {
            return wrong(format!("it has {} bytes, the most is 64", bytes.len()));
        }
        match bytes.first() {
            None => return wrong("it is empty".into()),
            Some(b) if !b.is_ascii_alphanumeric() => {
                return wrong("it does not begin with a letter or digit".into());
            }
            Some(_) => {}
        }
        let fine = |b: &u8| b.is_ascii_alphanumeric() || b"-_+.".contains(b);
        match bytes.iter().position(|b| !fine(b)) {
            Some(at) => wrong(format!("byte {at} ({:?}) will not do", char::from(bytes[at]))),
            None => Ok(Self(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn takes_names_and_refuses_paths() {
        for good in ["a", "web-1", "0_x+y.z", &"a".repeat(64)] {
            assert_eq!(good.parse::<Id>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-a", "a/b", "a\0", "ä", "a b", &"a".repeat(65)] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn random_ones_differ() {
        let (a, b) = (Id::random(), Id::random());
        assert_ne!(a, b);
        assert!(a.as_str().parse::<Id>().is_ok());
    }
}
