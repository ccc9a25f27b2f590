use crate::encode::Version;
use crate::fs;
use crate::parent::{Parent, Place};
use crate::template::{Template, Write};
use crate::{Controllers, ErrorKind, Limits, Pidfd, Result, kill, tree};
use ireko_sys::{Errno, Failure};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A group of ours: a directory in each hierarchy that it needs, held open, with a
/// lease on it that ends with this process.
///
/// Dropping it kills what is inside and removes it; [`keep`](Self::keep) leaves it,
/// and who is in it, alone. What a killed process leaves is collected by
/// [`gc`](crate::gc).
#[derive(Debug)]
#[must_use = "dropping it kills what is inside"]
pub struct Cgroup {
    parent: Parent,
    name: CString,
    dirs: Vec<Dir>,
    joins: Vec<OwnedFd>,
    limits: Mutex<Limits>,
    kept: bool,
}

#[derive(Debug)]
struct Dir {
    place: usize,
    fd: OwnedFd,
}

/// The time that ending and removing a group may take before it is left to `gc`.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Makes a group without limits, in the v2 tree where there is one.
    ///
    /// # Errors
    /// As [`Template::create`].
    pub fn create(parent: &Parent, name: &str) -> Result<Self> {
        Template::new(parent, &Limits::new())?.create(name)
    }

    pub(crate) fn make(template: &Template, name: &str) -> Result<Self> {
        let mut group = Self {
            parent: template.parent.clone(),
            name: tree::dir_name(name)?,
            dirs: Vec::with_capacity(template.slots.len()),
            joins: Vec::with_capacity(template.slots.len()),
            limits: Mutex::new(Limits::clone(&template.limits)),
            kept: false,
        };
        // On an error what was made so far is dropped, and removed.
        for index in &template.slots {
            let place = &template.parent.0.places[*index];
            let fd = tree::create(place, &group.name)?;
            group.dirs.push(Dir { place: *index, fd });
            if place.version == Version::V1 {
                let dir = group.dirs[group.dirs.len() - 1].fd.as_fd();
                let join = fs::open_write(dir, c"tasks")
                    .map_err(|e| place.failed("open tasks of the group", Some(&group.name), e))?;
                group.joins.push(join);
            }
        }
        Ok(group)
    }

    /// The v2 directory, for `CLONE_INTO_CGROUP`; `None` on a v1 host, and on a hybrid
    /// one unless [asked for](Template::v2_dir). Its number is 10 or more.
    #[doc(alias = "CLONE_INTO_CGROUP")]
    #[must_use]
    pub fn dir(&self) -> Option<BorrowedFd<'_>> {
        self.dirs_of(Version::V2).next()
    }

    /// For each v1 hierarchy the file `tasks`, open for writing, numbers 10 and more:
    /// a child writes `0` into each and is in the group. The thread that writes is
    /// moved alone, so it must be the only one of its process.
    pub fn join_fds(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.joins.iter().map(AsFd::as_fd)
    }

    /// `cgroup.procs` of the v2 directory, open for writing, for a child that writes
    /// `0` into it where `CLONE_INTO_CGROUP` is not to be had; `None` as for
    /// [`dir`](Self::dir).
    ///
    /// # Errors
    /// `Denied`, `Exhausted`.
    pub fn open_procs(&self) -> Result<Option<OwnedFd>> {
        let open = |dir| fs::open_write(dir, c"cgroup.procs");
        let fd = self.dir().map(open).transpose();
        fd.map_err(|e| self.failed("open cgroup.procs of", e).into())
    }

    /// Moves a process in, with all its threads. Its memory stays charged to where it
    /// was. From here on it is ours: dropping this kills it, were it the caller itself.
    ///
    /// # Errors
    /// `NotFound` when it has ended; `Denied`; `Conflict` for a group that has
    /// controllers enabled below itself.
    #[doc(alias = "cgroup.procs")]
    pub fn add(&self, process: &Pidfd) -> Result<()> {
        let pid = process.pid()?.to_string();
        for dir in &self.dirs {
            fs::write(dir.fd.as_fd(), c"cgroup.procs", pid.as_bytes())
                .map_err(|e| self.failed("move a process into", e))?;
        }
        // Still the one that we mean: then nobody else had that number.
        process.pid()?;
        Ok(())
    }

    /// Ends everything inside, whatever forks meanwhile, and returns when nothing
    /// lives there. The group stays, and can be used again.
    ///
    /// # Errors
    /// `TimedOut` naming a process that would not end within two seconds.
    #[doc(alias = "cgroup.kill")]
    pub fn kill(&self) -> Result<()> {
        kill::kill(&self.all_dirs(), PATIENCE)
    }

    /// Whether anything lives inside.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        match self.dir() {
            Some(dir) => kill::populated(dir),
            None => self.all_dirs().iter().any(|dir| !tree::pids(*dir).is_empty()),
        }
    }

    /// The processes inside and below, as numbers of the caller's pid namespace; those
    /// that it does not see are left out.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<_> = self.all_dirs().into_iter().flat_map(tree::pids).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills what is inside and removes the group; as dropping it, but tells.
    ///
    /// # Errors
    /// `TimedOut`; what could not be removed is left to [`gc`](crate::gc).
    #[doc(alias = "rmdir")]
    pub fn remove(mut self) -> Result<()> {
        self.kept = true;
        self.destroy()
    }

    /// Leaves the group there, with who is in it, also from [`gc`](crate::gc); tells
    /// where, one path for each hierarchy.
    ///
    /// # Errors
    /// `Unsupported` where the file system cannot hold the mark (before Linux 5.7):
    /// then the group is killed and removed.
    pub fn keep(mut self) -> Result<Vec<PathBuf>> {
        for dir in &self.dirs {
            fs::mark(dir.fd.as_fd(), KEPT).map_err(|e| self.failed("mark", e))?;
        }
        self.kept = true;
        Ok(self.paths())
    }

    /// A group that was [kept](Self::keep), or whose owner is gone, in whichever
    /// hierarchies it is: it is ours from here on.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while somebody else holds it; `Invalid` for the name.
    pub fn open(parent: &Parent, name: &str) -> Result<Self> {
        let mut group = Self {
            parent: parent.clone(),
            name: tree::dir_name(name)?,
            dirs: Vec::new(),
            joins: Vec::new(),
            limits: Mutex::new(Limits::new()),
            // Until all of it is ours, an error removes nothing.
            kept: true,
        };
        for (place, at) in parent.0.places.iter().enumerate() {
            let failed = |e| at.failed("open the group", Some(&group.name), e);
            let fd = match fs::open_dir(at.dir(), &group.name) {
                Err(Errno::ENOENT) => continue,
                opened => opened.map_err(failed)?,
            };
            if !fs::lock(fd.as_fd()).map_err(failed)? {
                let what = format!("open the group {}", group.name.to_string_lossy());
                let why = "another owner, who is alive, holds it";
                return Err(Failure::ours(ErrorKind::Conflict, what, why).into());
            }
            if !fs::is_at(at.dir(), &group.name, fd.as_fd()).map_err(failed)? {
                continue;
            }
            if at.version == Version::V1 {
                group.joins.push(fs::open_write(fd.as_fd(), c"tasks").map_err(failed)?);
            }
            group.dirs.push(Dir { place, fd });
        }
        if group.dirs.is_empty() {
            let what = format!("open the group {}", group.name.to_string_lossy());
            return Err(Failure::ours(ErrorKind::NotFound, what, "there is none").into());
        }
        for dir in &group.dirs {
            fs::unmark(dir.fd.as_fd(), KEPT);
        }
        group.kept = false;
        Ok(group)
    }

    /// Its directories: for messages.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let name = self.name.to_string_lossy();
        self.dirs.iter().map(|d| self.parent.0.places[d.place].path.join(&*name)).collect()
    }

    fn destroy(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(50);
        let mut killed = false;
        loop {
            let parent = &self.parent;
            let (name, mut last) = (&self.name, None);
            // The usual case: nothing lives there, and each rmdir succeeds at once.
            self.dirs.retain(|dir| {
                let at = parent.0.places[dir.place].dir();
                let removed = if killed {
                    tree::remove(at, name, dir.fd.as_fd())
                } else {
                    fs::rmdir(at, name)
                };
                match removed {
                    Ok(()) | Err(Errno::ENOENT) => false,
                    Err(errno) => {
                        last = Some((dir.place, errno));
                        true
                    }
                }
            });
            let Some((place, errno)) = last else { return Ok(()) };
            if errno.raw() != libc::EBUSY || Instant::now() > deadline {
                let place = &self.parent.0.places[place];
                return Err(place.failed("remove the group", Some(&self.name), errno).into());
            }
            kill::kill(&self.all_dirs(), deadline.saturating_duration_since(Instant::now()))?;
            if killed {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(10));
            }
            killed = true;
        }
    }

    pub(crate) fn parent(&self) -> &Parent {
        &self.parent
    }

    pub(crate) fn dirs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.dirs.iter().map(|dir| dir.fd.as_fd())
    }

    /// What it was given so far.
    pub(crate) fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Place and directory of the group for a controller.
    pub(crate) fn held(&self, controller: Controllers) -> Option<(&Place, BorrowedFd<'_>)> {
        // Not only where limits of it are set: a hybrid group may count in either tree.
        let places = &self.parent.0.places;
        self.dirs.iter().find_map(|dir| {
            let place = &places[dir.place];
            place.controllers.contains(controller).then_some((place, dir.fd.as_fd()))
        })
    }

    pub(crate) fn dir_of(&self, place: usize) -> Option<BorrowedFd<'_>> {
        self.dirs.iter().find(|dir| dir.place == place).map(|dir| dir.fd.as_fd())
    }

    fn dirs_of(&self, version: Version) -> impl Iterator<Item = BorrowedFd<'_>> {
        let places = &self.parent.0.places;
        let same = move |dir: &&Dir| places[dir.place].version == version;
        self.dirs.iter().filter(same).map(|dir| dir.fd.as_fd())
    }

    fn all_dirs(&self) -> Vec<BorrowedFd<'_>> {
        self.dirs().collect()
    }

    pub(crate) fn failed(&self, what: &str, errno: Errno) -> Failure {
        let path = self.paths().into_iter().next().unwrap_or_default();
        Failure::kernel(format!("{what} the group {}", path.display()), errno)
    }

    pub(crate) fn write_failed(&self, write: &Write, errno: Errno) -> Failure {
        let path = self.parent.0.places[write.place].path.join(&*self.name.to_string_lossy());
        let path = path.join(&*write.file.to_string_lossy());
        let value = String::from_utf8_lossy(&write.value);
        let failure = Failure::kernel(format!("write {value:?} to {}", path.display()), errno);
        match errno.raw() {
            libc::EBUSY => {
                failure.remedy("more memory than that is in use and cannot be reclaimed")
            }
            libc::EINVAL if write.file.as_bytes().starts_with(b"cpu.cfs") => {
                failure.remedy("a group around it has a smaller cpu quota: ask for less")
            }
            _ => failure,
        }
    }
}

/// The mark of a group that is to outlive its owner.
pub(crate) const KEPT: &CStr = c"user.ireko.kept";

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.destroy();
        }
    }
}
