//! Limits, in force before the program's first instruction.

use super::Builder;
use crate::Size;
use ireko_cgroups::{Cpu, Limits, Parent, Weight};
use std::time::Duration;

impl Builder {
    /// Memory of everything inside, and no swap unless `limits` says otherwise. Beyond
    /// it the kernel kills.
    pub fn memory_limit(mut self, size: Size) -> Self {
        self.0.limits = self.0.limits.memory_max(size);
        self
    }

    /// Cpu time of everything inside.
    pub fn cpu_limit(mut self, cpu: Cpu) -> Self {
        self.0.limits = self.0.limits.cpu_max(cpu);
        self
    }

    /// Share of the cpu when others want it too.
    pub fn cpu_weight(mut self, weight: Weight) -> Self {
        self.0.limits = self.0.limits.cpu_weight(weight);
        self
    }

    /// Processes and threads inside; one more fails with EAGAIN.
    pub fn pids_limit(mut self, n: u32) -> Self {
        self.0.limits = self.0.limits.pids_max(n);
        self
    }

    /// Any other limits; those named here replace the calls above.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// Where its group is made. Default: [`Parent::detect`].
    pub fn cgroup_parent(mut self, parent: &Parent) -> Self {
        self.0.parent = Some(parent.clone());
        self
    }

    /// Time from exec, after which all is killed, whether or not anybody waits. Default: none.
    pub fn timeout(mut self, wall: Duration) -> Self {
        self.0.timeout = Some(wall);
        self
    }

    /// Cpu time of everything inside, after which all is killed, as for
    /// [`timeout`](Self::timeout). Default: none.
    pub fn cpu_time_limit(mut self, cpu: Duration) -> Self {
        self.0.cpu_time = Some(cpu);
        self
    }

    /// How much `output()` keeps of stdout, and as much of stderr; the rest is read
    /// and dropped. Default: 64 MiB.
    pub fn output_limit(mut self, size: Size) -> Self {
        self.0.output_limit = Some(size);
        self
    }
}
