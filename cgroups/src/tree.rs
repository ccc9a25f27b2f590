//! Groups as directories: made with a lease, walked, removed with all below them.

use crate::fs::{self, Sys};
use crate::parent::Place;
use crate::{ErrorKind, Result, text};
use ireko_sys::{Errno, Failure};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What the name of each group of ours starts with: whatever has it and no living
/// owner may be collected.
pub(crate) const PREFIX: &str = "ireko-";

/// The directory's name for a group's, once that is known to be a plain one.
pub(crate) fn dir_name(name: &str) -> Result<CString> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.starts_with('.') {
        "it starts with a dot"
    } else if name.contains(['/', '\n', '\0']) {
        "it holds a slash, a newline or a NUL"
    } else if PREFIX.len() + name.len() > 255 {
        "it is too long"
    } else {
        let mut bytes = Vec::with_capacity(PREFIX.len() + name.len() + 1);
        bytes.extend_from_slice(PREFIX.as_bytes());
        bytes.extend_from_slice(name.as_bytes());
        return CString::new(bytes)
            .map_err(|_| Failure::kernel("name a group", Errno::EINVAL).into());
    };
    Err(Failure::ours(ErrorKind::Invalid, format!("name a group {name:?}"), why).into())
}

/// Makes a group's directory and takes its lease.
pub(crate) fn create(place: &Place, name: &CStr) -> Result<OwnedFd> {
    let failed = |errno| {
        let failure = place.failed("make the group", Some(name), errno);
        match errno.raw() {
            libc::EROFS => failure.remedy(crate::detect::READ_ONLY),
            libc::EEXIST => failure.remedy("take another name, or collect what is left with gc()"),
            libc::EAGAIN => failure.remedy("raise cgroup.max.descendants and cgroup.max.depth"),
            _ => failure,
        }
    };
    // A collector that met the directory between mkdir and flock takes it for an
    // orphan, and removes it: then it is made again.
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        fs::mkdir(place.dir(), name).map_err(failed)?;
        match fs::open_dir(place.dir(), name) {
            Ok(dir) => match lease(place, name, dir.as_fd(), deadline) {
                Ok(true) => return Ok(dir),
                Ok(false) => {}
                Err(errno) => {
                    let _ = fs::rmdir(place.dir(), name);
                    return Err(failed(errno).into());
                }
            },
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                let _ = fs::rmdir(place.dir(), name);
                return Err(failed(errno).into());
            }
        }
        if Instant::now() > deadline {
            let what = format!("make the group {}", place.path.display());
            let why = "a collector removed it each time";
            return Err(Failure::ours(ErrorKind::TimedOut, what, why).into());
        }
    }
}

/// Waits for a collector to be done; `false`: it has removed the directory.
fn lease(place: &Place, name: &CStr, dir: BorrowedFd<'_>, deadline: Instant) -> Sys<bool> {
    loop {
        let ours = fs::lock(dir)?;
        // Asked by name: both are known to the kernel already, while the first look at
        // a file of a new group costs it 5 µs.
        if !fs::is_at(place.dir(), name, dir)? {
            return Ok(false);
        }
        if ours {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Err(Errno::from_raw(libc::ETIMEDOUT));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// A step of a walk.
pub(crate) enum Step<'a> {
    /// A directory, before those in it.
    Enter(BorrowedFd<'a>),
    /// Its entry in the one above it, after those in it. Never the top's.
    Leave(BorrowedFd<'a>, &'a CStr),
}

/// Walks a group and all below it. However deep it is, two fds are open and the stack
/// of calls does not grow: who made those groups may have meant harm.
pub(crate) fn walk(top: BorrowedFd<'_>, mut visit: impl FnMut(Step<'_>)) -> Sys<()> {
    let mut at = fs::open_dir(top, c".")?;
    visit(Step::Enter(at.as_fd()));
    let mut todo = vec![fs::subdirs(at.as_fd())?];
    let mut names: Vec<CString> = Vec::new();
    loop {
        match todo.last_mut().and_then(Vec::pop) {
            Some(name) => match fs::open_dir(at.as_fd(), &name) {
                Ok(dir) => {
                    at = dir;
                    visit(Step::Enter(at.as_fd()));
                    todo.push(fs::subdirs(at.as_fd()).unwrap_or_default());
                    names.push(name);
                }
                // Gone in the meantime.
                Err(_) => continue,
            },
            None => {
                todo.pop();
                let Some(name) = names.pop() else { return Ok(()) };
                at = fs::open_dir(at.as_fd(), c"..")?;
                visit(Step::Leave(at.as_fd(), &name));
            }
        }
    }
}

/// The processes in a group and below it.
pub(crate) fn pids(top: BorrowedFd<'_>) -> Vec<u32> {
    let mut found = Vec::new();
    let _ = walk(top, |step| {
        if let Step::Enter(dir) = step {
            // A threaded group lists threads alone; those of its processes are above it.
            if let Ok(text) = fs::read(dir, c"cgroup.procs") {
                found.extend(text::pids(&text));
            }
        }
    });
    found.sort_unstable();
    found.dedup();
    found
}

/// Removes a group that is empty of processes, and all below it.
pub(crate) fn remove(at: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>) -> Sys<()> {
    match fs::rmdir(at, name) {
        Err(errno) if errno.raw() == libc::EBUSY => {}
        Err(Errno::ENOENT) => return Ok(()),
        done => return done,
    }
    walk(dir, |step| {
        if let Step::Leave(above, name) = step {
            let _ = fs::rmdir(above, name);
        }
    })?;
    match fs::rmdir(at, name) {
        Err(Errno::ENOENT) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_prefixed() {
        assert_eq!(dir_name("web-1").unwrap().as_c_str(), c"ireko-web-1");
        assert!(dir_name(&"a".repeat(249)).is_ok());
        for name in ["", ".", "..", ".x", "a/b", "a\nb", "a\0b", &"a".repeat(250)] {
            assert_eq!(dir_name(name).unwrap_err().kind(), ErrorKind::Invalid, "{name:?}");
        }
    }
}
