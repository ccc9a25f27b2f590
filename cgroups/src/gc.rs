use crate::fs;
use crate::group::KEPT;
use crate::parent::Place;
use crate::{ErrorKind, Parent, Result, kill, tree};
use ireko_sys::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Kills and removes the groups that processes which are dead have left below this
/// parent; tells how many. Groups whose owner lives, those that were
/// [kept](crate::Cgroup::keep) and those of other programs are left alone.
///
/// The lease is a lock on the group's own directory, held by the fd that its owner
/// uses and dropped by the kernel when that ends: no file, no pid, no clock. A child
/// that was forked without an exec shares it, and keeps it for as long as it lives. See
/// [`flock(2)`](https://man7.org/linux/man-pages/man2/flock.2.html).
///
/// # Errors
/// `Denied` where the parent cannot be listed. A group that cannot be ended within
/// two seconds is left for the next time, without an error.
#[doc(alias = "flock")]
pub fn gc(parent: &Parent) -> Result<usize> {
    let mut collected = HashSet::new();
    for place in &parent.0.places {
        let names = fs::subdirs(place.dir()).map_err(|e| place.failed("list", None, e))?;
        for name in names {
            if name.as_bytes().starts_with(tree::PREFIX.as_bytes()) && collect(place, &name) {
                collected.insert(name);
            }
        }
    }
    Ok(collected.len())
}

fn collect(place: &Place, name: &CString) -> bool {
    orphan(place, name).unwrap_or(false)
}

fn orphan(place: &Place, name: &CStr) -> crate::fs::Sys<bool> {
    let dir = fs::open_dir(place.dir(), name)?;
    // The lock is ours from here: whoever has just made it waits for us, and sees.
    if !fs::lock(dir.as_fd())? || fs::marked(dir.as_fd(), KEPT) {
        return Ok(false);
    }
    if !fs::is_at(place.dir(), name, dir.as_fd())? {
        return Ok(false);
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match tree::remove(place.dir(), name, dir.as_fd()) {
            Ok(()) => return Ok(true),
            Err(errno) if errno.raw() != libc::EBUSY || Instant::now() > deadline => {
                return Err(errno);
            }
            Err(_) => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(error) = kill::kill(&[dir.as_fd()], left)
            && error.kind() == ErrorKind::TimedOut
        {
            return Err(Errno::from_raw(libc::EBUSY));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
