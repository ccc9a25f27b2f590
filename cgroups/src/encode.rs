//! A limit as the files and bytes of one version, and back.

use crate::limits::Item;
use crate::{Cpu, Limits, Size, Value, Weight, text};

/// Which of the two interfaces a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A control file and what to write into it.
pub(crate) type Setting = (&'static str, String);

/// Why a limit cannot be had, and what would help.
pub(crate) type Refusal = (&'static str, Option<&'static str>);

/// The files of a limit, in the order of writing. `Err` where the version has none.
pub(crate) fn encode(item: &Item, version: Version, all: &Limits) -> Result<Vec<Setting>, Refusal> {
    let one = |file, value: String| Ok(vec![(file, value)]);
    let (name, value) = (item.name, item.value);
    match (version, value) {
        (Version::V2, Value::Size(size)) => one(name, size.as_bytes().to_string()),
        (Version::V2, Value::Switch(on)) => one(name, u8::from(on).to_string()),
        (Version::V2, Value::Weight(weight)) => one(name, weight.get().to_string()),
        (Version::V2, Value::Cpu(cpu)) => {
            let (quota, period) = cpu.micros();
            one(name, format!("{quota} {period}"))
        }
        (_, Value::Count(n)) => one(name, n.to_string()),
        (Version::V1, Value::Weight(weight)) => one("cpu.shares", weight.shares().to_string()),
        (Version::V1, Value::Cpu(cpu)) => {
            let (quota, period) = cpu.micros();
            Ok(vec![
                ("cpu.cfs_period_us", period.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ])
        }
        (Version::V1, Value::Size(size)) if name == "memory.max" => {
            one("memory.limit_in_bytes", size.as_bytes().to_string())
        }
        (Version::V1, Value::Size(swap)) if name == "memory.swap.max" => {
            let memory = all.memory().ok_or((
                "cgroup v1 limits memory and swap together",
                Some("limit the memory as well"),
            ))?;
            let sum = memory.as_bytes().saturating_add(swap.as_bytes());
            one("memory.memsw.limit_in_bytes", sum.to_string())
        }
        // What v1 does anyway.
        (Version::V1, Value::Switch(false)) => Ok(Vec::new()),
        (Version::V1, _) => {
            Err(("cgroup v1 has no such limit", Some("boot the host with cgroup v2 alone")))
        }
    }
}

/// What is in force, read from files by name. `None`: no limit.
pub(crate) fn decode(
    item: &Item,
    version: Version,
    read: impl Fn(&str) -> Option<String>,
) -> Option<Value> {
    let number = |file: &str| text::number(&read(file)?);
    let size = |bytes: Option<u64>| bytes.filter(|n| *n < V1_UNLIMITED).map(Size::bytes);
    match (version, item.value) {
        (Version::V2, Value::Size(_)) => number(item.name).map(|n| Value::Size(Size::bytes(n))),
        (Version::V2, Value::Switch(_)) => number(item.name).map(|n| Value::Switch(n != 0)),
        (Version::V2, Value::Weight(_)) => {
            Some(Value::Weight(Weight::try_from(u32::try_from(number(item.name)?).ok()?).ok()?))
        }
        (Version::V2, Value::Cpu(_)) => text::cpu_max(&read(item.name)?).map(cpu),
        (_, Value::Count(_)) => number(item.name).map(Value::Count),
        (Version::V1, Value::Weight(_)) => {
            number("cpu.shares").map(|n| Value::Weight(Weight::of_shares(n)))
        }
        (Version::V1, Value::Cpu(_)) => {
            // -1 is no quota, and no number here.
            Some(cpu((number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)))
        }
        (Version::V1, Value::Size(_)) if item.name == "memory.max" => {
            size(number("memory.limit_in_bytes")).map(Value::Size)
        }
        (Version::V1, Value::Size(_)) if item.name == "memory.swap.max" => {
            let sum = size(number("memory.memsw.limit_in_bytes"))?;
            let memory = number("memory.limit_in_bytes")?;
            Some(Value::Size(Size::bytes(sum.as_bytes().saturating_sub(memory))))
        }
        (Version::V1, Value::Switch(_)) => Some(Value::Switch(false)),
        (Version::V1, Value::Size(_)) => None,
    }
}

/// v1 says "no limit" as the largest number of bytes in whole pages.
pub(crate) const V1_UNLIMITED: u64 = 1 << 62;

fn cpu((quota, period): (u64, u64)) -> Value {
    let micros = std::time::Duration::from_micros;
    Value::Cpu(Cpu::quota(micros(quota), micros(period)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(limits: &Limits, version: Version) -> Vec<(String, String)> {
        let items = limits.items();
        let settings = items.iter().flat_map(|i| encode(i, version, limits).unwrap());
        settings.map(|(file, value)| (file.to_owned(), value)).collect()
    }

    fn limits() -> Limits {
        Limits::new()
            .memory_max(Size::mib(64))
            .swap_max(Size::mib(16))
            .cpu_max(Cpu::cores(0.5))
            .cpu_weight(Weight::DEFAULT)
            .pids_max(7)
            .oom_group(false)
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |line: &str| line.split_once('=').map(|(f, v)| (f.to_owned(), v.to_owned()));
        text.lines().filter_map(pair).collect()
    }

    #[test]
    fn v2_files() {
        let wanted = "memory.max=67108864\nmemory.swap.max=16777216\nmemory.oom.group=0\n\
            cpu.weight=100\ncpu.max=50000 100000\npids.max=7";
        assert_eq!(all(&limits(), Version::V2), pairs(wanted));
        let more = Limits::new().memory_high(Size::mib(2)).memory_low(Size::mib(1));
        let wanted = "memory.low=1048576\nmemory.high=2097152";
        assert_eq!(all(&more, Version::V2), pairs(wanted));
    }

    #[test]
    fn v1_files_where_swap_is_the_sum() {
        let wanted = "memory.limit_in_bytes=67108864\nmemory.memsw.limit_in_bytes=83886080\n\
            cpu.shares=1024\ncpu.cfs_period_us=100000\ncpu.cfs_quota_us=50000\npids.max=7";
        assert_eq!(all(&limits(), Version::V1), pairs(wanted));
    }

    #[test]
    fn what_v1_does_not_have() {
        for limits in [
            Limits::new().memory_high(Size::mib(2)),
            Limits::new().memory_low(Size::mib(2)),
            Limits::new().oom_group(true),
            Limits::new().swap_max(Size::bytes(0)),
        ] {
            assert!(encode(&limits.items()[0], Version::V1, &limits).is_err(), "{limits:?}");
        }
    }

    #[test]
    fn read_back_is_what_was_written() {
        for version in [Version::V1, Version::V2] {
            let limits = limits();
            let files = all(&limits, version);
            let read = |file: &str| {
                files.iter().find(|(f, _)| f == file).map(|(_, value)| format!("{value}\n"))
            };
            for item in limits.items() {
                assert_eq!(decode(&item, version, read), Some(item.value), "{version:?} {item:?}");
            }
        }
    }

    #[test]
    fn no_limit_is_none() {
        let files = |file: &str| {
            let text = match file {
                "memory.limit_in_bytes" | "memory.memsw.limit_in_bytes" => "9223372036854771712\n",
                "cpu.cfs_quota_us" => "-1\n",
                "cpu.cfs_period_us" => "100000\n",
                "cpu.max" => "max 100000\n",
                _ => "max\n",
            };
            Some(text.to_owned())
        };
        let limits = limits();
        let items = limits.items();
        let limited =
            |i: &&Item| matches!(i.value, Value::Size(_) | Value::Cpu(_) | Value::Count(_));
        for version in [Version::V1, Version::V2] {
            for item in items.iter().filter(limited) {
                assert_eq!(decode(item, version, files), None, "{version:?} {item:?}");
            }
        }
    }
}
