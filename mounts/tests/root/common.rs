//! A mount namespace for each test, in a thread of its own.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One test at a time: a process that another one starts has copies of its files for
/// an instant, and they keep mounts and programs busy.
static TURN: Mutex<()> = Mutex::new(());

/// Says why a test does not run; fails when `IREKO_REQUIRE` names what is missing.
pub(crate) fn skip(name: &str, needs: &str, why: &str) {
    let required = std::env::var("IREKO_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == needs), "{name} is required to run: {why}");
    testkit::skipped(why, name);
}

/// Runs a test with an empty tmpfs in a private mount namespace, as root.
pub(crate) fn private(name: &str, test: impl FnOnce(&Path) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "root", "not root");
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = scratch(name);
    let place = dir.clone();
    let ended = std::thread::spawn(move || {
        // Implies CLONE_FS: the other threads keep their working directory.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("test"), &place, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        test(&place);
    })
    .join();
    // The namespace and all in it ended with the thread.
    std::fs::remove_dir(&dir).unwrap();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// An empty directory of this name, without symlinks in its path.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("ireko-mounts-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir.canonicalize().unwrap()
}

/// Makes directories below one.
pub(crate) fn dirs<const N: usize>(below: &Path, names: [&str; N]) -> [PathBuf; N] {
    names.map(|name| {
        let dir = below.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    })
}
