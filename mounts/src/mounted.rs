use crate::call::{self, At, MountAttr, Refused};
use crate::error::{c_string, failed};
use crate::{Errno, Error, ErrorKind, MountTable, Propagation, Result};
use ireko_sys::Failure;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// An attached mount: unmounted when dropped, unless kept.
///
/// What is mounted below it goes with it. Dropping unmounts lazily: the path is free
/// at once, and who still has a file open there keeps it. A mount of somebody else at
/// the same path is never touched; nor is anything when a thread of another mount
/// namespace drops it. Before Linux 6.8 one of somebody else can have the id of ours,
/// if ours was unmounted behind our back. See
/// [`umount2(2)`](https://man7.org/linux/man-pages/man2/umount.2.html).
#[doc(alias = "umount2")]
#[derive(Debug)]
#[must_use = "dropping it unmounts it"]
pub struct Mounted {
    path: PathBuf,
    id: u64,
    /// Whether it is in the peer groups of its source.
    peers: bool,
    ours: bool,
}

impl Mounted {
    pub(crate) fn new(path: PathBuf, id: u64, peers: bool) -> Self {
        Self { path, id, peers, ours: true }
    }

    /// Where it is: absolute, without symlinks.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts it with all below it, and tells whether that went well.
    ///
    /// In a user namespace a copy of mounts from outside can leave only as a whole,
    /// lazily: whether it was in use is not told then.
    ///
    /// # Errors
    /// `Conflict` when it is in use: then it has left the path all the same, and ends
    /// with its last user. `Conflict` when something else is mounted over it, `NotFound`
    /// when it is not there any more: then nothing was done.
    pub fn unmount(mut self) -> Result<()> {
        self.ours = false;
        let name = self.find()?;
        let id = call::mount_id(At::Path(&name), false).map_err(|r| self.failed(r))?;
        match call::umount(&name, false) {
            Ok(()) => Ok(()),
            Err(busy) if busy.errno.raw() == libc::EBUSY => {
                let answer = below(id).and_then(|()| {
                    call::umount(&name, false).map_err(|refused| self.failed(refused))
                });
                if let Err(error) = answer {
                    call::umount(&name, true).map_err(|refused| self.failed(refused))?;
                    // EINVAL: one below is locked to what is above it.
                    return if error.errno() == Some(Errno::EINVAL) { Ok(()) } else { Err(error) };
                }
                Ok(())
            }
            Err(refused) => Err(self.failed(refused)),
        }
    }

    /// Leaves it mounted; tells where.
    pub fn keep(mut self) -> PathBuf {
        self.ours = false;
        std::mem::take(&mut self.path)
    }

    /// Finds this very mount at its path, and cuts it off from its source.
    ///
    /// By name: an open fd keeps a mount busy, in whoever forks just then as well.
    fn find(&self) -> Result<CString> {
        let name = c_string("path", &self.path)?;
        if call::mount_id(At::Path(&name), true).map_err(|r| self.failed(r))? != self.id {
            let (kind, reason) = match MountTable::of_caller()?.at(&self.path) {
                Some(_) => (ErrorKind::Conflict, "something else is mounted there"),
                None => (ErrorKind::NotFound, "it is not there any more"),
            };
            return Err(Failure::ours(kind, self.operation(), reason).into());
        }
        if self.peers {
            // What is unmounted below a shared mount is unmounted below its peers:
            // with a copy of / that would be all of the host.
            let propagation = Propagation::Private.bits();
            let attr = MountAttr { propagation, ..MountAttr::default() };
            call::mount_setattr(At::Path(&name), &attr).map_err(|r| self.failed(r))?;
        }
        Ok(name)
    }

    fn operation(&self) -> String {
        format!("unmount {}", self.path.display())
    }

    fn failed(&self, refused: Refused) -> Error {
        failed(self.operation(), refused).into()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.ours {
            // Nobody is left to be told.
            if let Ok(name) = self.find() {
                let _ = call::umount(&name, true);
            }
        }
    }
}

/// Unmounts what is mounted below a mount, the last first.
fn below(id: u64) -> Result<()> {
    for entry in MountTable::of_caller()?.under(id).iter().rev() {
        let name = c_string("path", entry.mount_point())?;
        call::umount(&name, false)
            .map_err(|r| failed(format!("unmount {}", entry.mount_point().display()), r))?;
    }
    Ok(())
}
