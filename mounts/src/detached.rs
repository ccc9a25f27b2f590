use crate::call::{self, At, MountAttr, Refused};
use crate::error::{c_string, failed};
use crate::{Attributes, Errno, ErrorKind, InRoot, Mounted, Propagation, Result};
use ireko_sys::{Failure, ProcRoot};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mount held by its fd alone: gone when dropped, unless attached.
///
/// Copies are private from the start, so nothing mounted on or below one ever shows
/// up at its source: see [`bind_propagating`](Self::bind_propagating) for the others.
/// The fd can be looked into like any directory, and be handed to another process.
///
/// Dropping one that was never attached costs an RCU grace period (some 50 µs), so
/// resolve the target first ([`Root::resolve`](crate::Root::resolve)) where it may
/// be missing.
///
/// Linux 5.12, `CAP_SYS_ADMIN`. See
/// [`open_tree(2)`](https://man7.org/linux/man-pages/man2/open_tree.2.html).
#[doc(alias = "open_tree")]
#[derive(Debug)]
pub struct Detached {
    fd: OwnedFd,
    what: String,
    /// Whether it is in the peer groups of its source, or follows them.
    propagation: Propagation,
}

impl Detached {
    pub(crate) fn new(fd: OwnedFd, what: String) -> Self {
        Self { fd, what, propagation: Propagation::Private }
    }

    /// A private copy of the mount at `source`, without what is mounted below it. A
    /// file can be bound, too. Symlinks are followed.
    ///
    /// # Errors
    /// `NotFound`; `Denied` without `CAP_SYS_ADMIN`; `Invalid` for an unbindable mount,
    /// one of another mount namespace, and, in a user namespace, one with mounts below
    /// it that were made outside.
    #[doc(alias = "OPEN_TREE_CLONE")]
    pub fn bind(source: impl AsRef<Path>) -> Result<Self> {
        Self::bind_propagating(source, false, Propagation::Private)
    }

    /// A private copy of the mount at `source` with everything mounted below it.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    #[doc(alias = "rbind")]
    pub fn bind_recursive(source: impl AsRef<Path>) -> Result<Self> {
        Self::bind_propagating(source, true, Propagation::Private)
    }

    /// A private copy of what this fd, `O_PATH` mostly, is open on.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    #[doc(alias = "AT_EMPTY_PATH")]
    pub fn bind_fd(source: impl AsFd, recursive: bool) -> Result<Self> {
        Self::bind_fd_propagating(source, recursive, Propagation::Private)
    }

    /// A copy into which, or to and from which, later mounts at the source propagate.
    ///
    /// It has to be chosen here: a copy that was private once has no way back to the
    /// peers of its source. Where the source itself is private, nothing crosses.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_propagating(
        source: impl AsRef<Path>,
        recursive: bool,
        propagation: Propagation,
    ) -> Result<Self> {
        let source = source.as_ref();
        let path = c_string("path", source)?;
        // SAFETY: AT_FDCWD stands for the working directory and is never closed.
        let cwd = unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) };
        call::open_tree(cwd, Some(&path), recursive)
            .map_err(|refused| not_bound(source, recursive, refused).into())
            .and_then(|fd| Self::copy(fd, format!("a copy of {}", source.display()), propagation))
    }

    /// [`bind_propagating`](Self::bind_propagating) of what this fd is open on.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_fd_propagating(
        source: impl AsFd,
        recursive: bool,
        propagation: Propagation,
    ) -> Result<Self> {
        let source = source.as_fd();
        call::open_tree(source, None, recursive)
            .map_err(|refused| {
                let path = path_of(source).unwrap_or_else(|| "an open file".into());
                not_bound(&path, recursive, refused).into()
            })
            .and_then(|fd| Self::copy(fd, "a copy of an open file".into(), propagation))
    }

    fn copy(fd: OwnedFd, what: String, propagation: Propagation) -> Result<Self> {
        // What open_tree gives is in the peer groups of its source.
        let copy = Self { fd, what, propagation };
        match propagation {
            Propagation::Shared => Ok(copy),
            _ => copy.propagation(propagation),
        }
    }

    /// That it is private was set beside something else.
    pub(crate) fn now_private(mut self) -> Self {
        self.propagation = Propagation::Private;
        self
    }

    /// Adds attributes to this mount and everything below it: to all or to none.
    ///
    /// # Errors
    /// `Conflict` when it is to be read-only and has files open for writing.
    #[doc(alias = "mount_setattr")]
    pub fn with(self, attributes: Attributes) -> Result<Self> {
        let attr = MountAttr { set: attributes.bits(), ..MountAttr::default() };
        call::mount_setattr(At::Fd(self.as_fd()), &attr)
            .map_err(|refused| failed(format!("make {} {attributes}", self.what), refused))?;
        Ok(self)
    }

    /// Shows the owners on this mount and on everything below it through the id maps
    /// of this user namespace: what is owned by 0 on disk looks owned by whatever 0
    /// inside is outside, and what that one creates is owned by 0 on disk. Ids without
    /// a map look like 65534.
    ///
    /// Which filesystems can: ext4, XFS and FAT since Linux 5.12, btrfs 5.15, erofs and
    /// the layers of an overlay 5.19, tmpfs 6.3. See
    /// [`mount_setattr(2)`](https://man7.org/linux/man-pages/man2/mount_setattr.2.html).
    ///
    /// # Errors
    /// `Invalid` when the fd is no user namespace. `Unsupported` where a filesystem in
    /// the tree cannot: an overlay never can, its layers have to be mapped before it
    /// is mounted. `Denied` for what is id-mapped already, for the first user namespace,
    /// and without `CAP_SYS_ADMIN` over the filesystem.
    #[doc(alias = "MOUNT_ATTR_IDMAP")]
    pub fn idmapped(self, user_namespace: impl AsFd) -> Result<Self> {
        let operation = || format!("id-map {}", self.what);
        let user_namespace = user_namespace.as_fd();
        if !call::is_user_namespace(user_namespace) {
            let reason = "the fd is no user namespace";
            return Err(Failure::ours(ErrorKind::Invalid, operation(), reason).into());
        }
        let attr = MountAttr {
            set: libc::MOUNT_ATTR_IDMAP,
            user_namespace: user_namespace.as_raw_fd() as u64,
            ..MountAttr::default()
        };
        call::mount_setattr(At::Fd(self.as_fd()), &attr).map_err(|refused| {
            let failure = failed(operation(), refused);
            if refused.errno == Errno::EINVAL {
                let mut failure = failure.kind(ErrorKind::Unsupported);
                failure.reason =
                    Some("a filesystem in it cannot show mapped owners (EINVAL)".into());
                return failure;
            }
            failure
        })?;
        Ok(self)
    }

    /// Sets how mounts made later cross to and from copies of this one and of those
    /// below it. Default: private.
    ///
    /// `Shared` starts a peer group of its own, unless it is in its source's already.
    /// A mount attached below a shared one becomes shared with the copies of it that
    /// the kernel makes there, whatever was set here.
    ///
    /// # Errors
    /// `Invalid` for `Slave` where there is nobody to follow.
    #[doc(alias = "MS_SHARED")]
    #[doc(alias = "MS_SLAVE")]
    #[doc(alias = "MS_PRIVATE")]
    pub fn propagation(mut self, propagation: Propagation) -> Result<Self> {
        let operation = || format!("make {} {propagation}", self.what);
        if propagation == Propagation::Slave && self.propagation == Propagation::Private {
            let reason = "it is private and has nobody to follow";
            return Err(Failure::ours(ErrorKind::Invalid, operation(), reason)
                .remedy("bind it with Detached::bind_propagating")
                .into());
        }
        let attr = MountAttr { propagation: propagation.bits(), ..MountAttr::default() };
        call::mount_setattr(At::Fd(self.as_fd()), &attr).map_err(|r| failed(operation(), r))?;
        // A private one made shared has a group, but not its source's: to unmount it
        // cannot unmount anything there.
        self.propagation = match (self.propagation, propagation) {
            (Propagation::Private, _) => Propagation::Private,
            (_, new) => new,
        };
        Ok(self)
    }

    /// Attaches it to `at` in the mount namespace of the calling thread, on top of
    /// what is there. A directory goes on a directory, a file on a file; symlinks are
    /// followed.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a file on a directory and the other way round;
    /// `Denied` without `CAP_SYS_ADMIN`.
    #[doc(alias = "move_mount")]
    pub fn attach(self, at: impl AsRef<Path>) -> Result<Mounted> {
        let at = at.as_ref();
        let operation = || format!("attach {} to {}", self.what, at.display());
        let target = call::open_path(&c_string("path", at)?)
            .map_err(|refused| failed(operation(), refused))?;
        // The name without symlinks, so that what is unmounted later is what was mounted.
        let path = match path_of(target.as_fd()) {
            Some(path) => path,
            None => {
                std::path::absolute(at).map_err(|e| Failure::kernel(operation(), Errno::of(&e)))?
            }
        };
        let id = call::mount_id(At::Fd(self.as_fd()), true).map_err(|r| failed(operation(), r))?;
        self.move_to(target.as_fd(), operation)?;
        Ok(Mounted::new(path, id, self.propagation == Propagation::Shared))
    }

    /// Attaches it to something found inside a [`Root`](crate::Root), for as long as
    /// the mount namespace lives.
    ///
    /// # Errors
    /// As [`attach`](Self::attach). `Invalid` inside a tree that is not attached
    /// itself, before Linux 6.15.
    pub fn attach_in(self, at: &InRoot) -> Result<()> {
        self.move_to(at.as_fd(), || format!("attach {} to {}", self.what, at.path().display()))
    }

    fn move_to(&self, target: BorrowedFd<'_>, operation: impl Fn() -> String) -> Result<()> {
        call::move_mount(self.as_fd(), target).map_err(|refused| {
            let mut failure = failed(operation(), refused);
            if is_directory(self.as_fd()) != is_directory(target) {
                failure.kind = ErrorKind::Invalid;
                let reason = "a file goes on a file, a directory on a directory";
                failure.reason = Some(reason.into());
            }
            failure.into()
        })
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The fd of the mount, for another process to attach: the mount lives while an fd
/// of it is open anywhere.
impl From<Detached> for OwnedFd {
    fn from(mount: Detached) -> Self {
        mount.fd
    }
}

fn not_bound(source: &Path, recursive: bool, refused: Refused) -> Failure {
    let failure = failed(format!("bind {}", source.display()), refused);
    if refused.errno == Errno::EINVAL && !recursive {
        return failure.remedy(
            "in a user namespace bind it recursively: it may have mounts below it from outside",
        );
    }
    failure
}

fn is_directory(fd: BorrowedFd<'_>) -> Option<bool> {
    let metadata = File::from(fd.try_clone_to_owned().ok()?).metadata();
    metadata.ok().map(|metadata| metadata.is_dir())
}

/// Where an open file is, without symlinks, as the calling thread sees it.
fn path_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    let path = ProcRoot::open().ok()?.link(&format!("self/fd/{}", fd.as_raw_fd())).ok()?;
    path.is_absolute().then_some(path)
}
