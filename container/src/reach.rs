//! Whether ordinary users of the host could reach a directory.
//!
//! Root inside may leave set-user-id files in a writable tree with mapped owners. They
//! belong to a high id that is nobody's here, but a file of another container's range
//! would be that container's root: so somebody above must be root's alone.

use crate::{Error, Result, Stage};
use ireko_sys::{Errno, ErrorKind, Failure};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(crate) fn refuse_in_reach(dir: &Path) -> Result<()> {
    let real = dir.canonicalize().map_err(|e| {
        let failure = Failure::kernel(format!("look up {}", dir.display()), Errno::of(&e));
        Error::new(Stage::Config, failure)
    })?;
    let closed = real.ancestors().any(|above| {
        above
            .metadata()
            .is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o077 == 0 && meta.is_dir())
    });
    if closed {
        return Ok(());
    }
    let remedy = match real.parent() {
        // One that others use too is not to be closed for this.
        Some(above)
            if above.metadata().is_ok_and(|meta| meta.mode() & 0o022 == 0) && above != "/" =>
        {
            format!("chmod 0700 {} (root's own), or use .ephemeral(size)", above.display())
        }
        _ => "move it into a directory of root's own and chmod 0700 that, or use .ephemeral(size)"
            .to_owned(),
    };
    let failure = Failure::ours(
        ErrorKind::Denied,
        format!("make {} writable", dir.display()),
        "users of this host can reach it: root inside could leave set-user-id files for them",
    )
    .remedy(remedy);
    Err(Error::new(Stage::Config, failure))
}
