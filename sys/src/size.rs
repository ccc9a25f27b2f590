use crate::{Error, ErrorKind, Failure};
use std::fmt;
use std::str::FromStr;

/// A number of bytes. There is no `From<u64>`: a bare number never says its unit.
///
/// ```
/// use ireko_sys::Size;
/// assert_eq!(Size::mib(64), "64MiB".parse()?);
/// assert_eq!(Size::mib(64).to_string(), "64 MiB");
/// # Ok::<(), ireko_sys::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// `n` bytes.
    #[must_use]
    pub const fn bytes(n: u64) -> Self {
        Self(n)
    }

    /// `n` × 1,024 bytes; stops at the largest value there is.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 10))
    }

    /// `n` × 1,024 KiB; stops at the largest value there is.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// `n` × 1,024 MiB; stops at the largest value there is.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

fn invalid(text: &str) -> Error {
    Failure::ours(
        ErrorKind::Invalid,
        format!("read the size {text:?}"),
        "not a number with an optional unit such as 64MiB, 64Mi or 64M",
    )
    .into()
}

/// `65536`, `64KiB`, `64Mi`, `64M`, `1.5Gi`: Kubernetes quantities and their
/// long spellings. Powers of two only with an `i`.
impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let unit = unit.trim_start();
        let unit = unit.strip_suffix('B').unwrap_or(unit);
        let factor: u64 = match unit {
            "" => 1,
            "k" | "K" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return Err(invalid(text)),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty()
            || fraction.contains('.')
            || (number.contains('.') && fraction.is_empty())
        {
            return Err(invalid(text));
        }
        let whole: u64 = whole.parse().map_err(|_| invalid(text))?;
        // Nine places: more than a byte's worth of any unit below TiB.
        let fraction = &fraction[..fraction.len().min(9)];
        let parts = 10u128.pow(fraction.len() as u32);
        let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().unwrap_or(0) };
        let bytes = u128::from(whole) * u128::from(factor) + part * u128::from(factor) / parts;
        u64::try_from(bytes).map(Self).map_err(|_| invalid(text))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        for (unit, name) in units {
            if self.0 >= unit {
                return if self.0.is_multiple_of(unit) {
                    write!(f, "{} {name}", self.0 / unit)
                } else {
                    write!(f, "{:.1} {name}", self.0 as f64 / unit as f64)
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn reads_quantities() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("64M", 64_000_000),
            ("64MB", 64_000_000),
            ("1.5Gi", 3 << 29),
            ("0.5Ki", 512),
            ("0", 0),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().as_bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "M", "-1", "1.", ".5", "1.2.3", "64X", "99999999Ti", "1e3", "0x10"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn displays_in_the_largest_unit() {
        assert_eq!(Size::bytes(512).to_string(), "512 B");
        assert_eq!(Size::mib(64).to_string(), "64 MiB");
        assert_eq!(Size::bytes(1_600_000).to_string(), "1.5 MiB");
    }
}
