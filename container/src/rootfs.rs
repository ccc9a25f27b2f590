use ireko_sys::Size;
use std::path::{Path, PathBuf};

/// The file tree of a container. A path converts into a read-only directory.
#[derive(Clone, Debug)]
#[must_use]
pub struct Rootfs {
    pub(crate) base: Base,
    pub(crate) changes: Changes,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Base {
    /// The host's system tree.
    Host,
    /// This directory of the host.
    Directory(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Changes {
    /// There are none.
    ReadOnly,
    /// In the directory itself.
    Kept,
    /// In a tmpfs of this size.
    Ephemeral(Size),
}

impl Rootfs {
    /// The host's own system tree, read-only: `/usr`, `/bin`, `/sbin`, `/lib*`,
    /// `/etc`, `/opt`. `/run`, `/tmp`, `/var`, `/home`, `/root` and `/dev/shm` are
    /// fresh and empty, nothing else that is mounted on the host is there, and what
    /// only the host's root may read stays unreadable. Sockets and fifos in those trees
    /// lead nowhere. Never id-mapped, so it can be neither
    /// [`writable`](Self::writable) nor [`ephemeral`](Self::ephemeral). The default.
    pub fn host() -> Self {
        Self { base: Base::Host, changes: Changes::ReadOnly }
    }

    /// This directory, read-only, with owners as seen inside (id-mapped where the ids
    /// are a range); `/tmp`, `/run` and `/dev/shm` are fresh.
    pub fn directory(dir: impl AsRef<Path>) -> Self {
        Self { base: Base::Directory(dir.as_ref().to_owned()), changes: Changes::ReadOnly }
    }

    /// Changes go to the directory itself and stay, with the owners seen inside.
    ///
    /// # Errors
    /// At `plan()`, `Denied` where users of the host could reach it: root inside may
    /// leave set-user-id files there, so an ancestor must be root's alone (0700).
    pub fn writable(mut self) -> Self {
        self.changes = Changes::Kept;
        self
    }

    /// Changes go to a tmpfs of this size and vanish. Linux 5.11 for ordinary users.
    pub fn ephemeral(mut self, size: Size) -> Self {
        self.changes = Changes::Ephemeral(size);
        self
    }
}

impl From<&str> for Rootfs {
    fn from(dir: &str) -> Self {
        Self::directory(dir)
    }
}

impl From<&Path> for Rootfs {
    fn from(dir: &Path) -> Self {
        Self::directory(dir)
    }
}

impl From<PathBuf> for Rootfs {
    fn from(dir: PathBuf) -> Self {
        Self::directory(dir)
    }
}
