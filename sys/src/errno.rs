use std::fmt;

/// An error number of the kernel. Displays as text and name:
/// `operation not permitted (EPERM)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// Operation not permitted.
    pub const EPERM: Self = Self(libc::EPERM);
    /// No such file or directory.
    pub const ENOENT: Self = Self(libc::ENOENT);
    /// Permission denied.
    pub const EACCES: Self = Self(libc::EACCES);
    /// Invalid argument.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// Function not implemented.
    pub const ENOSYS: Self = Self(libc::ENOSYS);

    /// Any other number, as in `libc`. Meaningful from 1 to 4095.
    #[must_use]
    pub const fn from_raw(errno: i32) -> Self {
        Self(errno)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// What the C library's `errno` of this thread says now.
    #[must_use]
    pub fn last() -> Self {
        Self(nix::errno::Errno::last_raw())
    }

    /// The number in an `io::Error`. Where it holds none: `EINVAL` for what std refuses
    /// itself, such as a path with a NUL byte, else `EIO`.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Self {
        let refused = error.kind() == std::io::ErrorKind::InvalidInput;
        let without = if refused { libc::EINVAL } else { libc::EIO };
        Self(error.raw_os_error().unwrap_or(without))
    }

    /// The kernel's name for it: `EPERM`.
    #[must_use]
    pub fn name(self) -> String {
        match nix::errno::Errno::from_raw(self.0) {
            nix::errno::Errno::UnknownErrno => format!("errno {}", self.0),
            known => format!("{known:?}"),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = nix::errno::Errno::from_raw(self.0).desc();
        let mut chars = text.chars();
        if let Some(first) = chars.next() {
            write!(f, "{}{}", first.to_lowercase(), chars.as_str())?;
        }
        write!(f, " ({})", self.name())
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Self {
        Self(errno as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn displays_text_and_name() {
        assert_eq!(Errno::EPERM.to_string(), "operation not permitted (EPERM)");
        assert_eq!(Errno::from_raw(4095).name(), "errno 4095");
    }
}
