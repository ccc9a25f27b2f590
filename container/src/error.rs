use ireko_sys::{Errno, ErrorKind, Failure};
use std::fmt;

/// A container that could not be planned, started or acted upon.
///
/// Displays as one line: `mount proc on /proc: operation not permitted (EPERM)`.
/// One pointer in size; matched by [`kind`](Self::kind) and [`stage`](Self::stage).
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
struct Inner {
    stage: Stage,
    failure: Failure,
}

impl Error {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.failure.kind
    }

    /// How far the start, or the call, had come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.0.stage
    }

    /// The kernel's answer, when it was the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.0.failure.errno
    }

    /// What was being done: `mount proc on /proc`.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.0.failure.operation
    }

    /// What to do about it on this host: a builder call, or a line to run.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        self.0.failure.remedy.as_deref()
    }

    pub(crate) fn new(stage: Stage, failure: impl Into<Failure>) -> Self {
        Self(Box::new(Inner { stage, failure: failure.into() }))
    }

    /// Something that contradicts itself, found before anything was made.
    pub(crate) fn invalid(operation: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(Stage::Config, Failure::ours(ErrorKind::Invalid, operation.into(), reason.into()))
    }

    #[must_use]
    pub(crate) fn with_remedy(mut self, remedy: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        self.0.failure.remedy = Some(remedy.into());
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, stage: Stage) -> Self {
        self.0.stage = stage;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {}

/// Where in the life of a container something failed. Displays as `mount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The builder contradicts itself, or names what is not there.
    Config,
    /// Making the cgroup and setting its limits.
    Cgroup,
    /// Starting the child in its namespaces.
    Clone,
    /// Writing the id maps.
    IdMap,
    /// Making the file tree.
    Mount,
    /// Making that tree the root.
    Root,
    /// Connecting the network.
    Network,
    /// User, groups, rlimits, environment.
    Process,
    /// Capabilities, Landlock, security labels.
    Security,
    /// Installing the system call filter.
    Seccomp,
    /// Executing the program.
    Exec,
    /// Waiting, signalling and everything else done to a running one.
    Running,
    /// Taking down what was made.
    Cleanup,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}").to_ascii_lowercase())
    }
}

macro_rules! from {
    ($($error:path = $stage:ident;)*) => {$(
        /// Keeps kind, errno and remedy.
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::new(Stage::$stage, error.into_failure())
            }
        }
    )*};
}

from! {
    ireko_sys::Error = Running;
    ireko_mounts::Error = Mount;
    ireko_namespaces::Error = Clone;
    ireko_cgroups::Error = Cgroup;
    ireko_capabilities::Error = Security;
    ireko_seccomp::Error = Seccomp;
}

/// For programs whose own errors are `io::Error`: keeps the errno where there is one.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        match error.errno() {
            Some(errno) => Self::from_raw_os_error(errno.raw()),
            None => Self::other(error),
        }
    }
}

/// [`std::result::Result`] with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
