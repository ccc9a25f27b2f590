//! Steps that make the file tree.

use super::system::SYSTEM;
use super::table::{NODEV, NOEXEC, NOSUID, RDONLY};
use super::{Draft, For, Maps, Tree, register};
use crate::mount::MountKind;
use crate::rootfs::{Base, Changes};
use crate::{Error, Mount, Result, Stage};
use ireko_namespaces::Namespaces;
use ireko_namespaces::start::{Code, Fd, Identity, Op, flag};
use ireko_sys::{Errno, ErrorKind, Failure, Root, Size};
use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// Where the tree is, once it is there.
pub(super) const ROOT: Fd = Fd::register(register::ROOT);

/// What is there besides, empty: name, mode, and whether it can be written to.
const EMPTY: [(&str, u32, bool); 7] = [
    ("tmp", 0o1777, true),
    ("run", 0o755, true),
    ("var", 0o755, true),
    ("home", 0o755, true),
    ("root", 0o700, true),
    ("mnt", 0o755, false),
    ("srv", 0o755, false),
];
/// Size of a tmpfs that is asked for, where nobody said another.
const SIZE: Size = Size::mib(64);
/// Size of the one behind all that is fresh: /tmp, /run and the like.
const FRESH: Size = Size::mib(256);

/// A source on the host, looked up when planned.
pub(crate) struct Source {
    file: File,
    meta: Metadata,
}

impl Draft<'_> {
    /// Opens what must not change between plan and spawn: before the shared part, which
    /// keeps it open.
    pub(super) fn tree_sources(&mut self) -> Result<()> {
        let Some(rootfs) = self.shape.rootfs.clone() else {
            return self.mount_sources();
        };
        if let Base::Directory(dir) = &rootfs.base {
            let source = open(dir)?;
            if !source.meta.is_dir() {
                let what = format!("use {} as root", dir.display());
                return Err(Error::invalid(what, "it is no directory"));
            }
            if rootfs.changes == Changes::Kept && self.shape.idmaps() {
                crate::reach::refuse_in_reach(dir)?;
            }
            let read_only = rootfs.changes != Changes::Kept;
            let attributes = NOSUID | NODEV | if read_only { RDONLY } else { 0 };
            let idmapped = self.shape.idmaps();
            self.plan_source(For::Root, Path::new("/"), source, attributes, idmapped)?;
        }
        let may_make_nodes = self.shape.confined && self.shape.caller_mounts;
        if let Some(dev) = may_make_nodes.then(super::dev::template).flatten() {
            let attributes = RDONLY | NOSUID | NOEXEC;
            self.copy_later(For::Dev, Path::new("/dev"), dev, attributes, false, false)?;
        }
        self.mount_sources()
    }

    fn mount_sources(&mut self) -> Result<()> {
        for (index, mount) in self.config.mounts.iter().enumerate() {
            let MountKind::Bind(from) = &mount.kind else { continue };
            let source = match open(from) {
                Err(error) if mount.if_present && error.errno() == Some(Errno::ENOENT) => continue,
                answer => answer?,
            };
            let user_ns = !matches!(self.shape.maps, Maps::None);
            let owner_known = self.is_owner_mapped(&source.meta);
            if user_ns && !mount.read_only && !mount.idmapped && !owner_known {
                let (from, uid) = (from.display(), source.meta.uid());
                return Err(Error::invalid(
                    format!("mount {from} writable"),
                    format!("its owner {uid} is not mapped inside: nobody there could write to it"),
                )
                .with_remedy(
                    "add .idmapped() to show its owners through the id maps, or .read_only()",
                ));
            }
            if mount.idmapped && !self.shape.idmaps() {
                return Err(Error::invalid(
                    format!("show the owners of {} through the id maps", from.display()),
                    "only root can, and only with a user namespace",
                ));
            }
            if mount.idmapped && !mount.read_only {
                crate::reach::refuse_in_reach(from)?;
            }
            let mut attributes = NOSUID | NODEV;
            attributes |= if mount.read_only { RDONLY } else { 0 };
            attributes |= if mount.no_exec { NOEXEC } else { 0 };
            self.plan_source(For::Mount(index), &mount.at, source, attributes, mount.idmapped)?;
        }
        Ok(())
    }

    fn is_owner_mapped(&self, meta: &Metadata) -> bool {
        match &self.shape.maps {
            Maps::None => true,
            Maps::Claimed => false,
            Maps::Fixed(maps) => maps
                .uid_maps()
                .iter()
                .any(|m| meta.uid() >= m.outside && meta.uid() - m.outside < m.count),
        }
    }

    /// A source that the caller copies, when it may; else one that the child looks up
    /// again and compares.
    fn plan_source(
        &mut self,
        what: For,
        at: &Path,
        source: Source,
        attributes: u64,
        idmapped: bool,
    ) -> Result<()> {
        if !self.shape.caller_mounts {
            return Ok(());
        }
        self.copy_later(what, at, source.file.into(), attributes, true, idmapped)
    }

    /// Has each spawn copy the mount at `source`, for the child to attach.
    fn copy_later(
        &mut self,
        what: For,
        at: &Path,
        source: OwnedFd,
        attributes: u64,
        recursive: bool,
        idmapped: bool,
    ) -> Result<()> {
        let slot = self.slot();
        self.kept.push((Fd::slot(slot), format!("the copy of the mount for {}", at.display())));
        let name = at.display().to_string();
        let source = ireko_sys::above(10, source)?;
        self.trees.push(Tree { what, source, slot, attributes, recursive, idmapped, name });
        Ok(())
    }

    /// The copy that was planned for this: its fd.
    pub(super) fn copied(&self, what: For) -> Option<Fd> {
        self.trees.iter().find(|tree| tree.what == what).map(|tree| Fd::slot(tree.slot))
    }

    /// The mount of a host path, as an fd: the caller's copy, or made here.
    fn source(&mut self, what: For, from: &Path, attributes: u64, register: u32) -> Result<Fd> {
        if let Some(fd) = self.copied(what) {
            return Ok(fd);
        }
        let source = open(from)?;
        let path = std::path::absolute(from).map_err(|e| failed(from, Errno::of(&e)))?;
        let identity = identity(&source.meta);
        // SAFETY: plain numbers, read as bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                (&raw const identity).cast::<u8>(),
                std::mem::size_of::<Identity>(),
            )
        };
        let op = Op {
            b: self.recipe.text(&path)?,
            c: register,
            x: attributes,
            y: self.recipe.bytes(bytes).into(),
            flags: flag::RECURSIVE,
            ..Op::new(Code::CloneSame)
        };
        self.step(op, format!("copy the mount of {}", path.display()));
        Ok(Fd::register(register))
    }

    pub(super) fn tree(&mut self) -> Result<()> {
        if !self.shape.has(Namespaces::MOUNT) {
            if self.needs_proc() {
                self.stage(Stage::Mount);
                self.make_proc()?;
                self.check_namespaces()?;
                self.proc_settings()?;
            }
            return Ok(());
        }
        self.stage(Stage::Mount);
        if self.shape.confined || self.needs_proc() {
            self.make_proc()?;
            self.check_namespaces()?;
            self.proc_settings()?;
        }
        self.stage(Stage::Mount);
        self.step(Op::new(Code::Private), "let no mount cross to the host");
        let Some(rootfs) = self.shape.rootfs.clone() else {
            return self.mounts_in_place();
        };
        self.step(Op::new(Code::Umask), "set the umask to 0 while the tree is made");
        if self.shape.confined {
            self.fresh_store(&rootfs)?;
        }
        match &rootfs.base {
            Base::Host => self.host_root()?,
            Base::Directory(dir) => self.directory_root(dir, &rootfs.changes)?,
        }
        if self.shape.confined {
            self.fresh_dirs(&rootfs)?;
            self.proc_sys_dev(&rootfs)?;
        }
        for (index, mount) in self.config.mounts.iter().enumerate() {
            self.mount(index, mount, &rootfs)?;
        }
        if rootfs.base == Base::Host {
            let op = Op { a: ROOT.0, x: RDONLY, ..Op::new(Code::SetAttributes) };
            self.step(op, "make / read-only");
            self.table.must("/", RDONLY | NOSUID | NODEV);
        }
        self.stage(Stage::Root);
        self.step(
            Op { a: ROOT.0, ..Op::new(Code::Pivot) },
            "make the tree the root, and the host's go",
        );
        if self.shape.confined {
            let texts = self.table.texts().to_vec();
            let op = Op {
                a: Fd::register(register::PROC).0,
                b: self.recipe.list(texts)?,
                ..Op::new(Code::CheckMounts)
            };
            self.step(op, "check every mount against the plan");
        }
        Ok(())
    }

    fn needs_proc(&self) -> bool {
        !self.config.sysctls.is_empty()
            || self.config.oom_score_adj.is_some()
            || !self.config.clocks.is_empty()
    }

    /// The container's procfs, detached: it also serves for settings and checks.
    fn make_proc(&mut self) -> Result<()> {
        let new_pid = self.shape.has(Namespaces::PID);
        if !self.shape.confined && !self.shape.has(Namespaces::MOUNT) {
            // Nothing was mounted since the caller looked, nor can anything be.
            let op = Op {
                a: Fd::CWD.0,
                b: self.recipe.text("/proc")?,
                c: register::PROC,
                ..Op::new(Code::OpenPath)
            };
            self.step(op, "hold the caller's procfs");
            return Ok(());
        }
        if !new_pid && !self.caller_could_mount_proc() {
            // A fresh one is refused in a pid namespace that is not ours: the host's.
            let op = Op {
                a: Fd::CWD.0,
                b: self.recipe.text("/proc")?,
                c: register::PROC,
                x: NOSUID | NODEV | NOEXEC,
                flags: flag::RECURSIVE,
                ..Op::new(Code::CloneTree)
            };
            self.step(op, "copy the host's procfs");
            return Ok(());
        }
        let hide = new_pid && self.shape.confined;
        let options: &[&str] = if hide { &["hidepid", "4"] } else { &[] };
        let op = Op {
            a: self.recipe.text("proc")?,
            b: self.recipe.list(options)?,
            c: register::PROC,
            x: NOSUID | NODEV | NOEXEC,
            ..Op::new(Code::NewFs)
        };
        self.step(op, "make a procfs");
        Ok(())
    }

    /// Without a user namespace of its own root may mount one in any pid namespace.
    fn caller_could_mount_proc(&self) -> bool {
        matches!(self.shape.maps, Maps::None) && self.shape.caller_mounts
    }

    /// A tmpfs that holds the places, and the host's directories on it.
    fn host_root(&mut self) -> Result<()> {
        self.new_tmpfs("the root", register::ROOT, 0o755, Size::mib(1), NOSUID | NODEV)?;
        self.attach_outside(ROOT, "/", "put it over /")?;
        for (name, mode, _) in EMPTY {
            self.make_dir(name, mode)?;
        }
        for name in ["proc", "sys", "dev"] {
            self.make_dir(name, 0o555)?;
        }
        self.step(Op { a: ROOT.0, ..Op::new(Code::EnterFd) }, "go there");
        for name in SYSTEM {
            let path = Path::new("/").join(name);
            let Ok(meta) = path.symlink_metadata() else { continue };
            if meta.is_symlink() {
                let Ok(target) = std::fs::read_link(&path) else { continue };
                let op = Op {
                    a: ROOT.0,
                    b: self.recipe.text(&target)?,
                    c: self.recipe.text(name)?,
                    ..Op::new(Code::MakeLink)
                };
                self.step(op, format!("link /{name} to {}", target.display()));
            } else if meta.is_dir() {
                self.make_dir(name, 0o755)?;
                self.show_system(name)?;
            }
        }
        Ok(())
    }

    fn directory_root(&mut self, dir: &Path, changes: &Changes) -> Result<()> {
        let read_only = *changes != Changes::Kept;
        let attributes = NOSUID | NODEV | if read_only { RDONLY } else { 0 };
        let base = self.source(For::Root, dir, attributes, register::BASE)?;
        if let Changes::Ephemeral(size) = changes {
            return self.overlay_root(base, dir, *size);
        }
        self.attach_outside(base, "/", format!("put {} over /", dir.display()))?;
        let op = Op {
            a: base.0,
            b: self.recipe.text("/")?,
            c: register::ROOT,
            ..Op::new(Code::OpenPath)
        };
        self.step(op, "hold it");
        self.table.tree("/", attributes);
        Ok(())
    }

    /// The directory below, a tmpfs of ours on top.
    fn overlay_root(&mut self, base: Fd, dir: &Path, size: Size) -> Result<()> {
        let store = Fd::register(register::STORE);
        self.new_tmpfs("changes", register::STORE, 0o700, size, NOSUID | NODEV)?;
        self.attach_outside(store, "/proc", "put it over the host's /proc, for now")?;
        let mode = dir.metadata().map_or(0o755, |meta| meta.mode() & 0o7777);
        for (name, mode) in [("lower", 0o755), ("upper", mode), ("work", 0o755)] {
            let op =
                Op { a: store.0, b: self.recipe.text(name)?, c: mode, ..Op::new(Code::MakeDir) };
            self.step(op, format!("make a directory {name} on it"));
        }
        let op =
            Op { a: base.0, b: store.0, c: self.recipe.text("lower")?, ..Op::new(Code::Attach) };
        self.step(op, format!("mount {} on lower", dir.display()));
        self.step(Op { a: store.0, ..Op::new(Code::EnterFd) }, "go there");
        let mut options = vec!["lowerdir", "lower", "upperdir", "upper", "workdir", "work"];
        if matches!(self.shape.maps, Maps::None) {
            options.extend(["volatile", "\u{1}"]);
        } else {
            options.extend(["userxattr", "\u{1}"]);
        }
        let op = Op {
            a: self.recipe.text("overlay")?,
            b: self.recipe.list(options)?,
            c: register::ROOT,
            x: NOSUID | NODEV,
            ..Op::new(Code::NewFs)
        };
        self.step(op, "lay an overlay over both");
        self.attach_outside(ROOT, "/", "put it over /")?;
        self.table.must("/", NOSUID | NODEV);
        Ok(())
    }

    pub(super) fn new_tmpfs(
        &mut self,
        what: &str,
        register: u32,
        mode: u32,
        size: Size,
        attributes: u64,
    ) -> Result<()> {
        let (mode, bytes) = (format!("{mode:o}"), size.as_bytes().to_string());
        let op = Op {
            a: self.recipe.text("tmpfs")?,
            b: self.recipe.list(["mode", &mode, "size", &bytes])?,
            c: register,
            x: attributes,
            ..Op::new(Code::NewFs)
        };
        self.step(op, format!("make a tmpfs for {what}, {size}, mode {mode}"));
        Ok(())
    }

    pub(super) fn make_dir(&mut self, name: &str, mode: u32) -> Result<()> {
        let op = Op { a: ROOT.0, b: self.recipe.text(name)?, c: mode, ..Op::new(Code::MakeDir) };
        self.step(op, format!("make the directory /{name}"));
        Ok(())
    }

    /// Attaches in what is still the caller's tree, in a mount namespace of our own. Only
    /// the root goes over `/`: the pivot takes one mount away from there.
    pub(super) fn attach_outside(
        &mut self,
        tree: Fd,
        at: &str,
        text: impl Into<String>,
    ) -> Result<()> {
        let op = Op { a: tree.0, b: self.recipe.text(at)?, ..Op::new(Code::AttachOutside) };
        self.step(op, text);
        Ok(())
    }

    /// Attaches inside the tree. A symlink in a strict path is an error.
    pub(super) fn attach(&mut self, tree: Fd, at: &str, strict: bool) -> Result<()> {
        let op = Op {
            a: tree.0,
            b: ROOT.0,
            c: self.recipe.text(at)?,
            flags: if strict { flag::STRICT } else { 0 }
                | if self.shape.confined { 0 } else { flag::READ_BACK },
            ..Op::new(Code::Attach)
        };
        self.step(op, format!("mount it on /{at}"));
        Ok(())
    }

    /// Places that are fresh and empty whatever the tree has there: directories of one
    /// tmpfs, since to make one and to take it down again is what costs.
    fn fresh_store(&mut self, rootfs: &crate::Rootfs) -> Result<()> {
        self.new_tmpfs("all that is fresh", register::FRESH, 0o700, FRESH, NOSUID | NODEV)?;
        let store = Fd::register(register::FRESH);
        self.attach_outside(store, "/proc", "put it over the host's /proc, for now")?;
        let mut places: Vec<(String, u32)> = EMPTY
            .iter()
            .filter(|(name, ..)| self.is_fresh(name, rootfs))
            .map(|(name, mode, _)| ((*name).to_owned(), *mode))
            .collect();
        places.push(("shm".into(), 0o1777));
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

    fn fresh_dirs(&mut self, rootfs: &crate::Rootfs) -> Result<()> {
        for (name, ..) in EMPTY {
            if self.is_fresh(name, rootfs) {
                self.fresh(name, name, NOSUID | NODEV)?;
            }
        }
        Ok(())
    }

    /// Mounts a directory of the fresh ones.
    pub(super) fn fresh(&mut self, name: &str, at: &str, attributes: u64) -> Result<()> {
        let op = Op {
            a: Fd::register(register::FRESH).0,
            b: self.recipe.text(name)?,
            c: register::SCRATCH,
            x: attributes,
            ..Op::new(Code::CloneTree)
        };
        self.step(op, format!("copy the mount of {name}"));
        self.attach(Fd::register(register::SCRATCH), at, false)?;
        self.table.must(&format!("/{at}"), attributes);
        Ok(())
    }

    /// Whether a tmpfs of ours is there: a directory keeps its own /var, /home and
    /// /root, and all of them where it can be written to.
    fn is_fresh(&self, name: &str, rootfs: &crate::Rootfs) -> bool {
        let writable = EMPTY.iter().any(|(known, _, fresh)| *known == name && *fresh);
        if !self.shape.confined || !writable {
            return false;
        }
        rootfs.base == Base::Host
            || matches!(name, "tmp" | "run")
                && rootfs.changes == Changes::ReadOnly
                && self.is_in_root(rootfs, name)
    }

    /// Whether a directory of this name is at the top of the tree, not behind a link.
    pub(super) fn is_in_root(&self, rootfs: &crate::Rootfs, name: &str) -> bool {
        match &rootfs.base {
            Base::Host => true,
            Base::Directory(dir) => {
                dir.join(name).symlink_metadata().is_ok_and(|meta| meta.is_dir())
            }
        }
    }

    fn mounts_in_place(&mut self) -> Result<()> {
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

    fn mount(&mut self, index: usize, mount: &Mount, rootfs: &crate::Rootfs) -> Result<()> {
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
    fn followed(&self, at: PathBuf, rootfs: &crate::Rootfs) -> PathBuf {
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
    fn is_covered(&self, path: &Path, rootfs: &crate::Rootfs) -> bool {
        let shown = Path::new("/").join(path);
        let top = path.iter().next().and_then(|name| name.to_str()).unwrap_or_default();
        self.mounted.iter().any(|(earlier, _)| shown.starts_with(earlier))
            || self.is_fresh(top, rootfs)
            || self.shape.confined && ["proc", "sys", "dev"].contains(&top)
            || rootfs.base == Base::Host && !SYSTEM.contains(&top)
    }

    /// The tree of ours in which a mount point may be made; `None`: it must be there,
    /// since nothing is ever made on the host's.
    fn place_of(&self, at: &Path, rootfs: &crate::Rootfs) -> Option<PathBuf> {
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

    fn mount_at(
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
        self.attach(tree, text, true)?;
        self.table.tree(&shown, attributes);
        Ok(())
    }

    /// Makes a mount point where it is missing, in the tree of ours at `place`.
    fn make_place(&mut self, place: &Path, at: &Path, is_dir: bool) -> Result<()> {
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

fn failed(path: &Path, errno: Errno) -> Error {
    Error::new(Stage::Config, Failure::kernel(format!("open {}", path.display()), errno))
}

/// Holds a path of the host without opening it.
fn open(path: &Path) -> Result<Source> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .map_err(|e| failed(path, Errno::of(&e)))?;
    let meta = file.metadata().map_err(|e| failed(path, Errno::of(&e)))?;
    let kind = meta.file_type();
    if kind.is_block_device() {
        return Err(Error::invalid(format!("mount {}", path.display()), "it is a block device"));
    }
    Ok(Source { file, meta })
}

fn identity(meta: &Metadata) -> Identity {
    Identity { major: libc::major(meta.dev()), minor: libc::minor(meta.dev()), inode: meta.ino() }
}

/// What is mounted on a link would be wherever that leads.
pub(super) fn refuse_link(rootfs: &crate::Rootfs, name: &str) -> Result<()> {
    let Base::Directory(dir) = &rootfs.base else { return Ok(()) };
    let path = dir.join(name);
    if !path.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
        return Ok(());
    }
    let failure = Failure::ours(
        ErrorKind::Invalid,
        format!("mount something on /{name}"),
        format!("{} is a link", path.display()),
    )
    .remedy(format!("make {} a directory", path.display()));
    Err(Error::new(Stage::Mount, failure))
}

pub(super) fn missing_place(rootfs: &crate::Rootfs, name: &str) -> Error {
    let dir = match &rootfs.base {
        Base::Host => "/".into(),
        Base::Directory(dir) => dir.display().to_string(),
    };
    let failure = Failure::ours(
        ErrorKind::NotFound,
        format!("mount something on /{name}"),
        format!("{dir} has no directory of that name, and nothing is made on the host's tree"),
    )
    .remedy(format!("mkdir {dir}/{name}, or add .ephemeral(size) to the root"));
    Error::new(Stage::Mount, failure)
}
