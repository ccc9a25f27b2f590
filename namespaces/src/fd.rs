use crate::{Namespaces, Result};
use ireko_sys::{Errno, ErrorKind, Failure, Pidfd, ProcRoot};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A namespace of any kind, held open: it lives on after its last process.
#[derive(Clone, Debug)]
pub struct NsFd(Arc<OwnedFd>);

mod ioctl {
    //! The requests of ioctl_ns(2).
    pub(super) const USERNS: libc::c_ulong = 0xb701;
    pub(super) const PARENT: libc::c_ulong = 0xb702;
    pub(super) const NSTYPE: libc::c_ulong = 0xb703;
}

impl NsFd {
    /// The namespace of this one kind that a process is in.
    ///
    /// # Errors
    /// `Invalid` for none or several kinds; `Denied` where the caller may not
    /// look into that process.
    pub fn of_process(process: &Pidfd, kind: Namespaces) -> Result<Self> {
        let name = one(kind)?;
        let pid = process.pid()?;
        let link = open_link(&format!("{pid}/ns/{name}"))?;
        if process.pid().ok() != Some(pid) {
            let what = format!("open the {name} namespace of process {pid}");
            return Err(Failure::ours(ErrorKind::NotFound, what, "it has ended").into());
        }
        Ok(link)
    }

    /// The namespace of this one kind that the calling thread is in.
    ///
    /// # Errors
    /// `Invalid` for none or several kinds.
    pub fn of_thread(kind: Namespaces) -> Result<Self> {
        open_link(&format!("thread-self/ns/{}", one(kind)?))
    }

    /// A pinned namespace, or one under `/proc/PID/ns`.
    ///
    /// # Errors
    /// `Invalid` for other files; `NotFound`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed =
            |errno| Failure::kernel(format!("open the namespace {}", path.display()), errno);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|e| failed(Errno::of(&e)))?;
        Self::try_from(OwnedFd::from(file))
    }

    /// The one kind it is. Linux 4.11.
    ///
    /// # Errors
    /// `Kernel`, should the kernel not tell.
    #[doc(alias = "NS_GET_NSTYPE")]
    pub fn kind(&self) -> Result<Namespaces> {
        // SAFETY: this request takes no argument.
        let kind = unsafe { libc::ioctl(self.0.as_raw_fd(), ioctl::NSTYPE) };
        if kind < 0 {
            return Err(Failure::kernel("ask a namespace for its kind", Errno::last()).into());
        }
        Ok(Namespaces::from_bits_retain(kind as u32))
    }

    /// The kernel's number for it: equal numbers, same namespace.
    ///
    /// # Errors
    /// `Kernel`, should the kernel not tell.
    pub fn id(&self) -> Result<u64> {
        let file = File::from(self.0.try_clone().map_err(|e| look(&e))?);
        Ok(file.metadata().map_err(|e| look(&e))?.ino())
    }

    /// The user namespace that owns it. Without `CAP_SYS_ADMIN` there, it cannot be
    /// entered. Linux 4.9.
    ///
    /// # Errors
    /// `Denied` when the owner is not visible from the caller's user namespace.
    #[doc(alias = "NS_GET_USERNS")]
    pub fn owner(&self) -> Result<NsFd> {
        self.ask(ioctl::USERNS, "ask a namespace for its owner")
    }

    /// The pid or user namespace around it. Linux 4.9.
    ///
    /// # Errors
    /// `Invalid` for the flat kinds; `Denied` at the caller's own.
    #[doc(alias = "NS_GET_PARENT")]
    pub fn parent(&self) -> Result<NsFd> {
        self.ask(ioctl::PARENT, "ask a namespace for its parent")
    }

    /// Keeps it under a name: a bind mount on an empty file that is made here.
    ///
    /// # Errors
    /// `Conflict` when the name is taken; `Denied` without `CAP_SYS_ADMIN`.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let what = || format!("pin a namespace at {}", path.display());
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(path)
            .map_err(|e| Failure::kernel(what(), Errno::of(&e)))?;
        let bound = bind(self.0.as_fd(), path);
        if let Err(errno) = bound {
            // What was made here goes again.
            let _ = std::fs::remove_file(path);
            return Err(Failure::kernel(what(), errno).into());
        }
        Ok(())
    }

    fn ask(&self, request: libc::c_ulong, what: &'static str) -> Result<NsFd> {
        // SAFETY: these requests take no argument.
        let fd = unsafe { libc::ioctl(self.0.as_raw_fd(), request) };
        if fd < 0 {
            return Err(Failure::kernel(what, Errno::last()).into());
        }
        // SAFETY: the kernel has just given us this fd, and nobody else knows it.
        Self::keep(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Clear of the low numbers, which a start gives to others before it enters this.
    fn keep(fd: OwnedFd) -> Result<Self> {
        let fd = if fd.as_raw_fd() < 10 { ireko_sys::above(10, fd)? } else { fd };
        Ok(Self(Arc::new(fd)))
    }
}

fn look(error: &std::io::Error) -> Failure {
    Failure::kernel("look at a namespace", Errno::of(error))
}

fn one(kind: Namespaces) -> Result<&'static str> {
    kind.proc_name().ok_or_else(|| {
        Failure::ours(ErrorKind::Invalid, "open a namespace", format!("one kind, not {kind}"))
            .into()
    })
}

/// Opens a link of procfs that leads to a namespace: the one place where such a link
/// is followed, below a procfs of our own.
fn open_link(path: &str) -> Result<NsFd> {
    let proc = ProcRoot::open()?;
    let what = || format!("open the namespace /proc/{path}");
    let name = std::ffi::CString::new(path).map_err(|_| Failure::kernel(what(), Errno::EINVAL))?;
    // SAFETY: an open directory and a NUL-terminated path.
    let fd = unsafe {
        libc::openat(proc.as_fd().as_raw_fd(), name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)
    };
    if fd < 0 {
        return Err(Failure::kernel(what(), Errno::last()).into());
    }
    // SAFETY: the kernel has just given us this fd, and nobody else knows it.
    NsFd::try_from(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(from: BorrowedFd<'_>, to: &Path) -> Result<(), Errno> {
    use std::os::unix::ffi::OsStrExt;
    let to = std::ffi::CString::new(to.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let empty = c"".as_ptr();
    // SAFETY: NUL-terminated texts and numbers.
    unsafe {
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
        let tree = libc::syscall(libc::SYS_open_tree, from.as_raw_fd(), empty, flags);
        if tree < 0 {
            return Err(Errno::last());
        }
        let tree = OwnedFd::from_raw_fd(tree as RawFd);
        let (from, flag) = (tree.as_raw_fd(), libc::MOVE_MOUNT_F_EMPTY_PATH);
        if libc::syscall(libc::SYS_move_mount, from, empty, libc::AT_FDCWD, to.as_ptr(), flag) < 0 {
            return Err(Errno::last());
        }
    }
    Ok(())
}

/// `Invalid` when the file is no namespace.
impl TryFrom<OwnedFd> for NsFd {
    type Error = crate::Error;

    fn try_from(fd: OwnedFd) -> Result<Self> {
        let ns = Self::keep(fd)?;
        if ns.kind().is_err() {
            let what = "take a file for a namespace";
            return Err(Failure::ours(ErrorKind::Invalid, what, "it is none").into());
        }
        Ok(ns)
    }
}

impl AsFd for NsFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for NsFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_kind_number_and_owner() {
        let uts = NsFd::open("/proc/self/ns/uts").unwrap();
        assert_eq!(uts.kind().unwrap(), Namespaces::UTS);
        assert_eq!(uts.id().unwrap(), NsFd::of_thread(Namespaces::UTS).unwrap().id().unwrap());
        assert_eq!(uts.owner().unwrap().kind().unwrap(), Namespaces::USER);
        assert_eq!(uts.parent().unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn refuses_other_files_and_several_kinds() {
        assert_eq!(NsFd::open("/dev/null").unwrap_err().kind(), ErrorKind::Invalid);
        let two = Namespaces::UTS | Namespaces::NET;
        assert_eq!(NsFd::of_thread(two).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
