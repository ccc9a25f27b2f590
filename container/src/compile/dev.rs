//! Steps that make `/proc`, `/sys` and `/dev`.

use super::table::{NODEV, NOEXEC, NOSUID, RDONLY};
use super::tree::{ROOT, missing_place};
use super::{Draft, register};
use crate::rootfs::{Base, Changes};
use crate::{Result, Rootfs, Stage};
use ireko_namespaces::Namespaces;
use ireko_namespaces::start::{Code, Fd, Op, flag};
use ireko_sys::Size;

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
const DEV: Fd = Fd::register(register::DEV);
const SCRATCH: Fd = Fd::register(register::SCRATCH);

impl Draft<'_> {
    pub(super) fn proc_sys_dev(&mut self, rootfs: &Rootfs) -> Result<()> {
        self.stage(Stage::Mount);
        for name in ["proc", "sys", "dev"] {
            self.place(rootfs, name)?;
        }
        self.attach(Fd::register(register::PROC), "proc", true)?;
        self.table.must("/proc", NOSUID | NODEV | NOEXEC);
        self.sys()?;
        self.dev()?;
        self.masks()
    }

    /// A real directory at the top of the tree, for something to be mounted on.
    fn place(&mut self, rootfs: &Rootfs, name: &str) -> Result<()> {
        if rootfs.base == Base::Host || self.is_in_root(rootfs, name) {
            return Ok(());
        }
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
                c: register::SCRATCH,
                x: attributes,
                ..Op::new(Code::NewFs)
            };
            self.step(op, "make a sysfs");
            self.attach(SCRATCH, "sys", true)?;
            self.table.must("/sys", attributes);
        } else {
            // A fresh one is refused in a network namespace that is not ours.
            let op = Op {
                a: Fd::CWD.0,
                b: self.recipe.text("/sys")?,
                c: register::SCRATCH,
                x: attributes,
                flags: flag::RECURSIVE,
                ..Op::new(Code::CloneTree)
            };
            self.step(op, "copy the host's sysfs, read-only");
            self.attach(SCRATCH, "sys", true)?;
            self.table.tree("/sys", attributes);
        }
        Ok(())
    }

    fn dev(&mut self) -> Result<()> {
        self.new_tmpfs("/dev", register::DEV, 0o755, Size::kib(64), NOSUID | NOEXEC)?;
        self.attach(DEV, "dev", true)?;
        self.table.must("/dev", NOSUID | NOEXEC);
        for (name, major, minor) in NODES {
            let op = Op {
                a: DEV.0,
                b: self.recipe.text(name)?,
                c: self.recipe.text(format!("/dev/{name}"))?,
                x: u64::from(major) << 32 | u64::from(minor),
                ..Op::new(Code::Node)
            };
            self.step(op, format!("bind the host's /dev/{name}, device {major}:{minor}"));
            self.table.must(&format!("/dev/{name}"), NOSUID | NOEXEC);
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
        for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o755)] {
            let op = Op { a: DEV.0, b: self.recipe.text(name)?, c: mode, ..Op::new(Code::MakeDir) };
            self.step(op, format!("make the directory /dev/{name}"));
        }
        let mut options = vec!["ptmxmode", "0666", "mode", "0620"];
        // The group tty, where that number means something inside.
        if self.shape.is_mapped(5, true) {
            options.extend(["gid", "5"]);
        }
        self.dev_fs("devpts", &options, "pts", NOSUID | NOEXEC)?;
        let bytes = Size::mib(64).as_bytes().to_string();
        self.dev_fs("tmpfs", &["mode", "1777", "size", &bytes], "shm", NOSUID | NODEV | NOEXEC)?;
        if self.shape.has(Namespaces::IPC) {
            self.dev_fs("mqueue", &[], "mqueue", NOSUID | NODEV | NOEXEC)?;
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
        let op = Op { a: SCRATCH.0, b: DEV.0, c: self.recipe.text(name)?, ..Op::new(Code::Attach) };
        self.step(op, format!("mount it on /dev/{name}"));
        self.table.must(&format!("/dev/{name}"), attributes);
        Ok(())
    }
}
