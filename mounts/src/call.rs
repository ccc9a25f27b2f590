//! The mount calls themselves. libc wraps none of them.

use ireko_sys::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_SET_FD: u32 = 5;
const FSCONFIG_CMD_CREATE: u32 = 6;
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
const STATX_MNT_ID: u32 = 0x1000;
/// Linux 6.8; an older kernel ignores it and answers with the other.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// Which call said no, since when there is one, and how it put it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) call: &'static str,
    pub(crate) since: (u32, u32),
    pub(crate) errno: Errno,
}

/// A mount by its fd, or by its path without following a link at the end.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Fd(BorrowedFd<'a>),
    Path(&'a CStr),
}

impl At<'_> {
    fn parts(&self) -> (RawFd, &CStr, u32) {
        match self {
            Self::Fd(fd) => (fd.as_raw_fd(), c"", AT_EMPTY_PATH),
            Self::Path(path) => (libc::AT_FDCWD, path, libc::AT_SYMLINK_NOFOLLOW as u32),
        }
    }
}

/// What `mount_setattr` changes: the kernel's `struct mount_attr`, version 0.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) user_namespace: u64,
}

/// Turns an answer into the number it holds.
fn answer(call: &'static str, since: (u32, u32), r: libc::c_long) -> Result<libc::c_long, Refused> {
    if r < 0 { Err(Refused { call, since, errno: Errno::last() }) } else { Ok(r) }
}

/// Turns an answer into the fd it holds, clear of the numbers of the standard streams.
fn owned(call: &'static str, since: (u32, u32), r: libc::c_long) -> Result<OwnedFd, Refused> {
    let fd = answer(call, since, r)? as RawFd;
    // SAFETY: the kernel has just given us this fd, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if fd.as_raw_fd() >= 10 {
        return Ok(fd);
    }
    ireko_sys::above(10, fd).map_err(|e| Refused {
        call: "fcntl",
        since: (2, 6),
        errno: e.errno().unwrap_or(Errno::EINVAL),
    })
}

pub(crate) fn fsopen(kind: &CStr) -> Result<OwnedFd, Refused> {
    // SAFETY: a NUL-terminated name that outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
    owned("fsopen", (5, 2), r)
}

pub(crate) fn set_flag(context: &File, key: &CStr) -> Result<(), Refused> {
    fsconfig(context, FSCONFIG_SET_FLAG, Some(key), None, 0)
}

pub(crate) fn set_string(context: &File, key: &CStr, value: &CStr) -> Result<(), Refused> {
    fsconfig(context, FSCONFIG_SET_STRING, Some(key), Some(value), 0)
}

pub(crate) fn set_fd(context: &File, key: &CStr, fd: BorrowedFd<'_>) -> Result<(), Refused> {
    fsconfig(context, FSCONFIG_SET_FD, Some(key), None, fd.as_raw_fd())
}

pub(crate) fn create(context: &File) -> Result<(), Refused> {
    fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0)
}

fn fsconfig(
    context: &File,
    command: u32,
    key: Option<&CStr>,
    value: Option<&CStr>,
    aux: RawFd,
) -> Result<(), Refused> {
    // SAFETY: key and value are null or NUL-terminated strings that outlive the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key.map_or(ptr::null(), CStr::as_ptr),
            value.map_or(ptr::null(), CStr::as_ptr),
            aux,
        )
    };
    answer("fsconfig", (5, 2), r).map(drop)
}

pub(crate) fn fsmount(context: &File, attributes: u64) -> Result<OwnedFd, Refused> {
    // SAFETY: numbers only.
    let r = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes as libc::c_uint,
        )
    };
    owned("fsmount", (5, 2), r)
}

/// A copy of the mount at `path`, or of the one that `dir` is on when there is no path.
pub(crate) fn open_tree(
    dir: BorrowedFd<'_>,
    path: Option<&CStr>,
    recursive: bool,
) -> Result<OwnedFd, Refused> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    flags |= if recursive { AT_RECURSIVE } else { 0 };
    flags |= if path.is_none() { AT_EMPTY_PATH } else { 0 };
    // SAFETY: a NUL-terminated path that outlives the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            dir.as_raw_fd(),
            path.unwrap_or_default().as_ptr(),
            flags,
        )
    };
    owned("open_tree", (5, 2), r)
}

/// Changes a mount and all below it, or nothing.
pub(crate) fn mount_setattr(mount: At<'_>, attr: &MountAttr) -> Result<(), Refused> {
    let (dir, path, flags) = mount.parts();
    // SAFETY: a NUL-terminated path, and a structure whose true size is passed.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags | AT_RECURSIVE,
            ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    answer("mount_setattr", (5, 12), r).map(drop)
}

pub(crate) fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Refused> {
    // SAFETY: empty paths and numbers.
    let r = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    answer("move_mount", (5, 2), r).map(drop)
}

/// Holds what is at `path`.
pub(crate) fn open_path(path: &CStr) -> Result<OwnedFd, Refused> {
    // SAFETY: a NUL-terminated path that outlives the call.
    let r = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    owned("open", (2, 6), r.into())
}

/// The id in `mountinfo` of the mount that this is on, or the one that is never used again.
pub(crate) fn mount_id(of: At<'_>, for_ever: bool) -> Result<u64, Refused> {
    let (dir, path, flags) = of.parts();
    let mask = STATX_MNT_ID | if for_ever { STATX_MNT_ID_UNIQUE } else { 0 };
    // SAFETY: statx is a plain structure that the call fills; it may start as zeroes.
    let (r, found) = unsafe {
        let mut found: libc::statx = std::mem::zeroed();
        let r = libc::syscall(
            libc::SYS_statx,
            dir,
            path.as_ptr(),
            flags | libc::AT_STATX_DONT_SYNC as u32,
            mask,
            ptr::from_mut(&mut found),
        );
        (r, found)
    };
    answer("statx", (4, 11), r)?;
    if found.stx_mask & mask == 0 {
        return Err(Refused { call: "statx", since: (5, 8), errno: Errno::ENOSYS });
    }
    Ok(found.stx_mnt_id)
}

pub(crate) fn umount(path: &CStr, lazily: bool) -> Result<(), Refused> {
    let flags = libc::UMOUNT_NOFOLLOW | if lazily { libc::MNT_DETACH } else { 0 };
    // SAFETY: a NUL-terminated path that outlives the call.
    let r = unsafe { libc::umount2(path.as_ptr(), flags) };
    answer("umount2", (2, 4), r.into()).map(drop)
}

pub(crate) fn is_user_namespace(fd: impl AsFd) -> bool {
    // SAFETY: this request takes no argument.
    let kind = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) };
    kind == libc::CLONE_NEWUSER
}

/// What `uname -r` says.
pub(crate) fn release() -> String {
    // SAFETY: uname fills a plain structure; each of its strings ends with a NUL.
    unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&mut name);
        CStr::from_ptr(name.release.as_ptr()).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn has_the_kernels_layout() {
        assert_eq!(size_of::<super::MountAttr>(), libc::MOUNT_ATTR_SIZE_VER0 as usize);
    }
}
