use crate::{Errno, ErrorKind, Failure, Result};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

const RESOLVE_NO_XDEV: u64 = 0x01;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// A lookup that a rename or a mount disturbed is tried again this often.
const TRIES: u32 = 1 << 16;

pub(crate) fn openat2(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    resolve: u64,
) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve };
    let mut tries = TRIES;
    loop {
        // SAFETY: a NUL-terminated path and a structure whose size is passed.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                std::mem::size_of::<OpenHow>(),
            )
        };
        if fd >= 0 {
            // SAFETY: the kernel has just given us this fd, and nobody else knows it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
        }
        let errno = Errno::last();
        tries -= 1;
        if tries == 0 || !matches!(errno.raw(), libc::EAGAIN | libc::EINTR) {
            return Err(errno);
        }
    }
}

pub(crate) fn beneath(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    openat2(dir, path, flags, resolve)
}

pub(crate) fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        Failure::ours(ErrorKind::Invalid, format!("use the path {path:?}"), "it holds a NUL byte")
            .into()
    })
}

/// A directory tree that no path, symlink or rename can lead out of.
///
/// Every lookup goes through
/// [`openat2(2)`](https://man7.org/linux/man-pages/man2/openat2.2.html) with
/// `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`; there is no way back to a host
/// path. Linux 5.6.
#[doc(alias = "openat2")]
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Holds the directory at `path`, looked up once.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when it is no directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = c_path(path)?;
        // SAFETY: a NUL-terminated path that outlives the call.
        let fd = unsafe {
            libc::open(name.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)
        };
        if fd < 0 {
            return Err(Failure::kernel(format!("open {}", path.display()), Errno::last()).into());
        }
        // SAFETY: the kernel has just given us this fd, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Looks `path` up inside the tree, as a process whose `/` is this directory
    /// would see it.
    ///
    /// # Errors
    /// `NotFound`; `Denied`; `Kernel` (`ELOOP`) for a magic link or a loop.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<InRoot> {
        let path = path.as_ref();
        openat2(
            self.0.as_fd(),
            &c_path(path)?,
            libc::O_PATH,
            RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        )
        .map(InRoot)
        .map_err(|errno| {
            Failure::kernel(format!("look up {} inside", path.display()), errno).into()
        })
    }

    /// Makes the directory and its missing parents, mode 0755; present ones stay.
    ///
    /// # Errors
    /// `Invalid` where a part of it is there and no directory, or is `..`.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<InRoot> {
        let path = path.as_ref();
        let mut done = PathBuf::from("/");
        let mut at = self.resolve("/")?;
        for component in path.components() {
            let name = match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => name,
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(Failure::ours(
                        ErrorKind::Invalid,
                        format!("make the directory {} inside", path.display()),
                        "it holds ..",
                    )
                    .into());
                }
            };
            let c_name = c_path(Path::new(name))?;
            // SAFETY: an open directory and a NUL-terminated name without slashes.
            let r = unsafe { libc::mkdirat(at.0.as_raw_fd(), c_name.as_ptr(), 0o755) };
            done.push(name);
            if r < 0 && Errno::last().raw() != libc::EEXIST {
                let what = format!("make the directory {} inside", done.display());
                return Err(Failure::kernel(what, Errno::last()).into());
            }
            // What was made, or was there: from the root on, so that links count.
            at = self.resolve(&done)?;
        }
        Ok(at)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Something found inside a [`Root`], held by an `O_PATH` fd.
#[derive(Debug)]
pub struct InRoot(OwnedFd);

impl InRoot {
    /// Opens it for reading.
    ///
    /// # Errors
    /// `Invalid` for anything that is not a regular file: no fifo or device is
    /// ever opened.
    pub fn open(&self) -> Result<File> {
        let held = File::from(self.0.try_clone().map_err(|e| failed("hold a file", &e))?);
        let kind = held.metadata().map_err(|e| failed("look at a file inside", &e))?.file_type();
        if !kind.is_file() {
            let what = if kind.is_fifo() { "a fifo" } else { "not a regular file" };
            return Err(Failure::ours(
                ErrorKind::Invalid,
                format!("open {} inside", self.path().display()),
                what,
            )
            .into());
        }
        // The kernel's own link to an open file: it cannot be replaced by a name.
        crate::ProcRoot::open()?.reopen(self.0.as_fd())
    }

    /// Where it was found, without symlinks: for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        crate::ProcRoot::open()
            .and_then(|proc| proc.link(&format!("self/fd/{}", self.0.as_raw_fd())))
            .unwrap_or_default()
    }
}

fn failed(what: &'static str, error: &std::io::Error) -> crate::Error {
    Failure::kernel(what, Errno::of(error)).into()
}

impl AsFd for InRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<InRoot> for OwnedFd {
    fn from(found: InRoot) -> Self {
        found.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    struct Dir(PathBuf);
    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("ireko-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn no_symlink_leads_out() {
        let dir = Dir::new("root");
        std::fs::create_dir(dir.0.join("etc")).unwrap();
        std::fs::write(dir.0.join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.0.join("absolute")).unwrap();
        symlink("../../../../etc/passwd", dir.0.join("relative")).unwrap();
        symlink("/proc/self/root", dir.0.join("magic")).unwrap();
        let root = Root::open(&dir.0).unwrap();
        for path in ["absolute", "relative", "/etc/passwd", "../../etc/passwd"] {
            let mut text = String::new();
            root.resolve(path).unwrap().open().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside", "{path}");
        }
        assert_eq!(root.resolve("magic").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn opens_regular_files_only() {
        let dir = Dir::new("fifo");
        nix::unistd::mkfifo(&dir.0.join("f"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = Root::open(&dir.0).unwrap();
        assert_eq!(root.resolve("f").unwrap().open().unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(root.resolve("/").unwrap().open().unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn makes_directories_inside() {
        let dir = Dir::new("mkdir");
        symlink("/tmp", dir.0.join("out")).unwrap();
        std::fs::create_dir(dir.0.join("tmp")).unwrap();
        let root = Root::open(&dir.0).unwrap();
        root.create_dir_all("out/a/b").unwrap();
        assert!(dir.0.join("tmp/a/b").is_dir());
        assert_eq!(root.create_dir_all("a/../b").unwrap_err().kind(), ErrorKind::Invalid);
    }
}
