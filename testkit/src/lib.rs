//! What the tests of the workspace share: a static [`payload`] to run in containers,
//! [`need!`] for tests that cannot run everywhere, [`TempDir`] and [`rootfs`], a [`Census`] of
//! what may be left behind, a [`Caller`] as it was before, and [`within`] a time.
//!
//! Names tell the tier: tests are `unpriv_…` when they run as an ordinary user, `root_…` when
//! they run as root; `cargo xtask test` runs both.

mod caller;
mod census;
mod floor;
mod need;
mod probe;
mod proc;
mod rootfs;
mod tempdir;
mod watchdog;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub use caller::Caller;
pub use census::Census;
pub use floor::{Floor, floor};
pub use need::{Need, Skip, met, skipped};
pub use rootfs::{Rootfs, rootfs};
pub use tempdir::TempDir;
pub use watchdog::within;

/// The static program of many verbs; `payload/main.rs` has the table of them.
///
/// `IREKO_PAYLOAD` names another place for it, for test binaries that are run by a user who
/// may not see the build directory.
///
/// # Panics
/// When there is no such file.
pub fn payload() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::var_os("IREKO_PAYLOAD")
            .map_or_else(|| PathBuf::from(concat!(env!("OUT_DIR"), "/payload")), PathBuf::from);
        assert!(path.is_file(), "no payload at {}: see IREKO_PAYLOAD", path.display());
        path
    })
}

/// The built example of that name: in the directory that `IREKO_EXAMPLES` names, else in
/// `examples` beside the directory of the running test.
///
/// # Panics
/// When it has not been built.
pub fn example(name: &str) -> PathBuf {
    let directory = std::env::var_os("IREKO_EXAMPLES").map(PathBuf::from).or_else(|| {
        let test = std::env::current_exe().ok()?;
        Some(test.parent()?.parent()?.join("examples"))
    });
    let path = directory.unwrap_or_default().join(name);
    assert!(path.is_file(), "no example at {}: see IREKO_EXAMPLES", path.display());
    path
}

/// A lock for tests that look at the whole process or machine. Those of one binary that use
/// it run one after another; the others have to be in another binary.
pub fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}
