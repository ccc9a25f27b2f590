use crate::root::{beneath, openat2};
use crate::{Errno, ErrorKind, Failure, Pidfd, Result};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A `/proc` of our own, or one verified to be procfs.
///
/// Lookups stay beneath it and follow no link, so that what is written to
/// `self/uid_map` is written there, whatever is mounted where.
#[derive(Clone, Debug)]
pub struct ProcRoot(Arc<OwnedFd>);

/// Kept for the life of the process, made anew after a fork: a detached procfs
/// belongs to the pid namespace it was made in.
static KEPT: Mutex<Option<(u32, ProcRoot)>> = Mutex::new(None);

impl ProcRoot {
    /// A detached mount where that is allowed, else the host's, checked.
    ///
    /// # Errors
    /// `Unsupported` where `/proc` is not procfs.
    pub fn open() -> Result<Self> {
        let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let me = std::process::id();
        match &*kept {
            Some((pid, root)) if *pid == me => Ok(root.clone()),
            _ => {
                let root = Self(Arc::new(Self::detached().or_else(|_| Self::of_host())?));
                *kept = Some((me, root.clone()));
                Ok(root)
            }
        }
    }

    fn detached() -> Result<OwnedFd, Errno> {
        fn fd(r: libc::c_long) -> Result<OwnedFd, Errno> {
            // SAFETY: a non-negative answer is a new fd that nobody else knows.
            if r < 0 { Err(Errno::last()) } else { Ok(unsafe { OwnedFd::from_raw_fd(r as i32) }) }
        }
        const FSOPEN_CLOEXEC: i32 = 1;
        const FSMOUNT_CLOEXEC: i32 = 1;
        const FSCONFIG_CMD_CREATE: i32 = 6;
        // SAFETY: a NUL-terminated name; numbers and nulls otherwise.
        unsafe {
            let fs = fd(libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC))?;
            let null = std::ptr::null::<u8>();
            if libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0)
                < 0
            {
                return Err(Errno::last());
            }
            let flags = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
            let mount =
                fd(libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), FSMOUNT_CLOEXEC, flags))?;
            crate::above(10, mount).map_err(|e| e.errno().unwrap_or(Errno::EINVAL))
        }
    }

    fn of_host() -> Result<OwnedFd> {
        let failed = |errno| Failure::kernel("open /proc", errno);
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: a NUL-terminated path.
        let fd = unsafe { libc::open(c"/proc".as_ptr(), flags) };
        if fd < 0 {
            return Err(failed(Errno::last()).into());
        }
        // SAFETY: the kernel has just given us this fd, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: statfs fills a plain structure on this stack.
        let kind = unsafe {
            let mut fs: libc::statfs = std::mem::zeroed();
            if libc::fstatfs(fd.as_raw_fd(), &mut fs) < 0 {
                return Err(failed(Errno::last()).into());
            }
            fs.f_type
        };
        if kind != libc::PROC_SUPER_MAGIC {
            return Err(Failure::ours(
                ErrorKind::Unsupported,
                "open /proc",
                "what is there is no procfs",
            )
            .into());
        }
        crate::above(10, fd)
    }

    /// Opens a file below it for reading, `self/status` say.
    ///
    /// # Errors
    /// `NotFound`, `Denied`.
    pub fn read(&self, path: &str) -> Result<File> {
        self.file(path, libc::O_RDONLY)
    }

    /// Opens a file below it for writing, `self/uid_map` say.
    ///
    /// # Errors
    /// `NotFound`, `Denied`.
    pub fn write(&self, path: &str) -> Result<File> {
        self.file(path, libc::O_WRONLY)
    }

    /// A file of a process, `"status"` say: never of another that took its number.
    ///
    /// # Errors
    /// `NotFound` when it has ended.
    pub fn of(&self, process: &Pidfd, file: &str) -> Result<File> {
        let pid = process.pid()?;
        let opened = self.read(&format!("{pid}/{file}"))?;
        // Whoever has the number now is the same one when it still lives.
        if process.pid().ok() == Some(pid) {
            return Ok(opened);
        }
        let reason = "the process has ended";
        Err(Failure::ours(ErrorKind::NotFound, format!("open {file}"), reason).into())
    }

    /// What a link below it says, `self/fd/3` say.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what is no link.
    pub fn link(&self, path: &str) -> Result<PathBuf> {
        let failed = |errno| Failure::kernel(format!("read the link /proc/{path}"), errno);
        // thread-self and self are links themselves, which procfs alone makes.
        let name = CString::new(path).map_err(|_| failed(Errno::EINVAL))?;
        let mut buffer = vec![0u8; libc::PATH_MAX as usize];
        // SAFETY: the buffer's true length is passed.
        let n = unsafe {
            libc::readlinkat(
                self.0.as_raw_fd(),
                name.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        if n < 0 {
            return Err(failed(Errno::last()).into());
        }
        buffer.truncate(n as usize);
        Ok(PathBuf::from(std::ffi::OsString::from_vec(buffer)))
    }

    /// Opens what an `O_PATH` fd holds, for reading.
    pub(crate) fn reopen(&self, fd: BorrowedFd<'_>) -> Result<File> {
        let path = format!("{}/fd/{}", std::process::id(), fd.as_raw_fd());
        let name = CString::new(path).map_err(|_| Failure::kernel("reopen", Errno::EINVAL))?;
        openat2(self.0.as_fd(), &name, libc::O_RDONLY | libc::O_NOCTTY, 0)
            .map(File::from)
            .map_err(|errno| Failure::kernel("open a file that is held", errno).into())
    }

    fn file(&self, path: &str, flags: i32) -> Result<File> {
        let failed = |errno| Failure::kernel(format!("open /proc/{path}"), errno);
        // `self` is a symlink of procfs itself: say the number instead.
        let numbered = match path.strip_prefix("self/") {
            Some(rest) => format!("{}/{rest}", std::process::id()),
            None => path.to_owned(),
        };
        let name = CString::new(numbered).map_err(|_| failed(Errno::EINVAL))?;
        beneath(self.0.as_fd(), &name, flags | libc::O_NOCTTY)
            .map(File::from)
            .map_err(|errno| failed(errno).into())
    }
}

impl AsFd for ProcRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn reads_own_files_and_follows_no_link() {
        let proc = ProcRoot::open().unwrap();
        let mut text = String::new();
        proc.read("self/status").unwrap().read_to_string(&mut text).unwrap();
        assert!(text.contains(&format!("Pid:\t{}\n", std::process::id())), "{text}");
        assert!(proc.read("self/cwd/Cargo.toml").is_err());
        assert!(proc.read("self/../../etc/passwd").is_err());
        assert!(proc.link("self/exe").unwrap().is_absolute());
    }
}
