use crate::call::{self, At, MountAttr};
use crate::{Attributes, Detached, Propagation, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

impl Detached {
    /// A private copy of the mount at an open file, with these attributes and, where one
    /// is given, through the id maps of this user namespace: as [`bind_fd`](Self::bind_fd),
    /// [`with`](Self::with) and [`idmapped`](Self::idmapped) one after another, in two
    /// system calls, for those who make many. Linux 5.12.
    ///
    /// # Errors
    /// As those three.
    pub fn prepared(
        source: impl AsFd,
        recursive: bool,
        attributes: Attributes,
        user_namespace: Option<BorrowedFd<'_>>,
    ) -> Result<Self> {
        let source = source.as_fd();
        // It goes into its source's peer group until it is made private, at once.
        let copy = Self::bind_fd_propagating(source, recursive, Propagation::Shared)?;
        let idmap = if user_namespace.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
        let attr = MountAttr {
            set: attributes.bits() | idmap,
            propagation: Propagation::Private.bits(),
            user_namespace: user_namespace.map_or(0, |ns| ns.as_raw_fd() as u64),
            ..MountAttr::default()
        };
        if call::mount_setattr(At::Fd(copy.as_fd()), &attr).is_ok() {
            return Ok(copy.now_private());
        }
        // Which of them it was is told by doing them one by one.
        drop(copy);
        let copy = Self::bind_fd(source, recursive)?.with(attributes)?;
        match user_namespace {
            Some(ns) => copy.idmapped(ns),
            None => Ok(copy),
        }
    }
}
