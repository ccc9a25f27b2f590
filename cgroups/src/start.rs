//! What a program that starts others in groups asks of them.

use crate::encode::Version;
use crate::{Cgroup, Controllers, Limits, Result, Size, Stats, Template, Value, fs, text};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

impl Limits {
    /// Those whose v2 name (`memory.max`, or a raw file's) passes.
    pub fn filtered(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let mut some = Self::new();
        for item in self.items() {
            if wanted(item.name) {
                some = some.with(&item);
            }
        }
        for (file, value) in self.raw_files() {
            if wanted(file) {
                some = some.raw(file, value);
            }
        }
        some
    }
}

impl Template {
    /// How many [`join_fds`](Cgroup::join_fds) its groups will have.
    #[must_use]
    pub fn joins(&self) -> usize {
        let v1 =
            |i: &&usize| self.parent.0.places.get(**i).is_some_and(|p| p.version == Version::V1);
        self.slots.iter().filter(v1).count()
    }
}

impl Cgroup {
    /// Whether the process of this number is in every directory of the group.
    ///
    /// # Errors
    /// `Kernel` or `NotFound` where the group is gone.
    pub fn contains(&self, pid: u32) -> Result<bool> {
        for dir in self.dirs() {
            let inside = fs::read(dir, c"cgroup.procs").map_err(|e| self.failed("read", e))?;
            if !text::pids(&inside).any(|other| other == pid) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What was used in all, for one who is about to remove the group: peaks and counts,
    /// and no levels, in as few reads as that takes.
    #[must_use]
    pub fn totals(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some((place, dir)) = self.held(Controllers::MEMORY) {
            let peak = match place.version {
                Version::V2 => c"memory.peak",
                Version::V1 => c"memory.max_usage_in_bytes",
            };
            stats.memory_peak = number(dir, peak).map(Size::bytes);
            stats.oom_kills = self.oom_kills();
        }
        if let Some((_, dir)) = self.held(Controllers::PIDS) {
            stats.pids_peak = number(dir, c"pids.peak");
            let events = fs::read(dir, c"pids.events").ok();
            stats.pids_refused = events.and_then(|events| text::keyed(&events, "max"));
        }
        self.read_throttled(&mut stats);
        self.read_cpu(&mut stats);
        stats
    }

    /// Cpu time of everything inside so far; `None` where it is not counted: on v1
    /// without [`Controllers::CPUACCT`].
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let mut stats = Stats::default();
        self.read_cpu(&mut stats);
        stats.cpu()
    }

    /// Whether this controller counts here.
    #[must_use]
    pub fn has(&self, controller: Controllers) -> bool {
        self.held(controller).is_some()
    }
}

fn number(dir: BorrowedFd<'_>, file: &CStr) -> Option<u64> {
    text::number(&fs::read(dir, file).ok()?)
}

/// As one would write it: `67108864`, `50000 of 100000 us`, `1024`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{size}"),
            Self::Count(n) => write!(f, "{n}"),
            Self::Cpu(cpu) => write!(f, "{cpu}"),
            Self::Weight(weight) => write!(f, "{weight}"),
            Self::Switch(on) => f.write_str(if *on { "on" } else { "off" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Size};

    #[test]
    fn limits_are_taken_apart_by_name() {
        let all = Limits::new().memory_max(Size::mib(8)).pids_max(5).raw("hugetlb.2MB.max", "0");
        let some = all.filtered(|name| name.starts_with("memory"));
        assert_eq!(some, Limits::new().memory_max(Size::mib(8)));
        assert_eq!(all.filtered(|_| true), all);
        assert!(all.filtered(|_| false).is_empty());
    }
}
