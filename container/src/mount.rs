use ireko_sys::Size;
use std::path::{Path, PathBuf};

/// Something mounted inside, in the order given. No set-user-id, no devices.
/// Mount points are made on trees of ours only, never on the host's.
#[derive(Clone, Debug)]
#[must_use]
pub struct Mount {
    pub(crate) kind: MountKind,
    pub(crate) at: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) no_exec: bool,
    pub(crate) size: Option<Size>,
    pub(crate) idmapped: bool,
    pub(crate) if_present: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum MountKind {
    Bind(PathBuf),
    Tmpfs,
    Hidden,
}

impl Mount {
    fn new(kind: MountKind, at: &Path) -> Self {
        Self {
            kind,
            at: at.to_owned(),
            read_only: false,
            no_exec: false,
            size: None,
            idmapped: false,
            if_present: false,
        }
    }

    /// A file or directory of the host with all that is mounted below, writable.
    /// Its owners are shown as they are; where it is writable and its owner is not
    /// mapped, `plan()` is `Invalid` and names [`idmapped`](Self::idmapped).
    pub fn bind(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Self {
        Self::new(MountKind::Bind(from.as_ref().to_owned()), to.as_ref())
    }

    /// An empty tmpfs, mode 1777. Default size: 64 MiB.
    pub fn tmpfs(at: impl AsRef<Path>) -> Self {
        Self::new(MountKind::Tmpfs, at.as_ref())
    }

    /// Hides a file or directory behind an empty one; nothing where there is none.
    pub fn hidden(at: impl AsRef<Path>) -> Self {
        Self::new(MountKind::Hidden, at.as_ref())
    }

    /// Not writable, nor is anything mounted below it.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Nothing on it can be executed.
    pub fn no_exec(mut self) -> Self {
        self.no_exec = true;
        self
    }

    /// The size of a tmpfs; `Invalid` at `plan()` for the others.
    pub fn size(mut self, size: Size) -> Self {
        self.size = Some(size);
        self
    }

    /// Owners on disk are those seen inside. Where it is writable, an ancestor must be
    /// root's alone (0700), as for [`Rootfs::writable`](super::Rootfs::writable).
    pub fn idmapped(mut self) -> Self {
        self.idmapped = true;
        self
    }

    /// Left out where the source is missing, instead of being an error.
    pub fn if_present(mut self) -> Self {
        self.if_present = true;
        self
    }
}
