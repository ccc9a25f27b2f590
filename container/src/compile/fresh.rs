//! Steps that make the places which are fresh and empty.

use super::table::{NODEV, NOSUID, UNLISTED};
use super::{Draft, For, register};
use crate::Result;
use crate::rootfs::{Base, Changes};
use ireko_namespaces::start::{Code, Fd, Op};
use ireko_sys::Size;

/// What is there besides, empty: name, mode, and whether it can be written to.
pub(super) const EMPTY: [(&str, u32, bool); 7] = [
    ("tmp", 0o1777, true),
    ("run", 0o755, true),
    ("var", 0o755, true),
    ("home", 0o755, true),
    ("root", 0o700, true),
    ("mnt", 0o755, false),
    ("srv", 0o755, false),
];
/// Size of the one behind all that is fresh: /tmp, /run and the like.
const FRESH: Size = Size::mib(256);

impl Draft<'_> {
    /// Places that are fresh and empty whatever the tree has there: directories of one
    /// tmpfs, since to make one and to take it down again is what costs.
    pub(super) fn fresh_store(&mut self, rootfs: &crate::Rootfs) -> Result<()> {
        self.new_tmpfs("all that is fresh", register::FRESH, 0o700, FRESH, NOSUID | NODEV)?;
        let store = Fd::register(register::FRESH);
        self.attach_outside(store, "/proc", "put it over the host's /proc, for now", UNLISTED)?;
        let mut places: Vec<(String, u32)> = EMPTY
            .iter()
            .filter(|(name, ..)| self.is_fresh(name, rootfs))
            .map(|(name, mode, _)| ((*name).to_owned(), *mode))
            .collect();
        places.push(("shm".into(), 0o1777));
        // What directories are hidden behind, and what others are built on.
        places.push(("empty".into(), 0o555));
        if rootfs.base == Base::Host {
            places.push(("host".into(), 0o755));
        }
        if self.copied(For::Dev).is_none() {
            places.push(("dev".into(), 0o755));
        }
        if self.is_fresh("var", rootfs) {
            places.push(("var/tmp".into(), 0o1777));
        }
        for (name, mode) in places {
            let op =
                Op { a: store.0, b: self.recipe.text(&name)?, c: mode, ..Op::new(Code::MakeDir) };
            self.step(op, format!("make a directory {name} on it"));
        }
        Ok(())
    }

    pub(super) fn fresh_dirs(&mut self, rootfs: &crate::Rootfs) -> Result<()> {
        for (name, ..) in EMPTY {
            if self.is_fresh(name, rootfs) {
                self.fresh(name, name, NOSUID | NODEV)?;
            }
        }
        Ok(())
    }

    /// Mounts a directory of the fresh ones.
    pub(super) fn fresh(&mut self, name: &str, at: &str, attributes: u64) -> Result<()> {
        self.copy_fresh(name, register::SCRATCH, attributes)?;
        let entry = self.table.must(&format!("/{at}"), attributes);
        self.attach(Fd::register(register::SCRATCH), at, false, entry)?;
        Ok(())
    }

    /// Copies the mount of one of these directories.
    pub(super) fn copy_fresh(&mut self, name: &str, register: u32, attributes: u64) -> Result<()> {
        let op = Op {
            a: Fd::register(register::FRESH).0,
            b: self.recipe.text(name)?,
            c: register,
            x: attributes,
            ..Op::new(Code::CloneTree)
        };
        self.step(op, format!("copy the mount of {name}"));
        Ok(())
    }

    /// What a mask covers directories with: the empty one, where there is the store.
    pub(super) fn nothing(&self) -> u64 {
        let fd = if self.shape.confined { Fd::register(register::FRESH) } else { Fd::CWD };
        fd.0.into()
    }

    /// Whether a tmpfs of ours is there: a directory keeps its own /var, /home and
    /// /root, and all of them where it can be written to.
    pub(super) fn is_fresh(&self, name: &str, rootfs: &crate::Rootfs) -> bool {
        let writable = EMPTY.iter().any(|(known, _, fresh)| *known == name && *fresh);
        if !self.shape.confined || !writable {
            return false;
        }
        rootfs.base == Base::Host
            || matches!(name, "tmp" | "run")
                && rootfs.changes == Changes::ReadOnly
                && self.is_in_root(rootfs, name)
    }
}
