/// A resource limit of the process, with the kernel's names; see
/// [`setrlimit(2)`](https://man7.org/linux/man-pages/man2/setrlimit.2.html).
#[doc(alias = "RLIMIT_NOFILE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Address space, bytes.
    As,
    /// Core dump, bytes.
    Core,
    /// Cpu time, seconds: `cpu_time_limit` is better, it counts the whole container.
    Cpu,
    /// Largest file, bytes.
    Fsize,
    /// Locked memory, bytes.
    Memlock,
    /// Open files.
    Nofile,
    /// Processes of the user: `pids_limit` is better, it counts this container alone.
    Nproc,
    /// Stack, bytes.
    Stack,
}

impl Resource {
    pub(crate) fn raw(self) -> u32 {
        match self {
            Self::As => libc::RLIMIT_AS,
            Self::Core => libc::RLIMIT_CORE,
            Self::Cpu => libc::RLIMIT_CPU,
            Self::Fsize => libc::RLIMIT_FSIZE,
            Self::Memlock => libc::RLIMIT_MEMLOCK,
            Self::Nofile => libc::RLIMIT_NOFILE,
            Self::Nproc => libc::RLIMIT_NPROC,
            Self::Stack => libc::RLIMIT_STACK,
        }
    }
}
