use crate::encode::{Refusal, Version};
use crate::fs::{self, Sys};
use crate::{Controllers, ErrorKind, Hierarchy, Result, detect, tree};
use ireko_sys::{Errno, Failure};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// A place in which this process may make groups: one directory per hierarchy, held
/// open. Cheap to clone; worth keeping, since finding it takes half a millisecond.
///
/// Groups are made below the caller's own group, or a delegated one around it, never
/// beside what limits the caller.
#[derive(Clone, Debug)]
pub struct Parent(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) places: Vec<Place>,
    pub(crate) hierarchy: Hierarchy,
    /// What the v2 group would have, but not for groups below it; and why.
    pub(crate) blocked: Option<Blocked>,
}

#[derive(Clone, Debug)]
pub(crate) struct Blocked {
    pub(crate) controllers: Controllers,
    pub(crate) errno: Errno,
    pub(crate) path: PathBuf,
}

/// The directory of one hierarchy.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) version: Version,
    pub(crate) dir: OwnedFd,
    /// For messages alone.
    pub(crate) path: PathBuf,
    /// What groups made here have.
    pub(crate) controllers: Controllers,
    /// The files of a fresh group, once one has been looked at.
    pub(crate) files: OnceLock<Vec<CString>>,
}

impl Place {
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Makes a group for a moment, to see whether it can be done and what is in it.
    pub(crate) fn probe(&self) -> Result<&[CString]> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = tree::dir_name(&format!("probe-{}-{n}", std::process::id()))?;
        let dir = tree::create(self, &name)?;
        let files = fs::entries(dir.as_fd());
        fs::rmdir(self.dir(), &name).map_err(|e| self.failed("remove a group in", None, e))?;
        let files = files.map_err(|e| self.failed("list a group in", None, e))?;
        let files = files.into_iter().map(|(file, _)| file).collect();
        Ok(self.files.get_or_init(|| files))
    }

    /// Whether a group made here has this file.
    pub(crate) fn has(&self, file: &CStr) -> bool {
        // The parent's own files tell without a group, but for those that no root has.
        if self.files.get().is_none() && fs::exists(self.dir(), file) {
            return true;
        }
        self.probe().is_ok_and(|files| files.iter().any(|f| f.as_c_str() == file))
    }

    pub(crate) fn failed(&self, what: &str, file: Option<&CStr>, errno: Errno) -> Failure {
        let mut path = self.path.clone();
        if let Some(file) = file {
            path.push(&*file.to_string_lossy());
        }
        Failure::kernel(format!("{what} {}", path.display()), errno)
    }

    pub(crate) fn open(path: &Path, version: Version, controllers: Controllers) -> Sys<Self> {
        let dir = fs::open_path(path)?;
        let wanted = match version {
            Version::V1 => libc::CGROUP_SUPER_MAGIC as libc::c_long,
            Version::V2 => libc::CGROUP2_SUPER_MAGIC as libc::c_long,
        };
        if fs::magic(dir.as_fd())? != wanted {
            return Err(Errno::EINVAL);
        }
        Ok(Self { version, dir, path: path.to_owned(), controllers, files: OnceLock::new() })
    }
}

impl Parent {
    /// Finds one by trying: the caller's own v2 group, the delegated group around it,
    /// and the caller's group of each v1 hierarchy. In a v2 group the controllers
    /// memory, cpu and pids are enabled for the groups below it.
    ///
    /// # Errors
    /// `Denied`, `Unsupported` or `Conflict` with what to do as the remedy: never a
    /// place that takes the group but enforces nothing.
    #[doc(alias = "cgroup.subtree_control")]
    pub fn detect() -> Result<Self> {
        detect::detect()
    }

    /// A directory of cgroup v2 that is known to be ours.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where it is no directory of cgroup v2; as
    /// [`detect`](Self::detect) where no group can be made in it. Not where its
    /// controllers cannot be enabled: [`controllers`](Self::controllers) tells.
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        detect::at(path.as_ref())
    }

    /// Moves every process of the caller's own v2 group into the subgroup `main` of
    /// it, and detects: for a program that has a delegated scope or unit to itself,
    /// where `detect` says `Conflict`, since a v2 group that holds processes can have
    /// no controllers below it. Nobody else's processes should be in that group: they
    /// are moved as well. Later detections find the place without it.
    ///
    /// # Errors
    /// As [`detect`](Self::detect).
    #[doc(alias = "cgroup.procs")]
    pub fn evacuate() -> Result<Self> {
        detect::evacuate()
    }

    /// The controllers that groups made here can have.
    #[must_use]
    pub fn controllers(&self) -> Controllers {
        self.0.places.iter().map(|place| place.controllers).collect()
    }

    /// Where the controllers of this host live.
    #[must_use]
    pub fn hierarchy(&self) -> Hierarchy {
        self.0.hierarchy
    }

    /// The directories in which groups are made: for messages.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.places.iter().map(|place| place.path.as_path())
    }

    /// Enables further controllers for the groups below a v2 group, `IO` say. What a
    /// v1 hierarchy has is there already.
    ///
    /// # Errors
    /// `Unsupported` where this host has no such controller here; `Conflict` where
    /// the group holds processes itself; `Denied`.
    pub fn enable(self, controllers: Controllers) -> Result<Self> {
        let missing = controllers - self.controllers();
        if missing.is_empty() {
            return Ok(self);
        }
        detect::enable_more(&self, missing)
    }

    /// The index of the place whose groups have this controller. What any v2 group
    /// can do is done there: one directory for all of it.
    pub(crate) fn place_of(&self, controller: Controllers) -> Option<usize> {
        let places = &self.0.places;
        let has = |version| {
            places.iter().position(|p| p.version == version && p.controllers.contains(controller))
        };
        has(Version::V2).or_else(|| has(Version::V1))
    }

    pub(crate) fn v2(&self) -> Option<usize> {
        self.0.places.iter().position(|place| place.version == Version::V2)
    }

    /// Why there is no such controller.
    pub(crate) fn missing(&self, operation: String, controllers: Controllers) -> Failure {
        if let Some(blocked) = &self.0.blocked
            && blocked.controllers.intersects(controllers)
        {
            let mut failure = detect::not_enabled(blocked);
            failure.operation = format!("{operation}: {}", failure.operation).into();
            return failure;
        }
        let reason = format!("the controller {controllers} is not there for groups of ours");
        Failure::ours(ErrorKind::Unsupported, operation, reason).remedy(match self.hierarchy() {
            Hierarchy::V2 => {
                "enable it in the groups above: Delegate=yes for the unit, and for user units \
                 a drop-in for user@.service that says Delegate=cpu cpuset io memory pids"
            }
            _ => "run as root, or mount the hierarchy of that controller",
        })
    }

    /// A limit that is refused before anything was written.
    pub(crate) fn refused(name: &str, (reason, remedy): Refusal) -> Failure {
        let failure = Failure::ours(ErrorKind::Unsupported, format!("set {name}"), reason);
        match remedy {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}
