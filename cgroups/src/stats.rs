use crate::encode::Version;
use crate::{Cgroup, Controllers, Result, Size, fs, text};
use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// One reading of a group and all below it. `None`: this host, or this group, does
/// not count it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Memory in use.
    pub memory: Option<Size>,
    /// Most memory ever in use. On v2 since Linux 5.19.
    pub memory_peak: Option<Size>,
    /// Swap in use.
    pub swap: Option<Size>,
    /// Processes killed for want of memory. v1 since Linux 4.13.
    pub oom_kills: Option<u64>,
    /// Cpu time in programs.
    pub cpu_user: Option<Duration>,
    /// Cpu time in the kernel.
    pub cpu_system: Option<Duration>,
    /// Time in which it could have run but had no quota left.
    pub throttled: Option<Duration>,
    /// Processes and threads alive.
    pub pids: Option<u64>,
    /// Most processes and threads ever alive. Since Linux 6.1.
    pub pids_peak: Option<u64>,
    /// Times that a fork or a new thread was refused for the limit.
    pub pids_refused: Option<u64>,
    /// Bytes read from block devices.
    pub io_read: Option<Size>,
    /// Bytes written to block devices.
    pub io_written: Option<Size>,
}

impl Stats {
    /// Cpu time in all.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        Some(self.cpu_user? + self.cpu_system?)
    }

    /// What was used between an earlier reading and this one; levels and peaks stay as
    /// they are.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let count = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        let time = |now: Option<Duration>, then: Option<Duration>| Some(now?.saturating_sub(then?));
        let size = |now: Option<Size>, then: Option<Size>| {
            Some(Size::bytes(now?.as_bytes().saturating_sub(then?.as_bytes())))
        };
        Self {
            oom_kills: count(self.oom_kills, earlier.oom_kills),
            cpu_user: time(self.cpu_user, earlier.cpu_user),
            cpu_system: time(self.cpu_system, earlier.cpu_system),
            throttled: time(self.throttled, earlier.throttled),
            pids_refused: count(self.pids_refused, earlier.pids_refused),
            io_read: size(self.io_read, earlier.io_read),
            io_written: size(self.io_written, earlier.io_written),
            ..self.clone()
        }
    }
}

/// The files of one directory.
struct Files<'a>(BorrowedFd<'a>);

impl Files<'_> {
    fn text(&self, file: &CStr) -> Option<String> {
        fs::read(self.0, file).ok()
    }

    fn number(&self, file: &CStr) -> Option<u64> {
        text::number(&self.text(file)?)
    }

    fn size(&self, file: &CStr) -> Option<Size> {
        self.number(file).map(Size::bytes)
    }

    fn keyed(&self, file: &CStr, key: &str) -> Option<u64> {
        text::keyed(&self.text(file)?, key)
    }
}

impl Cgroup {
    /// A reading, through the directories that are held: also when somebody has
    /// removed them by name it tells nothing of another group.
    ///
    /// # Errors
    /// `Kernel` or `NotFound` where the group is gone.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        if let Some((place, dir)) = self.held(Controllers::MEMORY) {
            memory(&mut stats, &Files(dir), place.version);
            stats.oom_kills = self.oom_kills();
        }
        if let Some((_, dir)) = self.held(Controllers::PIDS) {
            let files = Files(dir);
            stats.pids = files.number(c"pids.current");
            stats.pids_peak = files.number(c"pids.peak");
            stats.pids_refused = files.keyed(c"pids.events", "max");
        }
        self.read_throttled(&mut stats);
        self.read_cpu(&mut stats);
        if let Some((place, dir)) = self.held(Controllers::IO) {
            io(&mut stats, &Files(dir), place.version);
        }
        if stats == Stats::default() {
            // Nothing is counted, or nothing is there: the second is an error.
            self.enforced()?;
        }
        Ok(stats)
    }

    pub(crate) fn read_throttled(&self, stats: &mut Stats) {
        if let Some((place, dir)) = self.held(Controllers::CPU) {
            stats.throttled = match place.version {
                Version::V2 => Files(dir).keyed(c"cpu.stat", "throttled_usec").map(micros),
                Version::V1 => {
                    Files(dir).keyed(c"cpu.stat", "throttled_time").map(Duration::from_nanos)
                }
            };
        }
    }

    pub(crate) fn read_cpu(&self, stats: &mut Stats) {
        if let Some((place, dir)) = self.held(Controllers::CPUACCT) {
            cpu(stats, &Files(dir), place.version);
        }
    }
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn memory(stats: &mut Stats, files: &Files<'_>, version: Version) {
    match version {
        Version::V2 => {
            stats.memory = files.size(c"memory.current");
            stats.memory_peak = files.size(c"memory.peak");
            stats.swap = files.size(c"memory.swap.current");
        }
        Version::V1 => {
            stats.memory = files.size(c"memory.usage_in_bytes");
            stats.memory_peak = files.size(c"memory.max_usage_in_bytes");
            stats.swap = files.keyed(c"memory.stat", "total_swap").map(Size::bytes);
        }
    }
}

fn cpu(stats: &mut Stats, files: &Files<'_>, version: Version) {
    match version {
        Version::V2 => {
            let text = files.text(c"cpu.stat").unwrap_or_default();
            stats.cpu_user = text::keyed(&text, "user_usec").map(micros);
            stats.cpu_system = text::keyed(&text, "system_usec").map(micros);
        }
        Version::V1 => {
            stats.cpu_user = files.number(c"cpuacct.usage_user").map(Duration::from_nanos);
            stats.cpu_system = files.number(c"cpuacct.usage_sys").map(Duration::from_nanos);
        }
    }
}

fn io(stats: &mut Stats, files: &Files<'_>, version: Version) {
    let size = |bytes| Some(Size::bytes(bytes));
    match version {
        Version::V2 => {
            let Some(text) = files.text(c"io.stat") else { return };
            stats.io_read = size(text::io_stat(&text, "rbytes"));
            stats.io_written = size(text::io_stat(&text, "wbytes"));
        }
        Version::V1 => {
            let file = c"blkio.throttle.io_service_bytes_recursive";
            let Some(text) = files.text(file) else { return };
            stats.io_read = size(text::blkio(&text, "Read"));
            stats.io_written = size(text::blkio(&text, "Write"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_of_counters_not_of_levels() {
        let reading = |n: u64| Stats {
            memory: Some(Size::mib(n)),
            oom_kills: Some(n),
            cpu_user: Some(Duration::from_secs(n)),
            cpu_system: Some(Duration::from_secs(1)),
            io_read: None,
            ..Stats::default()
        };
        let used = reading(5).since(&reading(2));
        assert_eq!(used.memory, Some(Size::mib(5)));
        assert_eq!(used.oom_kills, Some(3));
        assert_eq!(used.cpu(), Some(Duration::from_secs(3)));
        assert_eq!((used.io_read, used.throttled), (None, None));
    }
}
