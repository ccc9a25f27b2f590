//! Where the helper's file comes from.

use crate::Result;
use ireko_sys::{Errno, Failure};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// `child/src/helper.rs`, built by this crate's build script.
static ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/helper"));

/// Kept for the life of the process; a fork of it may use it as well.
static KEPT: Mutex<Option<Arc<OwnedFd>>> = Mutex::new(None);

/// Directories in which an unnamed file may be executed, tried in this order where a
/// memfd may not (`vm.memfd_noexec=2`, or a security module).
const DIRECTORIES: [&str; 4] = ["/dev/shm", "/run", "/tmp", "/var/tmp"];

/// The helper: a sealed memfd where that may be executed, else an unnamed file that is
/// open for reading alone. Never a path from the environment.
pub(crate) fn file() -> Result<Arc<OwnedFd>> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = &*kept {
        return Ok(file.clone());
    }
    let file = Arc::new(ireko_sys::above(10, memfd().or_else(|_| unnamed())?)?);
    *kept = Some(file.clone());
    Ok(file)
}

/// The memfd was refused at exec: an unnamed file from here on.
pub(crate) fn refused() -> Result<Arc<OwnedFd>> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let file = Arc::new(ireko_sys::above(10, unnamed()?)?);
    *kept = Some(file.clone());
    Ok(file)
}

fn memfd() -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Linux 6.3 wants to be told that it will be executed; older ones do not know the flag.
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let fd = match memfd_create(c"ireko-helper", flags | executable) {
        Err(nix::errno::Errno::EINVAL) => memfd_create(c"ireko-helper", flags)?,
        answer => answer?,
    };
    let mut file = File::from(fd);
    file.write_all(ELF).map_err(|e| Errno::of(&e))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(file.into())
}

fn unnamed() -> Result<OwnedFd> {
    let mut last = Errno::ENOENT;
    for directory in DIRECTORIES {
        match unnamed_in(directory) {
            Ok(fd) => return Ok(fd),
            Err(errno) => last = errno,
        }
    }
    Err(Failure::kernel("put the helper where it can be executed", last)
        .remedy(
            "neither memfds nor files in /dev/shm, /run, /tmp or /var/tmp may be executed here: \
                 allow one (sysctl vm.memfd_noexec=1, or a mount without noexec)",
        )
        .into())
}

fn unnamed_in(directory: &str) -> Result<OwnedFd, Errno> {
    let fs = nix::sys::statvfs::statvfs(directory)?;
    if fs.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC) {
        return Err(Errno::EACCES);
    }
    let mode = Mode::from_bits_retain(0o500);
    let fd =
        nix::fcntl::open(directory, OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC, mode)?;
    let mut file = File::from(fd);
    file.write_all(ELF).map_err(|e| Errno::of(&e))?;
    // A file that is open for writing is busy: the one to execute is opened anew.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(nix::fcntl::open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}
