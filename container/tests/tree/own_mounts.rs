//! Tests that mount something do it in a mount namespace of a process of their own: the
//! test's binary is started again for this one test. Containers are cloned from a thread of
//! the library's, so that one thread of this process alone would not do.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null;
use testkit::TempDir;

const VARIABLE: &str = "IREKO_TREE_DIRECTORY";

/// A mount to be made before the test goes on: source, target, type, flags.
pub(crate) struct Spec(CString, CString, CString, libc::c_ulong);

fn text(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).expect("no zero byte")
}

pub(crate) fn tmpfs(at: impl AsRef<Path>) -> Spec {
    Spec(text("test"), text(at), text("tmpfs"), 0)
}

pub(crate) fn bind(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Spec {
    Spec(text(from), text(to), text("none"), libc::MS_BIND)
}

/// The rest of the test runs in a mount namespace of its own with these mounts, and gets an
/// empty directory; in the process that was started first it returns here.
macro_rules! own_mounts {
    ($mounts:expr) => {{
        fn here() {}
        match crate::own_mounts::enter(std::any::type_name_of_val(&here), $mounts) {
            Some(directory) => directory,
            None => return,
        }
    }};
}
pub(crate) use own_mounts;

/// `None` when the test has run in another process.
#[track_caller]
pub(crate) fn enter(here: &str, mounts: impl FnOnce(&Path) -> Vec<Spec>) -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os(VARIABLE) {
        return Some(directory.into());
    }
    let name = here.strip_suffix("::here").unwrap_or(here);
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    let directory = TempDir::public();
    let mounts = mounts(directory.path());
    // SAFETY: these take nothing.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let map = |id: u32| text(format!("{id} {id} 1"));
    let files = [
        (c"/proc/self/setgroups", text("deny")),
        (c"/proc/self/uid_map", map(uid)),
        (c"/proc/self/gid_map", map(gid)),
    ];
    let set_up = move || {
        let user = if uid == 0 { 0 } else { libc::CLONE_NEWUSER };
        // SAFETY: a number.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS | user) })?;
        for (file, text) in files.iter().filter(|_| uid != 0) {
            write(file, text)?;
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: strings that end in zero, or null.
        check(unsafe { libc::mount(null(), c"/".as_ptr(), null(), private, null()) })?;
        for Spec(source, target, kind, flags) in &mounts {
            // SAFETY: as above.
            check(unsafe {
                libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), *flags, null())
            })?;
        }
        Ok(())
    };
    let mut again = Command::new(std::env::current_exe().expect("this binary"));
    again.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    again.env(VARIABLE, directory.path());
    // SAFETY: the closure makes system calls on strings made before.
    unsafe { again.pre_exec(set_up) };
    let output = again.output().expect("this binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{name}: {said}\n{err}");
    None
}

/// Mounts, in the process that [`enter`] started.
#[track_caller]
pub(crate) fn mount(spec: &Spec) {
    assert!(std::env::var_os(VARIABLE).is_some(), "never in the host's mount namespace");
    let Spec(source, target, kind, flags) = spec;
    // SAFETY: strings that end in zero, and null.
    let done = check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), *flags, null())
    });
    done.unwrap_or_else(|error| panic!("mount on {target:?}: {error}"));
}

/// Lets mounts cross to and from copies of this namespace, as most hosts do.
pub(crate) fn share_all() {
    mount(&Spec(text("none"), text("/"), text("none"), libc::MS_REC | libc::MS_SHARED));
}

fn write(file: &CStr, text: &CStr) -> io::Result<()> {
    // SAFETY: strings that end in zero; the descriptor is closed at exec.
    unsafe {
        let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(fd)?;
        check(libc::write(fd, text.as_ptr().cast(), text.count_bytes()) as i32)
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
