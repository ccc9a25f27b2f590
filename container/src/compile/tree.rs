//! Steps that make the file tree.

use super::fresh::EMPTY;
use super::system::SYSTEM;
use super::table::{NODEV, NOEXEC, NOSUID, RDONLY, UNLISTED};
use super::{Draft, For, Maps, register};
use crate::rootfs::{Base, Changes};
use crate::{Error, Result, Stage};
use ireko_namespaces::Namespaces;
use ireko_namespaces::start::{Code, Fd, Op, flag};
use ireko_sys::{ErrorKind, Failure, Size};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where the tree is, once it is there.
pub(super) const ROOT: Fd = Fd::register(register::ROOT);

impl Draft<'_> {
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

    /// A directory of ours that holds the places, and the host's directories on it.
    fn host_root(&mut self) -> Result<()> {
        self.copy_fresh("host", register::ROOT, NOSUID | NODEV)?;
        let entry = self.table.must("/", RDONLY | NOSUID | NODEV);
        self.attach_outside(ROOT, "/", "put it over /", entry)?;
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
        let attributes = self.of_tree() | if read_only { RDONLY } else { 0 };
        let base = self.source(For::Root, dir, attributes, register::BASE)?;
        if let Changes::Ephemeral(size) = changes {
            return self.overlay_root(base, dir, *size);
        }
        let entry = self.table.tree("/", attributes);
        self.attach_outside(base, "/", format!("put {} over /", dir.display()), entry)?;
        let op = Op {
            a: base.0,
            b: self.recipe.text("/")?,
            c: register::ROOT,
            ..Op::new(Code::OpenPath)
        };
        self.step(op, "hold it");
        Ok(())
    }

    /// The directory below, a tmpfs of ours on top.
    fn overlay_root(&mut self, base: Fd, dir: &Path, size: Size) -> Result<()> {
        let store = Fd::register(register::STORE);
        self.new_tmpfs("changes", register::STORE, 0o700, size, NOSUID | NODEV)?;
        self.attach_outside(store, "/proc", "put it over the host's /proc, for now", UNLISTED)?;
        let mode = dir.metadata().map_or(0o755, |meta| meta.mode() & 0o7777);
        for (name, mode) in [("lower", 0o755), ("upper", mode), ("work", 0o755)] {
            let op =
                Op { a: store.0, b: self.recipe.text(name)?, c: mode, ..Op::new(Code::MakeDir) };
            self.step(op, format!("make a directory {name} on it"));
        }
        let op = Op {
            a: base.0,
            b: store.0,
            c: self.recipe.text("lower")?,
            y: UNLISTED,
            ..Op::new(Code::Attach)
        };
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
            x: self.of_tree(),
            ..Op::new(Code::NewFs)
        };
        self.step(op, "lay an overlay over both");
        let entry = self.table.must("/", self.of_tree());
        self.attach_outside(ROOT, "/", "put it over /", entry)?;
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
        entry: u64,
    ) -> Result<()> {
        let op =
            Op { a: tree.0, b: self.recipe.text(at)?, y: entry, ..Op::new(Code::AttachOutside) };
        self.step(op, text);
        Ok(())
    }

    /// Attaches inside the tree. A symlink in a strict path is an error.
    pub(super) fn attach(&mut self, tree: Fd, at: &str, strict: bool, entry: u64) -> Result<()> {
        let op = Op {
            a: tree.0,
            b: ROOT.0,
            c: self.recipe.text(at)?,
            flags: if strict { flag::STRICT } else { 0 }
                | if self.shape.confined { 0 } else { flag::READ_BACK },
            y: entry,
            ..Op::new(Code::Attach)
        };
        self.step(op, format!("mount it on /{at}"));
        Ok(())
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
