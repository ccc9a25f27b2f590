use ireko_namespaces::Namespaces;
use std::fmt;

/// What to do where the host cannot give something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// No container without it. What the caller asks for by a call of its own, and
    /// the namespaces, no-new-privs, capabilities and filter of a preset.
    Required,
    /// The container starts, and [`enforcement`](super::Container::enforcement)
    /// says what is missing and why. Limits and extras of a preset.
    Preferred,
    /// It is not tried.
    Off,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
            Self::Off => "off",
        })
    }
}

/// Something that protects or limits a container and that a host may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Private namespaces of these kinds.
    Namespaces(Namespaces),
    /// A memory limit.
    MemoryLimit,
    /// A swap limit.
    SwapLimit,
    /// A limit of cpu time per period.
    CpuLimit,
    /// A share of the cpu.
    CpuWeight,
    /// A limit of processes and threads.
    PidsLimit,
    /// Cpu time of everything inside, for `cpu_time_limit`.
    CpuTime,
    /// Resource limits that are not the caller's own.
    Rlimits,
    /// No privileges gained by exec.
    NoNewPrivileges,
    /// The capability sets.
    Capabilities,
    /// The system call filter.
    Seccomp,
    /// A session keyring of its own.
    Keyring,
    /// Processes of others hidden in `/proc` (hidepid).
    HiddenProcesses,
    /// Files of `/proc` and `/sys` hidden or read-only.
    MaskedPaths,
    /// Owners of a tree shown through the container's id maps.
    IdMappedRootfs,
}

impl Feature {
    /// Of what is part of the boundary, the call that says by name that it is given up.
    pub(crate) fn exception(self) -> Option<String> {
        Some(match self {
            Self::Namespaces(kinds) => {
                let names: Vec<String> =
                    kinds.iter_names().map(|(name, _)| format!("Namespaces::{name}")).collect();
                format!(".share({})", names.join(" | "))
            }
            Self::Capabilities => ".capabilities(CapSet::all())".into(),
            Self::Seccomp => ".dangerously_disable_seccomp()".into(),
            Self::NoNewPrivileges => ".dangerously_allow_new_privileges()".into(),
            Self::MaskedPaths => ".dangerously_unmask_proc()".into(),
            _ => return None,
        })
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaces(kinds) => f.pad(&format!("namespaces {kinds}")),
            Self::MemoryLimit => f.pad("memory limit"),
            Self::SwapLimit => f.pad("swap limit"),
            Self::CpuLimit => f.pad("cpu limit"),
            Self::CpuWeight => f.pad("cpu weight"),
            Self::PidsLimit => f.pad("pids limit"),
            Self::CpuTime => f.pad("cpu time limit"),
            Self::Rlimits => f.pad("resource limits"),
            Self::NoNewPrivileges => f.pad("no new privileges"),
            Self::Capabilities => f.pad("capabilities"),
            Self::Seccomp => f.pad("system call filter"),
            Self::Keyring => f.pad("session keyring"),
            Self::HiddenProcesses => f.pad("hidden processes"),
            Self::MaskedPaths => f.pad("masked paths"),
            Self::IdMappedRootfs => f.pad("id-mapped tree"),
        }
    }
}
