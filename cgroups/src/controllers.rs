use std::fmt;

bitflags::bitflags! {
    /// A set of controllers. Displays as the kernel's names: `memory, pids`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Controllers: u32 {
        /// Memory and swap.
        const MEMORY = 1;
        /// Cpu time: its limits and shares.
        const CPU = 1 << 1;
        /// Cores and memory nodes.
        const CPUSET = 1 << 2;
        /// Block devices; `blkio` on v1.
        const IO = 1 << 3;
        /// Processes and threads.
        const PIDS = 1 << 4;
        /// Huge pages.
        const HUGETLB = 1 << 5;
        /// Device nodes; v1 alone has it as a controller.
        const DEVICES = 1 << 6;
        /// Cpu time: the counting of it. Any v2 group counts; on v1 this is a
        /// hierarchy of its own.
        const CPUACCT = 1 << 7;
        /// Stopping. Any v2 group can; on v1 this is a hierarchy of its own.
        const FREEZER = 1 << 8;
    }
}

/// Name on v2, name on v1, flag.
const NAMES: [(&str, &str, Controllers); 9] = [
    ("memory", "memory", Controllers::MEMORY),
    ("cpu", "cpu", Controllers::CPU),
    ("cpuset", "cpuset", Controllers::CPUSET),
    ("io", "blkio", Controllers::IO),
    ("pids", "pids", Controllers::PIDS),
    ("hugetlb", "hugetlb", Controllers::HUGETLB),
    ("devices", "devices", Controllers::DEVICES),
    ("cpuacct", "cpuacct", Controllers::CPUACCT),
    ("freezer", "freezer", Controllers::FREEZER),
];

impl Controllers {
    /// What a v2 group has without any controller being enabled.
    pub(crate) const V2_ALWAYS: Self = Self::CPUACCT.union(Self::FREEZER);

    /// Names as in `cgroup.controllers`, separated by blanks; others are left out.
    pub(crate) fn from_v2(text: &str) -> Self {
        let known = |name| NAMES.iter().find(|(v2, ..)| *v2 == name).map(|(.., flag)| *flag);
        text.split_whitespace().filter_map(known).collect()
    }

    /// Names as in `/proc/self/cgroup`, separated by commas; others are left out.
    pub(crate) fn from_v1(text: &str) -> Self {
        let known = |name| NAMES.iter().find(|(_, v1, _)| *v1 == name).map(|(.., flag)| *flag);
        text.split(',').filter_map(known).collect()
    }

    /// The names on v2 of those in the set.
    pub(crate) fn v2_names(self) -> impl Iterator<Item = (&'static str, Self)> {
        NAMES.iter().filter(move |(.., f)| self.contains(*f)).map(|(name, _, flag)| (*name, *flag))
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (i, (name, _)) in self.v2_names().enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Where the controllers of a host live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hierarchy {
    /// All in v2.
    V2,
    /// Some in v1, beside a v2 tree. A group can have a directory in that as well, for
    /// kill, freeze and cpu time: see [`Template::v2_dir`](crate::Template::v2_dir).
    Hybrid,
    /// v1 alone.
    V1,
}

#[cfg(test)]
mod tests {
    use super::Controllers;

    #[test]
    fn names_of_both_versions() {
        let both = Controllers::IO | Controllers::MEMORY;
        assert_eq!(Controllers::from_v2("cpuset io memory rdma"), both | Controllers::CPUSET);
        assert_eq!(Controllers::from_v1("blkio,memory,net_cls"), both);
        assert_eq!(Controllers::from_v1("cpu,cpuacct"), Controllers::CPU | Controllers::CPUACCT);
        assert_eq!(Controllers::from_v1("name=systemd"), Controllers::empty());
        assert_eq!(both.to_string(), "memory, io");
        assert_eq!(Controllers::empty().to_string(), "none");
    }
}
