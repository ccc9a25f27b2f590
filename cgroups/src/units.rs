use crate::{Error, ErrorKind};
use ireko_sys::Failure;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

fn invalid(operation: String, reason: &'static str) -> Error {
    Failure::ours(ErrorKind::Invalid, operation, reason).into()
}

/// How much cpu time in how much time. Displays as `0.5 cpu`.
///
/// ```
/// use ireko_cgroups::Cpu;
/// assert_eq!("500m".parse::<Cpu>()?, Cpu::cores(0.5));
/// # Ok::<(), ireko_cgroups::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    quota: Duration,
    period: Duration,
}

const PERIOD: Duration = Duration::from_millis(100);
const RANGE: &str = "quota from 1 ms (0.01 of a core), period from 1 ms to 1 s";

impl Cpu {
    /// `0.5` is half of one core, `2.0` two whole ones, over 100 ms. Must be
    /// at least 0.01; told when used.
    #[must_use]
    pub fn cores(n: f64) -> Self {
        // A float that is negative or no number casts to zero, which is refused later.
        let micros = (n * PERIOD.as_micros() as f64).round() as u64;
        Self { quota: Duration::from_micros(micros), period: PERIOD }
    }

    /// `quota` (from 1 ms) in each `period` (1 ms to 1 s); told when used.
    #[must_use]
    pub const fn quota(quota: Duration, period: Duration) -> Self {
        Self { quota, period }
    }

    /// Quota and period in microseconds.
    pub(crate) fn micros(self) -> (u64, u64) {
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        (micros(self.quota), micros(self.period))
    }

    pub(crate) fn check(self) -> Result<Self, Error> {
        let (quota, period) = self.micros();
        // The kernel's own bounds: kernel/sched/core.c, min_bw_quota and max_bw_quota.
        if quota >= 1000 && (1000..=1_000_000).contains(&period) && quota < 1 << 43 {
            Ok(self)
        } else {
            Err(invalid(format!("limit the cpu to {quota} µs in {period} µs"), RANGE))
        }
    }
}

/// Kubernetes quantities: `500m`, `1.5`, `2`.
impl FromStr for Cpu {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |why| invalid(format!("read the cpu quantity {text:?}"), why);
        let (digits, per) = match text.strip_suffix('m') {
            Some(milli) => (milli, 1000.0),
            None => (text, 1.0),
        };
        let plain = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.ends_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|c| c.is_ascii_digit() || c == b'.');
        let number = plain.then(|| digits.parse::<f64>().ok()).flatten();
        let number = number.ok_or_else(|| refused("not a number of cores such as 500m or 1.5"))?;
        Self::cores(number / per).check().map_err(|_| refused(RANGE))
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (quota, period) = self.micros();
        write!(f, "{} cpu", (quota as f64 / period.max(1) as f64 * 1000.0).round() / 1000.0)
    }
}

/// A share relative to the sibling groups. 1 to 10,000; the kernel's default is 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u16);

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Weight {
    /// The kernel's default, 100.
    pub const DEFAULT: Self = Self(100);

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What an OCI configuration's `cpu.shares` (2 to 262,144) is as a weight: 2 is 1,
    /// 1,024 is 100, 262,144 is 10,000, by the curve that
    /// [runc and crun](https://github.com/opencontainers/runtime-spec/pull/1285) share.
    #[must_use]
    pub fn from_shares(shares: u64) -> Self {
        let log = (shares.clamp(2, 262_144) as f64).log2();
        let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
        // A hair less before rounding up: the fixed points must not be lost to the float.
        Self((10f64.powf(exponent) - 1e-9).ceil().clamp(1.0, 10_000.0) as u16)
    }

    /// The `cpu.shares` at which v1 gives the same weight to the scheduler: what the
    /// kernel itself makes of `cpu.weight` (`sched_weight_from_cgroup`).
    pub(crate) const fn shares(self) -> u64 {
        (self.0 as u64 * 1024 + 50) / 100
    }

    /// The weight of which these shares were made.
    pub(crate) fn of_shares(shares: u64) -> Self {
        Self((shares.min(1 << 20) * 100 + 512).div_euclid(1024).clamp(1, 10_000) as u16)
    }
}

/// The error names the range.
impl TryFrom<u32> for Weight {
    type Error = Error;

    fn try_from(weight: u32) -> Result<Self, Error> {
        match u16::try_from(weight) {
            Ok(weight @ 1..=10_000) => Ok(Self(weight)),
            _ => Err(invalid(format!("use the weight {weight}"), "it is not from 1 to 10,000")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kubernetes_quantities() {
        for (text, quota) in [("500m", 50_000), ("1.5", 150_000), ("2", 200_000), ("10m", 1000)] {
            assert_eq!(text.parse::<Cpu>().unwrap().micros(), (quota, 100_000), "{text}");
        }
        for text in ["", "m", "-1", "+1", "1e3", "inf", "NaN", "0", "5m", "1.", ".5", "1.2.3", "1k"]
        {
            assert_eq!(text.parse::<Cpu>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
        assert_eq!(Cpu::cores(1.5).to_string(), "1.5 cpu");
    }

    #[test]
    fn quotas_that_no_kernel_takes() {
        let ms = Duration::from_millis;
        assert!(Cpu::quota(ms(1), ms(1000)).check().is_ok());
        for cpu in [
            Cpu::cores(f64::NAN),
            Cpu::cores(-1.0),
            Cpu::cores(f64::INFINITY),
            Cpu::quota(Duration::from_micros(999), ms(100)),
            Cpu::quota(ms(1), ms(1001)),
            Cpu::quota(ms(1), Duration::ZERO),
        ] {
            assert_eq!(cpu.check().unwrap_err().kind(), ErrorKind::Invalid, "{cpu:?}");
        }
    }

    #[test]
    fn weight_to_shares_and_back() {
        for (weight, shares) in [(1, 10), (100, 1024), (200, 2048), (10_000, 102_400)] {
            assert_eq!(Weight(weight).shares(), shares, "{weight}");
        }
        for weight in 1..=10_000 {
            assert_eq!(Weight::of_shares(Weight(weight).shares()), Weight(weight));
        }
    }

    #[test]
    fn shares_of_an_oci_configuration() {
        for (shares, weight) in
            [(0, 1), (2, 1), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)]
        {
            assert_eq!(Weight::from_shares(shares).get(), weight, "{shares}");
        }
    }

    #[test]
    fn weights_have_a_range() {
        assert_eq!(Weight::try_from(100).unwrap(), Weight::DEFAULT);
        for weight in [0, 10_001, 65_537] {
            assert_eq!(Weight::try_from(weight).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
