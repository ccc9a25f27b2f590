//! Attempts, each in a child of its own, so that nothing of them stays.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::TempDir;
use crate::need::find;

/// Whether the effective uid is 0.
pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing.
    unsafe { libc::geteuid() == 0 }
}

/// Runs `attempt` in a child; its error is the number it returns, 0 for none.
///
/// # Safety
/// The child of a process with threads: `attempt` makes system calls and nothing else.
unsafe fn in_child(attempt: impl FnOnce() -> i32) -> io::Result<()> {
    // SAFETY: the child calls `attempt`, as promised, and `_exit`.
    let child = unsafe { libc::fork() };
    match child {
        // SAFETY: ends the child without running anything of the parent's.
        0 => unsafe { libc::_exit(attempt() & 0xff) },
        1.. => match wait(child)? {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
        _ => Err(io::Error::last_os_error()),
    }
}

fn wait(child: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: a place for the status of a child of ours.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    if libc::WIFEXITED(status) {
        Ok(libc::WEXITSTATUS(status))
    } else {
        Err(io::Error::other("a probe was killed"))
    }
}

/// The error number of a call that returned this.
fn errno_of(result: i32) -> i32 {
    // SAFETY: the thread's own errno.
    if result < 0 { unsafe { *libc::__errno_location() } } else { 0 }
}

/// Whether UTS namespaces can be made; in a new user namespace, whose capabilities some
/// machines take away, or here.
pub(crate) fn namespaces(user: bool) -> Result<(), String> {
    // SAFETY: two system calls.
    let done = unsafe {
        in_child(|| {
            if user && libc::unshare(libc::CLONE_NEWUSER) < 0 {
                return errno_of(-1);
            }
            errno_of(libc::unshare(libc::CLONE_NEWUTS))
        })
    };
    let what = if user { "user namespaces" } else { "namespaces" };
    done.map_err(|error| format!("no {what} for this user: {error}"))
}

/// A name for a directory that no other probe has.
fn probe_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("ireko-probe-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a directory and removes it.
fn make(parent: &Path) -> Result<(), String> {
    let path = parent.join(probe_name());
    let made = fs::create_dir(&path).and_then(|()| fs::remove_dir(&path));
    made.map_err(|error| format!("{}: {error}", parent.display()))
}

/// Our own cgroup below a mount point: of the hierarchy whose controllers include the name,
/// or of version 2.
fn own_cgroup(controller: Option<&str>) -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let what = controller.unwrap_or("cgroup2");
    let cgroups = read("/proc/self/cgroup")?;
    let own = cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let wanted = match controller {
            Some(name) => controllers.split(',').any(|one| one == name),
            None => controllers.is_empty(),
        };
        wanted.then_some(path)
    });
    let own = own.ok_or_else(|| format!("no {what} hierarchy"))?;
    let mounts = read("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
        let (root, point) = (left.next()?, left.next()?);
        let (kind, options) = (right.next()?, right.nth(1)?);
        let wanted = match controller {
            Some(name) => kind == "cgroup" && options.split(',').any(|one| one == name),
            None => kind == "cgroup2",
        };
        let below = if root == "/" { own } else { own.strip_prefix(root)? };
        wanted.then(|| Path::new(point).join(below.trim_start_matches('/')))
    });
    mount.ok_or_else(|| format!("no {what} mount with our own cgroup in it"))
}

/// Whether memory and pids cgroups of version 1 can be made.
pub(crate) fn cgroup1() -> Result<(), String> {
    make(&own_cgroup(Some("memory"))?)?;
    make(&own_cgroup(Some("pids"))?)
}

/// Whether cgroups of version 2 with memory and pids can be made.
pub(crate) fn cgroup2() -> Result<(), String> {
    let own = own_cgroup(None)?;
    let controllers = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    for name in ["memory", "pids"] {
        if !controllers.split_whitespace().any(|one| one == name) {
            return Err(format!("no {name} controller in {}", own.display()));
        }
    }
    make(&own)
}

/// Landlock's version, 0 for none.
pub(crate) fn landlock_version() -> i64 {
    // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with that flag there is no structure to read.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null::<u8>(), 0usize, 1u32) }.max(0)
}

/// Whether overlays can be mounted.
pub(crate) fn overlay() -> Result<(), String> {
    let dir = TempDir::new();
    let here = dir.path().as_os_str().as_bytes();
    let c = |parts: &[&[u8]]| CString::new(parts.concat()).unwrap_or_default();
    let target = c(&[here]);
    let inner: [CString; 4] = [b"/l", b"/u", b"/w", b"/m"].map(|name: &[u8; 2]| c(&[here, name]));
    let options = c(&[b"lowerdir=", here, b"/l,upperdir=", here, b"/u,workdir=", here, b"/w"]);
    let flags = libc::CLONE_NEWNS | if is_root() { 0 } else { libc::CLONE_NEWUSER };
    // SAFETY: both take nothing.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // An id that is not mapped can own nothing.
    let maps = [
        (c"/proc/self/setgroups", c(&[b"deny"])),
        (c"/proc/self/uid_map", c(&[format!("0 {uid} 1").as_bytes()])),
        (c"/proc/self/gid_map", c(&[format!("0 {gid} 1").as_bytes()])),
    ];
    // SAFETY: system calls, on strings made before.
    let done = unsafe {
        in_child(|| {
            let mount = |kind: &CStr, target: &CStr, data: Option<&CStr>| {
                let data = data.map_or(null(), CStr::as_ptr).cast();
                libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, data)
            };
            if libc::unshare(flags) < 0 {
                return errno_of(-1);
            }
            for (path, text) in &maps {
                if flags & libc::CLONE_NEWUSER == 0 {
                    break;
                }
                let file = libc::open(path.as_ptr(), libc::O_WRONLY);
                if libc::write(file, text.as_ptr().cast(), text.count_bytes()) < 0 {
                    return errno_of(-1);
                }
            }
            let private = libc::MS_REC | libc::MS_PRIVATE;
            if libc::mount(null(), c"/".as_ptr(), null(), private, null()) < 0
                || mount(c"tmpfs", &target, None) < 0
                || inner.iter().any(|dir| libc::mkdir(dir.as_ptr(), 0o755) < 0)
            {
                return errno_of(-1);
            }
            errno_of(mount(c"overlay", &inner[3], Some(&options)))
        })
    };
    done.map_err(|error| format!("no overlay can be mounted: {error}"))
}

/// Whether the set-user-id helpers map a range for this user.
pub(crate) fn newuidmap() -> Result<(), String> {
    let tools = ["newuidmap", "newgidmap"]
        .map(|name| find(name).ok_or_else(|| format!("{name} is not installed")));
    let [uidmap, gidmap] = tools;
    // SAFETY: both take nothing.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let name = user_name(uid)?;
    let uids = range("/etc/subuid", &name, uid)?;
    let gids = range("/etc/subgid", &name, uid)?;
    let (mut ready, ready_end) = io::pipe().map_err(|error| error.to_string())?;
    let (hold, hold_end) = io::pipe().map_err(|error| error.to_string())?;
    let (tell, held, other) = (OwnedFd::from(ready_end), OwnedFd::from(hold), hold_end.as_raw_fd());
    // SAFETY: the child makes system calls on descriptors that are open, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above; the parent's end is closed so that the read ends with the parent.
        unsafe {
            libc::close(other);
            let mut byte = errno_of(libc::unshare(libc::CLONE_NEWUSER)) as u8;
            libc::write(tell.as_raw_fd(), (&raw const byte).cast(), 1);
            libc::read(held.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::_exit(0)
        }
    }
    drop((tell, held));
    let mut byte = [1];
    let unshared = ready.read_exact(&mut byte).is_ok() && byte == [0];
    let map = |tool: Result<PathBuf, String>, own: u32, first: &str| {
        let own = own.to_string();
        let mut command = Command::new(tool?);
        command.args([&child.to_string(), "0", &own, "1", "1", first, "1"]);
        let output = command.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    let mapped = if unshared {
        map(uidmap, uid, &uids).and_then(|()| map(gidmap, gid, &gids))
    } else {
        Err("no user namespaces for this user".to_owned())
    };
    drop(hold_end);
    if child > 0 {
        let _ = wait(child);
    }
    mapped
}

fn user_name(uid: u32) -> Result<String, String> {
    let users = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let mut names = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    names.next().ok_or_else(|| format!("uid {uid} has no name in /etc/passwd"))
}

/// The first id of the user's first range.
fn range(path: &str, name: &str, uid: u32) -> Result<String, String> {
    let all = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let uid = uid.to_string();
    let mut mine = all.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        (owner == name || owner == uid).then(|| fields.next().map(str::to_owned))?
    });
    mine.next().ok_or_else(|| format!("{path} has no range for {name}"))
}
