use crate::{Controllers, Cpu, ErrorKind, Result, Size, Value, Weight};
use ireko_sys::Failure;

/// What a group may use. What is not named stays as the kernel has it: unlimited.
///
/// A plain value: nothing is looked at until it is used. See the kernel's
/// [cgroup v2](https://docs.kernel.org/admin-guide/cgroup-v2.html).
///
/// ```
/// use ireko_cgroups::{Controllers, Limits, Size};
/// let limits = Limits::new().memory_max(Size::mib(64)).pids_max(32);
/// assert_eq!(limits.controllers(), Controllers::MEMORY | Controllers::PIDS);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    memory_max: Option<Size>,
    memory_high: Option<Size>,
    memory_low: Option<Size>,
    swap_max: Option<Size>,
    oom_group: Option<bool>,
    cpu_max: Option<Cpu>,
    cpu_weight: Option<Weight>,
    pids_max: Option<u32>,
    raw: Vec<(String, String)>,
}

/// One limit under its v2 name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) name: &'static str,
    pub(crate) controller: Controllers,
    pub(crate) value: Value,
}

/// Below it not even the exec of a program succeeds, and a start would hang.
const LEAST_MEMORY: Size = Size::mib(1);
/// `PID_MAX_LIMIT`: the kernel refuses a larger number.
const MOST_PIDS: u32 = 4 << 20;

impl Limits {
    /// No limit at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory at which the kernel reclaims and then kills. At least 1 MiB, rounded
    /// down to whole pages.
    #[doc(alias = "memory.max")]
    #[doc(alias = "memory.limit_in_bytes")]
    pub fn memory_max(mut self, size: Size) -> Self {
        self.memory_max = Some(size);
        self
    }

    /// Memory above which the group is slowed and reclaimed. At least 1 MiB. v2 only.
    #[doc(alias = "memory.high")]
    pub fn memory_high(mut self, size: Size) -> Self {
        self.memory_high = Some(size);
        self
    }

    /// Memory that is kept from reclaim as long as others have any. v2 only.
    #[doc(alias = "memory.low")]
    pub fn memory_low(mut self, size: Size) -> Self {
        self.memory_low = Some(size);
        self
    }

    /// Swap alone, not memory plus swap, on v1 as well, where it needs
    /// [`memory_max`](Self::memory_max) beside it. 0 forbids it.
    #[doc(alias = "memory.swap.max")]
    #[doc(alias = "memory.memsw.limit_in_bytes")]
    pub fn swap_max(mut self, size: Size) -> Self {
        self.swap_max = Some(size);
        self
    }

    /// Kill the whole group when one of it is killed for want of memory. v2 only;
    /// Linux 4.19.
    #[doc(alias = "memory.oom.group")]
    pub fn oom_group(mut self, whole: bool) -> Self {
        self.oom_group = Some(whole);
        self
    }

    /// Cpu time per period.
    #[doc(alias = "cpu.max")]
    #[doc(alias = "cpu.cfs_quota_us")]
    pub fn cpu_max(mut self, cpu: Cpu) -> Self {
        self.cpu_max = Some(cpu);
        self
    }

    /// Share of the cpu when it is wanted by others too.
    #[doc(alias = "cpu.weight")]
    #[doc(alias = "cpu.shares")]
    pub fn cpu_weight(mut self, weight: Weight) -> Self {
        self.cpu_weight = Some(weight);
        self
    }

    /// Processes and threads, 1 to 4,194,304. 0 is refused: nothing could start.
    #[doc(alias = "pids.max")]
    pub fn pids_max(mut self, n: u32) -> Self {
        self.pids_max = Some(n);
        self
    }

    /// Writes a control file that this crate does not know, as it is, after all others.
    /// It must be one of the files of the groups of this host.
    pub fn raw(mut self, file: &str, value: &str) -> Self {
        self.raw.push((file.to_owned(), value.to_owned()));
        self
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The controllers that these limits need.
    #[must_use]
    pub fn controllers(&self) -> Controllers {
        let of_raw = |(file, _): &(String, String)| {
            let prefix = file.split('.').next().unwrap_or_default();
            Controllers::from_v2(prefix) | Controllers::from_v1(prefix)
        };
        let items = self.items().into_iter().map(|item| item.controller);
        items.chain(self.raw.iter().map(of_raw)).collect()
    }

    /// What [`memory_max`](Self::memory_max) was given.
    #[must_use]
    pub fn memory(&self) -> Option<Size> {
        self.memory_max
    }

    /// What [`swap_max`](Self::swap_max) was given.
    #[must_use]
    pub fn swap(&self) -> Option<Size> {
        self.swap_max
    }

    /// What [`oom_group`](Self::oom_group) was given.
    #[must_use]
    pub fn oom_whole(&self) -> Option<bool> {
        self.oom_group
    }

    /// What [`cpu_max`](Self::cpu_max) was given.
    #[must_use]
    pub fn cpu(&self) -> Option<Cpu> {
        self.cpu_max
    }

    /// What [`cpu_weight`](Self::cpu_weight) was given.
    #[must_use]
    pub fn weight(&self) -> Option<Weight> {
        self.cpu_weight
    }

    /// What [`pids_max`](Self::pids_max) was given.
    #[must_use]
    pub fn pids(&self) -> Option<u32> {
        self.pids_max
    }

    /// These limits, and those of `other` that these do not name.
    pub fn or(mut self, other: &Self) -> Self {
        self.memory_max = self.memory_max.or(other.memory_max);
        self.memory_high = self.memory_high.or(other.memory_high);
        self.memory_low = self.memory_low.or(other.memory_low);
        self.swap_max = self.swap_max.or(other.swap_max);
        self.oom_group = self.oom_group.or(other.oom_group);
        self.cpu_max = self.cpu_max.or(other.cpu_max);
        self.cpu_weight = self.cpu_weight.or(other.cpu_weight);
        self.pids_max = self.pids_max.or(other.pids_max);
        for (file, value) in &other.raw {
            if !self.raw.iter().any(|(named, _)| named == file) {
                self.raw.push((file.clone(), value.clone()));
            }
        }
        self
    }

    /// With one limit more.
    pub(crate) fn with(self, item: &Item) -> Self {
        match (item.name, item.value) {
            ("memory.max", Value::Size(size)) => self.memory_max(size),
            ("memory.high", Value::Size(size)) => self.memory_high(size),
            ("memory.low", Value::Size(size)) => self.memory_low(size),
            ("memory.swap.max", Value::Size(size)) => self.swap_max(size),
            ("memory.oom.group", Value::Switch(whole)) => self.oom_group(whole),
            ("cpu.max", Value::Cpu(cpu)) => self.cpu_max(cpu),
            ("cpu.weight", Value::Weight(weight)) => self.cpu_weight(weight),
            ("pids.max", Value::Count(n)) => self.pids_max(u32::try_from(n).unwrap_or(MOST_PIDS)),
            _ => self,
        }
    }

    pub(crate) fn raw_files(&self) -> &[(String, String)] {
        &self.raw
    }

    /// All that are named, in the order in which they are written.
    pub(crate) fn items(&self) -> Vec<Item> {
        let item = |name, controller, value| Item { name, controller, value };
        let memory = |name, size: Option<Size>| {
            size.map(|size| item(name, Controllers::MEMORY, Value::Size(size)))
        };
        let whole = |on| item("memory.oom.group", Controllers::MEMORY, Value::Switch(on));
        let cpu = |cpu| item("cpu.max", Controllers::CPU, Value::Cpu(cpu));
        let weight = |weight| item("cpu.weight", Controllers::CPU, Value::Weight(weight));
        let pids = |n: u32| item("pids.max", Controllers::PIDS, Value::Count(n.into()));
        [
            memory("memory.low", self.memory_low),
            memory("memory.high", self.memory_high),
            memory("memory.max", self.memory_max),
            memory("memory.swap.max", self.swap_max),
            self.oom_group.map(whole),
            self.cpu_weight.map(weight),
            self.cpu_max.map(cpu),
            self.pids_max.map(pids),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Refuses what no kernel should be asked for.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |what: String, why: &'static str| {
            Err(Failure::ours(ErrorKind::Invalid, what, why).into())
        };
        for (name, size) in [("memory.max", self.memory_max), ("memory.high", self.memory_high)] {
            if let Some(size) = size.filter(|size| *size < LEAST_MEMORY) {
                let why = "below 1 MiB no program starts: the start would hang";
                return invalid(format!("set {name} to {size}"), why);
            }
        }
        match self.pids_max {
            Some(0) => return invalid("set pids.max to 0".into(), "nothing could start"),
            Some(n) if n > MOST_PIDS => {
                return invalid(
                    format!("set pids.max to {n}"),
                    "more than the kernel has: 4194304",
                );
            }
            _ => {}
        }
        self.cpu_max.map(Cpu::check).transpose()?;
        for (file, value) in &self.raw {
            let plain = file.contains('.') && !file.contains(['/', '\0', '\n']);
            if !plain || file.starts_with('.') || value.contains('\0') {
                return invalid(format!("write the control file {file:?}"), "not a file name");
            }
            if file.starts_with("cgroup.")
                || ["release_agent", "notify_on_release"].contains(&&**file)
            {
                let why = "the files of the group itself are not limits";
                return invalid(format!("write the control file {file}"), why);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_would_hang_or_escape() {
        let new = Limits::new;
        for limits in [
            new().memory_max(Size::kib(1023)),
            new().memory_high(Size::bytes(0)),
            new().pids_max(0),
            new().pids_max(MOST_PIDS + 1),
            new().cpu_max(Cpu::cores(0.001)),
            new().raw("../memory.max", "1"),
            new().raw("tasks", "0"),
            new().raw("cgroup.procs", "1"),
            new().raw("memory.max", "1\0"),
        ] {
            assert_eq!(limits.check().unwrap_err().kind(), ErrorKind::Invalid, "{limits:?}");
        }
        assert!(new().memory_max(Size::mib(1)).pids_max(MOST_PIDS).check().is_ok());
        assert!(new().swap_max(Size::bytes(0)).raw("hugetlb.2MB.max", "0").check().is_ok());
    }

    #[test]
    fn names_what_it_needs() {
        assert!(Limits::new().is_empty());
        assert_eq!(Limits::new().controllers(), Controllers::empty());
        let limits =
            Limits::new().oom_group(true).cpu_max(Cpu::cores(1.0)).raw("blkio.weight", "10");
        assert!(!limits.is_empty());
        let needs = Controllers::MEMORY | Controllers::CPU | Controllers::IO;
        assert_eq!(limits.controllers(), needs);
    }

    #[test]
    fn the_first_of_two_wins() {
        let preset = Limits::new().pids_max(1024).swap_max(Size::bytes(0)).raw("a.b", "1");
        let both = Limits::new().pids_max(8).raw("a.b", "2").or(&preset);
        let wanted = Limits::new().pids_max(8).swap_max(Size::bytes(0)).raw("a.b", "2");
        assert_eq!(both, wanted);
    }
}
