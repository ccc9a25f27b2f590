//! The file tree.

use super::Builder;
use crate::{Mount, Rootfs};
use std::path::Path;

impl Builder {
    /// What `/` is: a directory's path, or a [`Rootfs`]. Default: [`Rootfs::host`].
    pub fn rootfs(mut self, rootfs: impl Into<Rootfs>) -> Self {
        self.0.rootfs = Some(rootfs.into());
        self
    }

    /// Shows a path of the host at the same place, read-only with all below it: the
    /// named exception to an empty `/home`, `/run` or `/tmp`. A socket below it can
    /// still be connected to.
    pub fn expose(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        self.mount(Mount::bind(path, path).read_only())
    }

    /// Shows a path of the host at the same place, writable with all below it.
    pub fn expose_writable(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        self.mount(Mount::bind(path, path))
    }

    /// Mounts something, after what was named before.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.0.mounts.push(mount);
        self
    }
}
