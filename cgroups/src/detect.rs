//! Finding the place where groups can be made.

use crate::encode::Version;
use crate::fs;
use crate::parent::{Blocked, Inner, Parent, Place};
use crate::text::{self, Membership, Mount};
use crate::{Controllers, Error, ErrorKind, Hierarchy, Result};
use ireko_sys::{Errno, Failure, ProcRoot};
use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the limits of this crate need, and a detection enables.
const WANTED: Controllers = Controllers::MEMORY.union(Controllers::CPU).union(Controllers::PIDS);

pub(crate) const READ_ONLY: &str = "the cgroup file system is mounted read-only, as containers \
    have it: give this one a writable one, for docker --privileged or a bind of \
    /sys/fs/cgroup with --cgroupns=private";

const DELEGATE: &str = "run it in a delegated scope: systemd-run --user --scope \
    -p Delegate=yes -- PROGRAM; or give its unit Delegate=yes and DelegateSubgroup=main; or run \
    as root";

const DELEGATE_V1: &str = "cgroup v1 is not delegated to users by systemd: run as root, or have \
    root make a group for this user in each hierarchy, chown it and start the program in it";

const INTERNAL: &str = "a v2 group that holds processes cannot have controllers below it: start \
    the program in a subgroup of its delegated unit (Delegate=yes and DelegateSubgroup=main, \
    systemd 254; or systemd-run --user --scope -p Delegate=yes and then a subgroup made by \
    Parent::evacuate)";

fn own(file: &str) -> Result<String> {
    let mut text = String::new();
    let path = format!("self/{file}");
    let failed = |e| Failure::kernel(format!("read /proc/{path}"), Errno::of(&e));
    ProcRoot::open()?.read(&path)?.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

pub(crate) fn detect() -> Result<Parent> {
    let (groups, mounts) = (own("cgroup")?, own("mountinfo")?);
    let (groups, mounts) = (text::memberships(&groups), text::mounts(&mounts));
    let mut places = Vec::new();
    let mut blocked = None;
    let mut first: Option<Error> = None;
    for group in &groups {
        let found = match group.v1 {
            None => v2(group, &mounts).map(|(place, why)| {
                blocked = why;
                place
            }),
            Some(controllers) => v1(group, controllers, &mounts),
        };
        match found {
            Ok(place) => places.push(place),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let has = |version| places.iter().any(|place: &Place| place.version == version);
    let hierarchy = match (has(Version::V1), has(Version::V2)) {
        (true, true) => Hierarchy::Hybrid,
        (true, false) => Hierarchy::V1,
        _ => Hierarchy::V2,
    };
    let parent = Parent(Arc::new(Inner { places, hierarchy, blocked }));
    if parent.controllers().intersects(WANTED) {
        return Ok(parent);
    }
    if let Some(blocked) = &parent.0.blocked {
        return Err(not_enabled(blocked).into());
    }
    Err(first.unwrap_or_else(|| {
        let why = if mounts.is_empty() {
            "no cgroup file system is mounted"
        } else {
            "none of memory, cpu and pids is there"
        };
        Failure::ours(ErrorKind::Unsupported, "find a place for groups", why)
            .remedy(if mounts.is_empty() {
                "mount -t cgroup2 none /sys/fs/cgroup"
            } else {
                DELEGATE
            })
            .into()
    }))
}

/// Where the caller's group is seen, in the order of the mounts.
fn seen(group: &Membership, mounts: &[Mount]) -> Vec<(PathBuf, PathBuf)> {
    let same = |mount: &&Mount| match (mount.v1, group.v1) {
        (None, None) => true,
        (Some(mounted), Some(asked)) => mounted.intersects(asked),
        _ => false,
    };
    let place = |mount: &Mount| Some((text::place(mount, &group.path)?, mount.at.clone()));
    mounts.iter().filter(same).filter_map(place).collect()
}

fn unseen(group: &Membership) -> Error {
    let what = format!("find the group {}", group.path.display());
    Failure::ours(ErrorKind::Unsupported, what, "no mount of its hierarchy shows it")
        .remedy("mount the cgroup file systems anew in this mount namespace")
        .into()
}

fn denied(place: &Place, errno: Errno) -> Failure {
    place.failed("make groups in", None, errno).remedy(match (errno.raw(), place.version) {
        (libc::EROFS, _) => READ_ONLY,
        (_, Version::V2) => DELEGATE,
        (_, Version::V1) => DELEGATE_V1,
    })
}

fn v1(group: &Membership, controllers: Controllers, mounts: &[Mount]) -> Result<Place> {
    let mut first = None;
    for (path, _) in seen(group, mounts) {
        let tried = Place::open(&path, Version::V1, controllers)
            .map_err(|e| Failure::kernel(format!("open {}", path.display()), e).into())
            .and_then(|place| try_place(place, controllers.intersects(WANTED)));
        match tried {
            Ok(place) => return Ok(place),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| unseen(group)))
}

/// A group is made for a moment where limits depend on it; elsewhere asking is enough.
fn try_place(place: Place, by_doing: bool) -> Result<Place> {
    fs::writable(place.dir()).map_err(|errno| denied(&place, errno))?;
    if by_doing {
        let tried = place.probe().map(|_| ());
        tried.map_err(|error| match error.errno() {
            Some(errno) if error.kind() == ErrorKind::Denied => denied(&place, errno).into(),
            _ => error,
        })?;
    }
    Ok(place)
}

/// The caller's own group; where that cannot have controllers below it, since the
/// caller is in it, the group around it that was delegated.
fn v2(group: &Membership, mounts: &[Mount]) -> Result<(Place, Option<Blocked>)> {
    let mut found = Vec::new();
    for (path, top) in seen(group, mounts) {
        let around = path.ancestors().skip(1).take_while(|dir| dir.starts_with(&top));
        let delegated = around.take(8).find(|dir| is_delegated(dir));
        for dir in std::iter::once(path.as_path()).chain(delegated) {
            let tried = v2_at(dir, WANTED);
            if tried.as_ref().is_ok_and(|(place, why)| why.is_none() && limits(place)) {
                return tried;
            }
            found.push(tried);
        }
    }
    // Half of what is wanted, or none of it, is better than nothing.
    let usable = |tried: &Result<(Place, _)>| tried.as_ref().is_ok_and(|(place, _)| limits(place));
    let best = found.iter().position(usable).or_else(|| found.iter().position(Result::is_ok));
    match best.or((!found.is_empty()).then_some(0)) {
        Some(best) => found.swap_remove(best),
        None => Err(unseen(group)),
    }
}

fn limits(place: &Place) -> bool {
    place.controllers.intersects(WANTED)
}

/// systemd's mark, or that of [`Parent::evacuate`].
fn is_delegated(dir: &Path) -> bool {
    let Ok(place) = Place::open(dir, Version::V2, Controllers::empty()) else { return false };
    [c"user.delegate", c"trusted.delegate", EVACUATED]
        .iter()
        .any(|mark| fs::marked(place.dir(), mark))
}

pub(crate) const EVACUATED: &CStr = c"user.ireko.delegate";

/// Everything in the caller's own v2 group goes into a subgroup.
pub(crate) fn evacuate() -> Result<Parent> {
    let (groups, mounts) = (own("cgroup")?, own("mountinfo")?);
    let (groups, mounts) = (text::memberships(&groups), text::mounts(&mounts));
    let Some(group) = groups.iter().find(|group| group.v1.is_none()) else { return detect() };
    let (path, _) = seen(group, &mounts).into_iter().next().ok_or_else(|| unseen(group))?;
    let failed = |e| Failure::kernel(format!("use {} as a v2 group", path.display()), e);
    let place = Place::open(&path, Version::V2, Controllers::empty()).map_err(failed)?;
    // The root of all may hold processes and controllers; a delegated group around
    // this one means that there is room already.
    let around = path.parent().is_some_and(is_delegated);
    if around || !fs::exists(place.dir(), c"cgroup.type") {
        return detect();
    }
    match fs::mkdir(place.dir(), ROOM) {
        Err(errno) if errno.raw() != libc::EEXIST => return Err(denied(&place, errno).into()),
        _ => {}
    }
    let failed = |e| place.failed("move processes below", Some(ROOM), e);
    let room = fs::open_dir(place.dir(), ROOM).map_err(failed)?;
    // Who forks meanwhile is seen the next time.
    for _ in 0..100 {
        let procs = fs::read(place.dir(), c"cgroup.procs").map_err(failed)?;
        let mut moved = false;
        for pid in text::pids(&procs) {
            match fs::write(room.as_fd(), c"cgroup.procs", pid.to_string().as_bytes()) {
                Ok(()) => moved = true,
                Err(errno) if errno.raw() == libc::ESRCH => moved = true,
                Err(errno) => return Err(failed(errno).into()),
            }
        }
        if !moved {
            break;
        }
    }
    // So that the next detection knows, also that of another program.
    fs::mark(place.dir(), EVACUATED).map_err(failed)?;
    detect()
}

const ROOM: &CStr = c"main";

fn v2_at(path: &Path, wanted: Controllers) -> Result<(Place, Option<Blocked>)> {
    let failed = |e| Failure::kernel(format!("use {} as a v2 group", path.display()), e);
    let mut place = Place::open(path, Version::V2, Controllers::V2_ALWAYS).map_err(failed)?;
    fs::writable(place.dir()).map_err(|errno| denied(&place, errno))?;
    let (enabled, blocked) = enable(&place, wanted)?;
    place.controllers |= enabled;
    Ok((try_place(place, true)?, blocked))
}

/// Enables what is there and wanted, one by one: one that is refused stops no other.
fn enable(place: &Place, wanted: Controllers) -> Result<(Controllers, Option<Blocked>)> {
    let read = |file: &'static CStr| {
        fs::read(place.dir(), file)
            .map(|text| Controllers::from_v2(&text))
            .map_err(|e| place.failed("read", Some(file), e))
    };
    let available = read(c"cgroup.controllers")?;
    let mut enabled = read(c"cgroup.subtree_control")?;
    let mut blocked: Option<Blocked> = None;
    for (name, flag) in ((wanted & available) - enabled).v2_names() {
        match fs::write(place.dir(), c"cgroup.subtree_control", format!("+{name}").as_bytes()) {
            Ok(()) => enabled |= flag,
            Err(errno) => {
                let path = place.path.clone();
                let why = Blocked { controllers: Controllers::empty(), errno, path };
                blocked.get_or_insert(why).controllers |= flag;
            }
        }
    }
    Ok((enabled, blocked))
}

/// The error for controllers that a v2 group has and does not pass on.
pub(crate) fn not_enabled(blocked: &Blocked) -> Failure {
    let what = format!("enable {} below {}", blocked.controllers, blocked.path.display());
    let failure = Failure::kernel(what, blocked.errno);
    match blocked.errno.raw() {
        libc::EBUSY => failure.remedy(INTERNAL),
        libc::EOPNOTSUPP => failure
            .kind(ErrorKind::Conflict)
            .remedy("the group is threaded: start the program in a group of type domain"),
        libc::EROFS => failure.remedy(READ_ONLY),
        libc::EACCES | libc::EPERM => failure.remedy(DELEGATE),
        _ => failure,
    }
}

pub(crate) fn at(path: &Path) -> Result<Parent> {
    if CString::new(path.as_os_str().as_encoded_bytes()).is_err() {
        let what = format!("use {} as a v2 group", path.display());
        return Err(Failure::ours(ErrorKind::Invalid, what, "the path holds a NUL").into());
    }
    let (place, blocked) = v2_at(path, WANTED)?;
    let inner = Inner { places: vec![place], hierarchy: Hierarchy::V2, blocked };
    Ok(Parent(Arc::new(inner)))
}

/// The same parent with more enabled.
pub(crate) fn enable_more(parent: &Parent, missing: Controllers) -> Result<Parent> {
    let operation = || format!("enable {missing}");
    let Some(v2) = parent.v2() else {
        return Err(parent.missing(operation(), missing).into());
    };
    let mut places = Vec::new();
    let mut blocked = None;
    for (index, old) in parent.0.places.iter().enumerate() {
        let mut place = Place::open(&old.path, old.version, old.controllers)
            .map_err(|e| old.failed("open", None, e))?;
        if index == v2 {
            let (enabled, why) = enable(&place, missing)?;
            place.controllers |= enabled;
            blocked = why;
        }
        places.push(place);
    }
    let hierarchy = parent.hierarchy();
    let more = Parent(Arc::new(Inner { places, hierarchy, blocked }));
    let still = missing - more.controllers();
    if still.is_empty() { Ok(more) } else { Err(more.missing(operation(), still).into()) }
}
