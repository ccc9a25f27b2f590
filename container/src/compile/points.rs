//! Steps that mount what the builder names, and make the places for it.

use super::fresh::EMPTY;
use super::sources::open;
use super::system::SYSTEM;
use super::table::{NODEV, NOEXEC, NOSUID, RDONLY};
use super::tree::ROOT;
use super::{Draft, For, register};
use crate::mount::MountKind;
use crate::rootfs::{Base, Changes};
use crate::{Error, Mount, Result, Stage};
use ireko_namespaces::start::{Code, Fd, Op};
use ireko_sys::{Errno, Root, Size};
use std::path::{Component, Path, PathBuf};

/// Size of a tmpfs that is asked for, where nobody said another.
const SIZE: Size = Size::mib(64);

impl Draft<'_> {
    pub(super) fn mounts_in_place(&mut self) -> Result<()> {
        if self.config.mounts.is_empty() {
            return Ok(());
        }
        let op = Op {
            a: Fd::CWD.0,
            b: self.recipe.text("/")?,
            c: register::ROOT,
            ..Op::new(Code::OpenPath)
        };
        self.step(op, "hold the caller's root");
        for (index, mount) in self.config.mounts.iter().enumerate() {
            self.mount_at(index, mount, &lexical(&mount.at)?, None)?;
        }
        Ok(())
    }

    pub(super) fn mount(
        &mut self,
        index: usize,
        mount: &Mount,
        rootfs: &crate::Rootfs,
    ) -> Result<()> {
        let at = self.followed(lexical(&mount.at)?, rootfs);
        let shown = Path::new("/").join(&at);
        let place = self.place_of(&shown, rootfs);
        self.mount_at(index, mount, &at, place.as_deref())?;
        let fresh = matches!(mount.kind, MountKind::Tmpfs) && !mount.read_only;
        self.mounted.push((shown, fresh));
        Ok(())
    }

    /// Where a mount point's path leads: links of the tree are followed now, inside it,
    /// and the child meets none.
    pub(super) fn followed(&self, at: PathBuf, rootfs: &crate::Rootfs) -> PathBuf {
        let dir = match &rootfs.base {
            Base::Host => Path::new("/"),
            Base::Directory(dir) => dir,
        };
        let Ok(root) = Root::open(dir) else { return at };
        let Ok(top) = root.resolve("/").map(|top| top.path()) else { return at };
        let mut plain = PathBuf::new();
        let mut rest = at.components();
        while let Some(name) = rest.next() {
            plain.push(name);
            let found = match root.resolve(&plain) {
                Ok(found) if !self.is_covered(&plain, rootfs) => found.path(),
                _ => return plain.join(rest.as_path()),
            };
            match found.strip_prefix(&top) {
                Ok(found) => plain = found.to_owned(),
                Err(_) => return at,
            }
        }
        plain
    }

    /// Whether what is seen there inside is not the tree's.
    pub(super) fn is_covered(&self, path: &Path, rootfs: &crate::Rootfs) -> bool {
        let shown = Path::new("/").join(path);
        let top = path.iter().next().and_then(|name| name.to_str()).unwrap_or_default();
        self.mounted.iter().any(|(earlier, _)| shown.starts_with(earlier))
            || self.is_fresh(top, rootfs)
            || self.shape.confined && ["proc", "sys", "dev"].contains(&top)
            || rootfs.base == Base::Host && !SYSTEM.contains(&top)
    }

    /// The tree of ours in which a mount point may be made; `None`: it must be there,
    /// since nothing is ever made on the host's.
    pub(super) fn place_of(&self, at: &Path, rootfs: &crate::Rootfs) -> Option<PathBuf> {
        let below = |dir: &Path| at.strip_prefix(dir).is_ok_and(|rest| rest != Path::new(""));
        // What was mounted last above it decides.
        for (earlier, fresh) in self.mounted.iter().rev() {
            if below(earlier) {
                return fresh.then(|| earlier.clone());
            }
        }
        for (name, _, _) in EMPTY {
            let dir = Path::new("/").join(name);
            if below(&dir) && self.is_fresh(name, rootfs) {
                return Some(dir);
            }
        }
        let system = SYSTEM.iter().chain(&["proc", "sys", "dev"]);
        if system.map(|name| Path::new("/").join(name)).any(|dir| below(&dir))
            && rootfs.base == Base::Host
        {
            return None;
        }
        let ours = rootfs.base == Base::Host || matches!(rootfs.changes, Changes::Ephemeral(_));
        ours.then(|| PathBuf::from("/"))
    }

    pub(super) fn mount_at(
        &mut self,
        index: usize,
        mount: &Mount,
        at: &Path,
        place: Option<&Path>,
    ) -> Result<()> {
        self.stage(Stage::Mount);
        let shown = format!("/{}", at.display());
        let mut attributes = NOSUID | NODEV;
        attributes |= if mount.read_only { RDONLY } else { 0 };
        attributes |= if mount.no_exec { NOEXEC } else { 0 };
        if mount.size.is_some() && !matches!(mount.kind, MountKind::Tmpfs) {
            return Err(Error::invalid(
                format!("mount something on {shown}"),
                "only a tmpfs has a size",
            ));
        }
        let text = at.to_str().ok_or_else(|| {
            Error::invalid(format!("mount something on {shown}"), "the mount point is not UTF-8")
        })?;
        let (tree, is_dir) = match &mount.kind {
            MountKind::Hidden => {
                let entry = self.table.may(&shown, RDONLY | NOSUID | NOEXEC);
                let op = Op {
                    a: ROOT.0,
                    b: self.recipe.text(text)?,
                    c: Fd::register(register::DEV).0,
                    x: self.nothing(),
                    y: entry,
                    ..Op::new(Code::Mask)
                };
                self.step(op, format!("hide {shown}"));
                return Ok(());
            }
            MountKind::Tmpfs => {
                let size = mount.size.unwrap_or(SIZE);
                // Read-only from the start it would be of no use; it is made so here.
                self.new_tmpfs(&shown, register::SCRATCH, 0o1777, size, attributes)?;
                (Fd::register(register::SCRATCH), true)
            }
            MountKind::Bind(from) => {
                let is_dir = match open(from) {
                    Err(error) if mount.if_present && error.errno() == Some(Errno::ENOENT) => {
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                    Ok(source) => source.meta.is_dir(),
                };
                (self.source(For::Mount(index), from, attributes, register::SCRATCH)?, is_dir)
            }
        };
        if let Some(place) = place {
            self.make_place(place, at, is_dir)?;
        }
        let entry = self.table.tree(&shown, attributes);
        self.attach(tree, text, true, entry)?;
        Ok(())
    }

    /// Makes a mount point where it is missing, in the tree of ours at `place`.
    pub(super) fn make_place(&mut self, place: &Path, at: &Path, is_dir: bool) -> Result<()> {
        let base = Fd::register(register::PLACE);
        let op = Op {
            a: ROOT.0,
            b: self.recipe.text(place)?,
            c: register::PLACE,
            ..Op::new(Code::OpenPath)
        };
        self.step(op, format!("hold {}", place.display()));
        let plain = place.strip_prefix("/").unwrap_or(place);
        let rest = at.strip_prefix(plain).unwrap_or(at);
        let dir = if is_dir { Some(rest) } else { rest.parent() };
        if let Some(dir) = dir.filter(|dir| *dir != Path::new("")) {
            let op = Op { a: base.0, b: self.recipe.text(dir)?, ..Op::new(Code::MakeDirsInside) };
            self.step(
                op,
                format!("make the directory {} where it is missing", place.join(dir).display()),
            );
        }
        if !is_dir {
            let op = Op { a: base.0, b: self.recipe.text(rest)?, ..Op::new(Code::MakeFile) };
            self.step(op, format!("make an empty file /{} where it is missing", at.display()));
        }
        Ok(())
    }
}

/// A path inside, without its leading slash and without `..`.
fn lexical(path: &Path) -> Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::invalid(
                    format!("mount something on {}", path.display()),
                    "the path holds ..",
                ));
            }
        }
    }
    if plain.as_os_str().is_empty() {
        return Err(Error::invalid("mount something on /", "the root is what rootfs() says"));
    }
    Ok(plain)
}
