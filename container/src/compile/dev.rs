//! Steps that make `/proc`, `/sys` and `/dev`.

use super::table::{NODEV, NOEXEC, NOSUID, RDONLY};
use super::tree::{ROOT, missing_place, refuse_link};
use super::{Draft, For, register};
use crate::rootfs::{Base, Changes};
use crate::{Result, Rootfs, Stage};
use ireko_mounts::{Attributes, Detached, Filesystem};
use ireko_namespaces::Namespaces;
use ireko_namespaces::start::{Code, Fd, Op, flag};
use ireko_sys::{Errno, PerProcess};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

/// Devices that every container has: name, major, minor.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];
const DIRECTORIES: [(&str, u32); 3] = [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o755)];
const DEV: Fd = Fd::register(register::DEV);
const SYS: Fd = Fd::register(register::SYS);
const SCRATCH: Fd = Fd::register(register::SCRATCH);

impl Draft<'_> {
    pub(super) fn proc_sys_dev(&mut self, rootfs: &Rootfs) -> Result<()> {
        self.stage(Stage::Mount);
        for name in ["proc", "sys", "dev"] {
            self.place(rootfs, name)?;
        }
        let attributes = NOSUID | NODEV | NOEXEC;
        // A copy of the host's has what is mounted there.
        let entry = if self.shape.has(Namespaces::PID) {
            self.table.must("/proc", attributes)
        } else {
            self.table.tree("/proc", attributes)
        };
        self.attach(Fd::register(register::PROC), "proc", true, entry)?;
        self.sys()?;
        self.dev()?;
        self.cover()?;
        self.masks()
    }

    /// A real directory at the top of the tree, for something to be mounted on.
    fn place(&mut self, rootfs: &Rootfs, name: &str) -> Result<()> {
        if rootfs.base == Base::Host || self.is_in_root(rootfs, name) {
            return Ok(());
        }
        refuse_link(rootfs, name)?;
        if matches!(rootfs.changes, Changes::Ephemeral(_)) {
            let op = Op { a: ROOT.0, b: self.recipe.text(name)?, ..Op::new(Code::MakeDirsInside) };
            self.step(op, format!("make the directory /{name}"));
            return Ok(());
        }
        Err(missing_place(rootfs, name))
    }

    fn sys(&mut self) -> Result<()> {
        let attributes = RDONLY | NOSUID | NODEV | NOEXEC;
        if self.shape.has(Namespaces::NET) {
            let op = Op {
                a: self.recipe.text("sysfs")?,
                b: self.recipe.list::<&str>([])?,
                c: register::SYS,
                x: attributes,
                ..Op::new(Code::NewFs)
            };
            self.step(op, "make a sysfs");
            let entry = self.table.must("/sys", attributes);
            self.attach(SYS, "sys", true, entry)?;
        } else {
            // A fresh one is refused in a network namespace that is not ours.
            let op = Op {
                a: Fd::CWD.0,
                b: self.recipe.text("/sys")?,
                c: register::SYS,
                x: attributes,
                flags: flag::RECURSIVE,
                ..Op::new(Code::CloneTree)
            };
            self.step(op, "copy the host's sysfs, read-only");
            let entry = self.table.tree("/sys", attributes);
            self.attach(SYS, "sys", true, entry)?;
        }
        Ok(())
    }

    fn dev(&mut self) -> Result<()> {
        // Nobody writes there: what it holds may be shared by many.
        let entry = self.table.must("/dev", RDONLY | NOSUID | NOEXEC);
        if let Some(tree) = self.copied(For::Dev) {
            self.attach(tree, "dev", true, entry)?;
            let op = Op {
                a: tree.0,
                b: self.recipe.text("/")?,
                c: register::DEV,
                ..Op::new(Code::OpenPath)
            };
            self.step(op, "hold it");
        } else {
            self.copy_fresh("dev", register::DEV, NOSUID | NOEXEC)?;
            self.attach(DEV, "dev", true, entry)?;
            self.dev_content()?;
        }
        let mut options = vec!["ptmxmode", "0666", "mode", "0620"];
        // The group tty, where that number means something inside.
        if self.shape.is_mapped(5, true) {
            options.extend(["gid", "5"]);
        }
        self.dev_fs("devpts", &options, "pts", NOSUID | NOEXEC)?;
        self.fresh("shm", "dev/shm", NOSUID | NODEV | NOEXEC)?;
        if self.shape.has(Namespaces::IPC) {
            self.dev_fs("mqueue", &[], "mqueue", NOSUID | NODEV | NOEXEC)?;
        }
        if self.copied(For::Dev).is_none() {
            let op = Op { a: DEV.0, x: RDONLY, ..Op::new(Code::SetAttributes) };
            self.step(op, "make /dev read-only");
        }
        Ok(())
    }

    /// The nodes are the host's: in a user namespace none can be made.
    fn dev_content(&mut self) -> Result<()> {
        for (name, major, minor) in NODES {
            let entry = self.table.must(&format!("/dev/{name}"), NOSUID | NOEXEC);
            let op = Op {
                a: DEV.0,
                b: self.recipe.text(name)?,
                c: self.recipe.text(format!("/dev/{name}"))?,
                x: u64::from(major) << 32 | u64::from(minor),
                y: entry,
                ..Op::new(Code::Node)
            };
            self.step(op, format!("bind the host's /dev/{name}, device {major}:{minor}"));
        }
        for (name, target) in LINKS {
            let op = Op {
                a: DEV.0,
                b: self.recipe.text(target)?,
                c: self.recipe.text(name)?,
                ..Op::new(Code::MakeLink)
            };
            self.step(op, format!("link /dev/{name} to {target}"));
        }
        for (name, mode) in DIRECTORIES {
            let op = Op { a: DEV.0, b: self.recipe.text(name)?, c: mode, ..Op::new(Code::MakeDir) };
            self.step(op, format!("make the directory /dev/{name}"));
        }
        Ok(())
    }

    fn dev_fs(&mut self, kind: &str, options: &[&str], name: &str, attributes: u64) -> Result<()> {
        let op = Op {
            a: self.recipe.text(kind)?,
            b: self.recipe.list(options)?,
            c: register::SCRATCH,
            x: attributes,
            ..Op::new(Code::NewFs)
        };
        self.step(op, format!("make a {kind}"));
        let entry = self.table.must(&format!("/dev/{name}"), attributes);
        let op = Op {
            a: SCRATCH.0,
            b: DEV.0,
            c: self.recipe.text(name)?,
            y: entry,
            ..Op::new(Code::Attach)
        };
        self.step(op, format!("mount it on /dev/{name}"));
        Ok(())
    }
}

/// A finished /dev, made once per process where the caller may make nodes: each container
/// then gets a read-only copy of the mount. `None` elsewhere, and on kernels that do not
/// copy a mount that is attached nowhere (before 6.15).
pub(super) fn template() -> Option<OwnedFd> {
    static KEPT: PerProcess<OnceLock<Option<OwnedFd>>> = PerProcess::new();
    let kept = KEPT.get(OnceLock::new).get_or_init(|| make_template().ok());
    kept.as_ref().and_then(|fd| fd.try_clone().ok())
}

fn make_template() -> Result<OwnedFd> {
    let dev = Filesystem::new("tmpfs")
        .option("mode", "755")
        .option("size", "64k")
        .attributes(Attributes::NOSUID | Attributes::NOEXEC)
        .mount()?;
    let at = dev.as_fd().as_raw_fd();
    let failed =
        |errno| crate::Error::new(Stage::Mount, ireko_sys::Failure::kernel("make a /dev", errno));
    let name = |name: &str| std::ffi::CString::new(name).map_err(|_| failed(Errno::EINVAL));
    let done = |r: i32| if r < 0 { Err(failed(Errno::last())) } else { Ok(()) };
    for (node, major, minor) in NODES {
        let node = name(node)?;
        // SAFETY: an open directory and a NUL-terminated name. The mode is set apart
        // from the making, since the caller's umask is not to be touched.
        unsafe {
            done(libc::mknodat(
                at,
                node.as_ptr(),
                libc::S_IFCHR | 0o600,
                libc::makedev(major, minor),
            ))?;
            done(libc::fchmodat(at, node.as_ptr(), 0o666, 0))?;
        }
    }
    for (link, target) in LINKS {
        let (link, target) = (name(link)?, name(target)?);
        // SAFETY: an open directory and NUL-terminated texts.
        done(unsafe { libc::symlinkat(target.as_ptr(), at, link.as_ptr()) })?;
    }
    for (dir, mode) in DIRECTORIES {
        let dir = name(dir)?;
        // SAFETY: an open directory and a NUL-terminated name.
        unsafe {
            done(libc::mkdirat(at, dir.as_ptr(), 0o700))?;
            done(libc::fchmodat(at, dir.as_ptr(), mode, 0))?;
        }
    }
    // Whether it can be copied at all is found by trying.
    drop(Detached::bind_fd(&dev, false)?);
    Ok(OwnedFd::from(dev))
}
