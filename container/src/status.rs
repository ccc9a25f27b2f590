use ireko_cgroups::OomScope;
use ireko_sys::{Signal, Size};
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// How the first process ended, why the run ended, and what it used.
///
/// [`code`](Self::code) and [`signal`](Self::signal) are of the process,
/// [`cause`](Self::cause) is of the run: a shell whose child was killed for want
/// of memory may well exit with 0. A failure to set the container up is an
/// [`Error`](super::Error), never a status.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitStatus {
    pub(crate) raw: std::process::ExitStatus,
    pub(crate) cause: Cause,
    pub(crate) oom: Option<OomScope>,
    pub(crate) usage: Usage,
}

impl ExitStatus {
    /// Ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.raw.success()
    }

    /// The exit code, unless a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.raw.code()
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.raw.signal().and_then(|number| Signal::try_from(number).ok())
    }

    /// Why the run ended. Where several are true the first of
    /// [`Cause`]'s order holds.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Whose limit it was, if anything inside was killed for want of memory:
    /// the first process or another, whatever the code. `None` as well where the host
    /// does not tell: without a memory limit.
    #[must_use]
    pub fn oom(&self) -> Option<OomScope> {
        self.oom
    }

    /// What was used, by everything inside, from exec to the end.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
}

/// As std's: `exit status: 1`, `signal: 9 (SIGKILL), out of memory`.
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit status: {code}")?,
            (None, Some(signal)) => write!(f, "signal: {} ({signal})", signal.raw())?,
            (None, None) => write!(f, "{}", self.raw)?,
        }
        match self.cause {
            Cause::Exited(_) | Cause::Signaled(_) => Ok(()),
            cause => write!(f, ", {cause}"),
        }
    }
}

/// Why a run ended, in the order in which they count. Displays as `out of memory`,
/// `cpu time limit`, `exit code 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// `stop` or `kill` was called.
    Stopped {
        /// It had to be killed.
        killed: bool,
    },
    /// A limit of time passed.
    TimedOut(Clock),
    /// The first process was killed for want of memory.
    OutOfMemory,
    /// The first process made a call that its filter answers with SIGSYS.
    /// Denials answered with an errno do not end anything.
    ForbiddenSyscall,
    /// Another signal ended it.
    Signaled(Signal),
    /// It ended by itself.
    Exited(i32),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped { killed: false } => f.write_str("stopped"),
            Self::Stopped { killed: true } => f.write_str("killed"),
            Self::TimedOut(Clock::Wall) => f.write_str("timeout"),
            Self::TimedOut(Clock::Cpu) => f.write_str("cpu time limit"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::ForbiddenSyscall => f.write_str("forbidden system call"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
            Self::Exited(code) => write!(f, "exit code {code}"),
        }
    }
}

/// Which time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// `timeout`.
    Wall,
    /// `cpu_time_limit`.
    Cpu,
}

/// What a run used. `None`: this host does not count it, or no limit asked for it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// From exec to the end.
    pub wall: Duration,
    /// Cpu time in programs.
    pub cpu_user: Duration,
    /// Cpu time in the kernel.
    pub cpu_system: Duration,
    /// Time in which it could have run but had no quota left.
    pub throttled: Option<Duration>,
    /// Most memory in use at once, file cache included; counted with a memory limit.
    pub memory_peak: Option<Size>,
    /// The largest resident set of one process that was waited for. `None` as well where
    /// that of this program itself was larger: the kernel then tells of no other.
    pub max_rss: Option<Size>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Most processes and threads at once.
    pub pids_peak: Option<u64>,
    /// Starts of processes and threads refused by the limit.
    pub pids_refused: Option<u64>,
}

impl Usage {
    /// Cpu time in all.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.cpu_user + self.cpu_system
    }
}

/// A status and what was printed until then: partial where the run was cut
/// short, as by a timeout.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// More came than `output_limit` keeps; the rest was read and dropped.
    pub truncated: bool,
    /// What was in force.
    pub enforcement: crate::Enforcement,
}
