use std::fmt;

bitflags::bitflags! {
    /// What a mount refuses to do, with the kernel's values. See
    /// [`mount_setattr(2)`](https://man7.org/linux/man-pages/man2/mount_setattr.2.html).
    ///
    /// Displays as `rdonly nosuid`. Default: none. Linux 5.12.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Attributes: u64 {
        /// No writes. Does not stop a `connect` to a unix socket in the tree.
        const RDONLY = 0x01;
        /// Set-user-id bits and file capabilities mean nothing.
        const NOSUID = 0x02;
        /// Device nodes cannot be opened.
        const NODEV = 0x04;
        /// Nothing on it can be executed.
        const NOEXEC = 0x08;
        /// Symlinks are not followed. Linux 5.14.
        const NOSYMFOLLOW = 0x0020_0000;
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> =
            self.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

/// How mounts made later cross between copies of a mount. See
/// [`mount_namespaces(7)`](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// In from the source, never out. Kubernetes: `HostToContainer`.
    Slave,
    /// Both ways. Kubernetes: `Bidirectional`.
    Shared,
}

impl Propagation {
    pub(crate) const fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
        }
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Slave => "slave",
            Self::Shared => "shared",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Attributes;

    #[test]
    fn has_the_kernels_values() {
        for (attribute, value) in [
            (Attributes::RDONLY, libc::MOUNT_ATTR_RDONLY),
            (Attributes::NOSUID, libc::MOUNT_ATTR_NOSUID),
            (Attributes::NODEV, libc::MOUNT_ATTR_NODEV),
            (Attributes::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
            (Attributes::NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
        ] {
            assert_eq!(attribute.bits(), value);
        }
    }

    #[test]
    fn displays_the_names() {
        assert_eq!((Attributes::RDONLY | Attributes::NODEV).to_string(), "rdonly nodev");
        assert_eq!(Attributes::empty().to_string(), "none");
    }
}
