//! The C programs that benches compare with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The built programs of `benches/floor`; see [`floor`].
#[derive(Clone, Debug)]
pub struct Floor {
    /// Starts containers with nothing between it and the kernel.
    pub floor: PathBuf,
    /// Static, and exits 0 at once.
    pub r#true: PathBuf,
}

/// Builds `benches/floor` with the C compiler when that has not been done, for benches only.
///
/// # Errors
/// A sentence that says why there is none: no sources, no compiler, or what that says.
pub fn floor() -> Result<Floor, String> {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/floor");
    let out = Path::new(env!("OUT_DIR")).join("floor");
    let built = Floor { floor: out.join("floor"), r#true: out.join("true") };
    let newest = fs::read_dir(&sources)
        .map_err(|error| format!("{}: {error}", sources.display()))?
        .flatten()
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max();
    let oldest = [&built.floor, &built.r#true]
        .map(|path| path.metadata().ok().and_then(|of| of.modified().ok()))
        .into_iter()
        .min()
        .flatten();
    if oldest.is_some() && oldest >= newest {
        return Ok(built);
    }
    let output = Command::new("sh")
        .arg(sources.join("build.sh"))
        .arg(&out)
        .output()
        .map_err(|error| format!("sh: {error}"))?;
    if output.status.success() {
        Ok(built)
    } else {
        Err(format!("the floor: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
