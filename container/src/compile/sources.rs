//! What of the host is mounted: looked up and held when planned.

use super::table::{NODEV, NOEXEC, NOSUID, RDONLY};
use super::{Draft, For, Maps, Tree};
use crate::mount::MountKind;
use crate::rootfs::{Base, Changes};
use crate::{Error, Result, Stage};
use ireko_namespaces::start::{Code, Fd, Identity, Op, flag};
use ireko_sys::{Errno, Failure};
use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A source on the host, looked up when planned.
pub(crate) struct Source {
    file: File,
    pub(super) meta: Metadata,
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
            let attributes = self.of_tree() | if read_only { RDONLY } else { 0 };
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

    pub(super) fn mount_sources(&mut self) -> Result<()> {
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

    /// Attributes of what `/` is made of: no set-user-id unless that is what was asked for.
    pub(super) fn of_tree(&self) -> u64 {
        if self.config.new_privileges { NODEV } else { NOSUID | NODEV }
    }

    pub(super) fn is_owner_mapped(&self, meta: &Metadata) -> bool {
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
    pub(super) fn plan_source(
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
    pub(super) fn copy_later(
        &mut self,
        what: For,
        at: &Path,
        source: OwnedFd,
        attributes: u64,
        recursive: bool,
        idmapped: bool,
    ) -> Result<()> {
        let slot = self.slot();
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
    pub(super) fn source(
        &mut self,
        what: For,
        from: &Path,
        attributes: u64,
        register: u32,
    ) -> Result<Fd> {
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
}

pub(super) fn failed(path: &Path, errno: Errno) -> Error {
    Error::new(Stage::Config, Failure::kernel(format!("open {}", path.display()), errno))
}

/// Holds a path of the host without opening it.
pub(super) fn open(path: &Path) -> Result<Source> {
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

pub(super) fn identity(meta: &Metadata) -> Identity {
    Identity { major: libc::major(meta.dev()), minor: libc::minor(meta.dev()), inode: meta.ino() }
}
