//! A directory of one's own that is gone afterwards.

use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of such directories begin.
pub(crate) const PREFIX: &str = "ireko-test-";

/// A new directory below the system's one for temporary files, removed when dropped.
///
/// The removal goes from descriptor to descriptor: it follows no link and enters no mount.
/// Mounts that are left inside are detached if the caller may do that.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// One that nobody else can enter: mode 0700.
    ///
    /// # Panics
    /// When it cannot be made.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self::with_mode(0o700)
    }

    /// One that everybody can read: mode 0755.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn public() -> Self {
        Self::with_mode(0o755)
    }

    fn with_mode(mode: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let name = format!("{PREFIX}{}-{n}-{:x}", std::process::id(), now.subsec_nanos());
            let path = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    // Past the umask.
                    made.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
                        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    return Self(path);
                }
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Removes it, and tells what could not be removed.
    ///
    /// # Errors
    /// The first failure; the rest has been removed.
    pub fn close(self) -> io::Result<()> {
        let result = self.remove();
        std::mem::forget(self);
        result
    }

    fn remove(&self) -> io::Result<()> {
        let (Some(parent), Some(name)) = (self.0.parent(), self.0.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = fs::File::open(parent)?;
        remove(&parent.into(), &CString::new(name.as_bytes())?)
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Removes one name in a directory, with all below it.
fn remove(parent: &OwnedFd, name: &CStr) -> io::Result<()> {
    let first = match unlink(parent, name, 0) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            detach(parent, name)?;
            return remove(parent, name);
        }
        first => first,
    };
    // A directory answers EISDIR.
    if !first.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EISDIR)) {
        return first;
    }
    let directory = match open(parent, name) {
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
            detach(parent, name)?;
            return remove(parent, name);
        }
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            // SAFETY: a descriptor and a string; the name is a directory's.
            unsafe { libc::fchmodat(parent.as_raw_fd(), name.as_ptr(), 0o700, 0) };
            open(parent, name)?
        }
        opened => opened?,
    };
    let mut failed = None;
    for name in entries(&directory)? {
        let removed = match remove(&directory, &name) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                // SAFETY: an open descriptor.
                unsafe { libc::fchmod(directory.as_raw_fd(), 0o700) };
                remove(&directory, &name)
            }
            removed => removed,
        };
        failed = failed.or(removed.err());
    }
    drop(directory);
    match failed {
        Some(error) => Err(error),
        None => unlink(parent, name, libc::AT_REMOVEDIR),
    }
}

fn unlink(parent: &OwnedFd, name: &CStr, flags: i32) -> io::Result<()> {
    // SAFETY: an open descriptor and a string that ends in zero.
    check(unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), flags) }.into()).map(drop)
}

/// Takes the topmost mount off a name.
fn detach(parent: &OwnedFd, name: &CStr) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let path = CString::new(path)?;
    let flags = libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW;
    // SAFETY: a string that ends in zero.
    check(unsafe { libc::umount2(path.as_ptr(), flags) }.into()).map(drop)
}

/// Opens a directory that is one, on the same mount.
fn open(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: a structure of three numbers, for which zero is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH;
    // SAFETY: an open descriptor, a string that ends in zero, a structure of the size given.
    let fd = check(unsafe {
        let size = size_of::<libc::open_how>();
        libc::syscall(libc::SYS_openat2, parent.as_raw_fd(), name.as_ptr(), &raw const how, size)
    })?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The names in an open directory.
fn entries(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let names = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
    names.map(|name| Ok(CString::new(name?.as_bytes())?)).collect()
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
