use crate::Errno;
use std::borrow::Cow;

/// What sort of failure an error is; the same few in every crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot mean anything, or contradicts itself. Nothing was tried.
    Invalid,
    /// A program, path, user, image or container that is not there.
    NotFound,
    /// The kernel, or a security module, said no.
    Denied,
    /// This kernel or host does not have it.
    Unsupported,
    /// Something of that name exists, or is in the wrong state for the call.
    Conflict,
    /// A limit of the host is used up: namespaces, fds, processes, disk.
    Exhausted,
    /// A deadline of ours passed.
    TimedOut,
    /// The process or its status has gone where no one can ask for it.
    Lost,
    /// An answer of the kernel that none of the others covers.
    Kernel,
}

impl From<Errno> for ErrorKind {
    fn from(errno: Errno) -> Self {
        match errno.raw() {
            libc::EINVAL | libc::ENAMETOOLONG | libc::E2BIG | libc::ENOTDIR | libc::EISDIR => {
                Self::Invalid
            }
            libc::ENOENT | libc::ESRCH => Self::NotFound,
            libc::EPERM | libc::EACCES | libc::EROFS => Self::Denied,
            libc::ENOSYS | libc::EOPNOTSUPP | libc::ENODEV | libc::ENOEXEC => Self::Unsupported,
            libc::EEXIST | libc::EBUSY | libc::ETXTBSY | libc::ENOTEMPTY => Self::Conflict,
            libc::ENOMEM
            | libc::ENOSPC
            | libc::EMFILE
            | libc::ENFILE
            | libc::EAGAIN
            | libc::EDQUOT
            | libc::EUSERS => Self::Exhausted,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::ECHILD => Self::Lost,
            _ => Self::Kernel,
        }
    }
}

/// What every error of the workspace holds. Each crate wraps it, boxed, in an
/// opaque `Error` of its own: [`error!`](crate::error!) writes that type.
#[doc(hidden)]
#[derive(Debug, thiserror::Error)]
#[error("{}", self.line())]
pub struct Failure {
    /// The sort of failure.
    pub kind: ErrorKind,
    /// The kernel's answer.
    pub errno: Option<Errno>,
    /// What was being done.
    pub operation: Cow<'static, str>,
    /// Why, where it is not the errno that says so.
    pub reason: Option<Cow<'static, str>>,
    /// What to do about it.
    pub remedy: Option<Cow<'static, str>>,
}

impl Failure {
    /// A call that the kernel refused.
    pub fn kernel(operation: impl Into<Cow<'static, str>>, errno: Errno) -> Self {
        Self {
            kind: errno.into(),
            errno: Some(errno),
            operation: operation.into(),
            reason: None,
            remedy: None,
        }
    }

    /// A failure that we found ourselves.
    pub fn ours(
        kind: ErrorKind,
        operation: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            errno: None,
            operation: operation.into(),
            reason: Some(reason.into()),
            remedy: None,
        }
    }

    /// All of it in one line, whatever a path in it holds.
    fn line(&self) -> String {
        let why = match (&self.reason, self.errno) {
            (Some(reason), _) => format!(": {reason}"),
            (None, Some(errno)) => format!(": {errno}"),
            (None, None) => String::new(),
        };
        let mut line = String::new();
        for c in self.operation.chars().chain(why.chars()) {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        line
    }

    /// With what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// As another sort than the errno suggests.
    #[must_use]
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
}

/// Writes a crate's opaque error: one pointer in size, with `kind()`, `errno()`,
/// `operation()` and `remedy()`, and a `From` for each crate named behind `from`.
#[doc(hidden)]
#[macro_export]
macro_rules! error {
    ($(#[$meta:meta])* $(from $($below:path),+;)?) => {
        $(#[$meta])*
        ///
        /// Displays as one line: what was being done, and the kernel's answer.
        #[derive(Debug)]
        pub struct Error(Box<$crate::Failure>);

        impl Error {
            /// What sort of failure this is.
            #[must_use]
            pub fn kind(&self) -> $crate::ErrorKind {
                self.0.kind
            }

            /// The kernel's answer, when it was the kernel that refused.
            #[must_use]
            pub fn errno(&self) -> Option<$crate::Errno> {
                self.0.errno
            }

            /// What was being done.
            #[must_use]
            pub fn operation(&self) -> &str {
                &self.0.operation
            }

            /// What to do about it: a call, or a line to run.
            #[must_use]
            pub fn remedy(&self) -> Option<&str> {
                self.0.remedy.as_deref()
            }

            /// The parts, for the crates above.
            #[doc(hidden)]
            #[must_use]
            pub fn into_failure(self) -> $crate::Failure {
                *self.0
            }
        }

        impl std::fmt::Display for Error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::error::Error for Error {}

        #[doc(hidden)]
        impl From<$crate::Failure> for Error {
            fn from(failure: $crate::Failure) -> Self {
                Self(Box::new(failure))
            }
        }

        /// Keeps the errno where there is one.
        impl From<Error> for std::io::Error {
            fn from(error: Error) -> Self {
                match error.0.errno {
                    Some(errno) => std::io::Error::from_raw_os_error(errno.raw()),
                    None => std::io::Error::other(error),
                }
            }
        }

        $($(
            /// Keeps kind, errno and remedy.
            impl From<$below> for Error {
                fn from(error: $below) -> Self {
                    Self(Box::new(error.into_failure()))
                }
            }
        )+)?
    };
}

error! {
    /// A failure of a call in this crate.
}

/// [`std::result::Result`] with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_operation_and_errno() {
        let error = Error::from(Failure::kernel("mount proc on /proc", Errno::EPERM));
        assert_eq!(error.to_string(), "mount proc on /proc: operation not permitted (EPERM)");
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(std::mem::size_of::<Error>(), std::mem::size_of::<usize>());
    }

    #[test]
    fn becomes_an_io_error_with_the_same_errno() {
        let error = Error::from(Failure::kernel("open", Errno::ENOENT));
        assert_eq!(std::io::Error::from(error).raw_os_error(), Some(libc::ENOENT));
    }
}
