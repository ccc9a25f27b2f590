//! The few calls on cgroup directories, all relative to one that is held open.

use ireko_sys::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode};
use nix::unistd::UnlinkatFlags;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The kernel's answer, bare: who calls knows what it was for.
pub(crate) type Sys<T> = Result<T, Errno>;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

/// Clear of the low numbers, which a child is given files under.
fn high(fd: OwnedFd) -> Sys<OwnedFd> {
    if fd.as_raw_fd() >= 10 {
        return Ok(fd);
    }
    ireko_sys::above(10, &fd).map_err(|e| e.errno().unwrap_or(Errno::EINVAL))
}

/// A directory by its full path, which may be a symlink no more than a name may.
pub(crate) fn open_path(path: &Path) -> Sys<OwnedFd> {
    high(nix::fcntl::open(path, DIRECTORY, Mode::empty())?)
}

pub(crate) fn open_dir(at: BorrowedFd<'_>, name: &CStr) -> Sys<OwnedFd> {
    high(nix::fcntl::openat(at, name, DIRECTORY, Mode::empty())?)
}

pub(crate) fn open_write(dir: BorrowedFd<'_>, file: &CStr) -> Sys<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    high(nix::fcntl::openat(dir, file, flags, Mode::empty())?)
}

pub(crate) fn open_read(dir: BorrowedFd<'_>, file: &CStr) -> Sys<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    Ok(nix::fcntl::openat(dir, file, flags, Mode::empty())?)
}

pub(crate) fn mkdir(at: BorrowedFd<'_>, name: &CStr) -> Sys<()> {
    Ok(nix::sys::stat::mkdirat(at, name, Mode::from_bits_truncate(0o755))?)
}

pub(crate) fn rmdir(at: BorrowedFd<'_>, name: &CStr) -> Sys<()> {
    Ok(nix::unistd::unlinkat(at, name, UnlinkatFlags::RemoveDir)?)
}

/// Writes a value in one call, as the kernel wants it.
pub(crate) fn write(dir: BorrowedFd<'_>, file: &CStr, value: &[u8]) -> Sys<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let fd = nix::fcntl::openat(dir, file, flags, Mode::empty())?;
    loop {
        match nix::unistd::write(&fd, value) {
            Ok(_) => return Ok(()),
            // v1 gives up shrinking a limit when a signal comes.
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// All of a file.
pub(crate) fn read(dir: BorrowedFd<'_>, file: &CStr) -> Sys<String> {
    read_all(open_read(dir, file)?.as_fd())
}

pub(crate) fn read_all(fd: BorrowedFd<'_>) -> Sys<String> {
    let mut text = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        match nix::unistd::read(fd, &mut chunk) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Takes the lease on a directory; `false`: somebody alive has it.
pub(crate) fn lock(dir: BorrowedFd<'_>) -> Sys<bool> {
    loop {
        // SAFETY: flock takes an open fd and a number.
        if unsafe { libc::flock(dir.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(true);
        }
        match Errno::last() {
            e if e.raw() == libc::EWOULDBLOCK => return Ok(false),
            e if e.raw() == libc::EINTR => {}
            e => return Err(e),
        }
    }
}

/// Whether the name still means the directory that is held: a removed one's link
/// count stays as it was, so it must be looked up again.
pub(crate) fn is_at(at: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>) -> Sys<bool> {
    let held = nix::sys::stat::fstat(dir)?;
    match nix::sys::stat::fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(identity(&found) == identity(&held)),
        Err(nix::errno::Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn identity(stat: &FileStat) -> (libc::dev_t, libc::ino_t) {
    (stat.st_dev, stat.st_ino)
}

pub(crate) fn exists(dir: BorrowedFd<'_>, file: &CStr) -> bool {
    nix::sys::stat::fstatat(dir, file, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

/// Whether the caller may make entries here: ids and a read-only mount are asked.
pub(crate) fn writable(dir: BorrowedFd<'_>) -> Sys<()> {
    let mode = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
    Ok(nix::unistd::faccessat(dir, c".", mode, AtFlags::AT_EACCESS)?)
}

/// The file system's magic number.
pub(crate) fn magic(dir: BorrowedFd<'_>) -> Sys<libc::c_long> {
    // SAFETY: statfs fills a plain structure on this stack.
    unsafe {
        let mut fs: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(dir.as_raw_fd(), &mut fs) < 0 {
            return Err(Errno::last());
        }
        Ok(fs.f_type as libc::c_long)
    }
}

/// What is in a directory; `true` for directories.
pub(crate) fn entries(dir: BorrowedFd<'_>) -> Sys<Vec<(CString, bool)>> {
    let mut dir = nix::dir::Dir::openat(dir, c".", DIRECTORY, Mode::empty())?;
    let mut found = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let is_dir = entry.file_type() == Some(nix::dir::Type::Directory);
            found.push((name.to_owned(), is_dir));
        }
    }
    Ok(found)
}

/// The directories in a directory.
pub(crate) fn subdirs(dir: BorrowedFd<'_>) -> Sys<Vec<CString>> {
    Ok(entries(dir)?.into_iter().filter_map(|(name, is_dir)| is_dir.then_some(name)).collect())
}

/// Sets a mark, an extended attribute that cgroup file systems keep for as long as
/// the group is there.
pub(crate) fn mark(dir: BorrowedFd<'_>, name: &CStr) -> Sys<()> {
    let value = b"1";
    // SAFETY: a NUL-terminated name, and a value with its true length.
    let r = unsafe {
        libc::fsetxattr(dir.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if r < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// Takes a mark away, if it is there.
pub(crate) fn unmark(dir: BorrowedFd<'_>, name: &CStr) {
    // SAFETY: a NUL-terminated name.
    unsafe { libc::fremovexattr(dir.as_raw_fd(), name.as_ptr()) };
}

/// Whether a directory has a mark that says 1.
pub(crate) fn marked(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    let mut value = [0u8; 8];
    // SAFETY: a NUL-terminated name, and a buffer with its true length.
    let n = unsafe {
        libc::fgetxattr(dir.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    n == 1 && value[0] == b'1'
}
