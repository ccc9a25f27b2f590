//! The host's system directories, shown so that nothing in them can be talked to.

use super::table::{NOEXEC, NOSUID, RDONLY};
use super::tree::ROOT;
use super::{Draft, Maps, register};
use crate::{Error, Result, Stage};
use ireko_mounts::MountTable;
use ireko_namespaces::start::{Code, Fd, Op, flag};
use ireko_sys::{Errno, ErrorKind, Failure};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What of the host's tree is shown, where it exists.
pub(super) const SYSTEM: [&str; 12] = [
    "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "etc", "opt", "nix", "gnu",
];
/// Sockets and fifos that can be covered one by one.
const MOST: usize = 48;

impl Draft<'_> {
    /// Shows a system directory: through an overlay where that can be had.
    pub(super) fn show_system(&mut self, name: &str) -> Result<()> {
        let path = Path::new("/").join(name);
        let table = MountTable::of_caller()?;
        let mut below: Vec<PathBuf> =
            table.below(&path).map(|entry| entry.mount_point().to_owned()).collect();
        below.sort();
        // What lies under another is hidden with it.
        below.dedup_by(|later, earlier| later.starts_with(&*earlier));
        if below.is_empty() && has_overlay() {
            return self.show_through_overlay(name);
        }
        self.show_covered(name, &path, &below)
    }

    /// An inode of an overlay is another than the host's: a socket or fifo below, there
    /// now or made later, leads nowhere. A read-only bind mount would let a connect through.
    fn show_through_overlay(&mut self, name: &str) -> Result<()> {
        // `proc` is an empty directory of our own: an overlay wants two layers.
        let mut options = vec!["lowerdir".to_owned(), format!("proc:/{name}")];
        if !matches!(self.shape.maps, Maps::None) {
            options.extend(["userxattr".to_owned(), "\u{1}".to_owned()]);
        }
        let op = Op {
            a: self.recipe.text("overlay")?,
            b: self.recipe.list(&options)?,
            c: register::SCRATCH,
            x: RDONLY | self.of_tree(),
            ..Op::new(Code::NewFs)
        };
        self.step(op, format!("lay a read-only overlay over the host's /{name}"));
        let entry = self.table.must(&format!("/{name}"), RDONLY | self.of_tree());
        self.attach(Fd::register(register::SCRATCH), name, false, entry)?;
        Ok(())
    }

    /// Without overlays, or with mounts below that a user namespace would not let go of:
    /// a read-only copy, and what is mounted, listens or waits below covered one by one.
    /// What is made there later is not.
    fn show_covered(&mut self, name: &str, path: &Path, below: &[PathBuf]) -> Result<()> {
        let attributes = RDONLY | self.of_tree();
        let op = Op {
            a: Fd::CWD.0,
            b: self.recipe.text(path)?,
            c: register::SCRATCH,
            x: attributes,
            flags: flag::RECURSIVE,
            ..Op::new(Code::CloneTree)
        };
        self.step(op, format!("copy the mount of {}", path.display()));
        let entry = self.table.tree(&format!("/{name}"), attributes);
        self.attach(Fd::register(register::SCRATCH), name, false, entry)?;
        let mut found = Vec::new();
        walk(path, below, &mut found)?;
        for at in below.iter().chain(&found) {
            self.covers.push(at.clone());
        }
        Ok(())
    }

    /// Covers them, once there is a /dev/null to cover files with.
    pub(super) fn cover(&mut self) -> Result<()> {
        self.stage(Stage::Mount);
        for at in std::mem::take(&mut self.covers) {
            let shown = at.to_str().ok_or_else(|| {
                Error::invalid(format!("cover {}", at.display()), "its name is not UTF-8")
            })?;
            // What is covered is still there, below.
            let attributes = RDONLY | self.of_tree();
            self.table.may(shown, attributes);
            let entry = self.table.may(shown, RDONLY | NOSUID | NOEXEC);
            let op = Op {
                a: ROOT.0,
                b: self.recipe.text(&at)?,
                c: Fd::register(register::DEV).0,
                x: self.nothing(),
                y: entry,
                ..Op::new(Code::Mask)
            };
            self.step(op, format!("cover {shown}"));
        }
        Ok(())
    }
}

fn has_overlay() -> bool {
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|text| {
        text.lines().any(|line| line.split_whitespace().last() == Some("overlay"))
    })
}

/// Collects the sockets and fifos below `dir`, but not below what is covered anyway. What
/// cannot be looked at here cannot be looked at inside either.
fn walk(dir: &Path, covered: &[PathBuf], found: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(|e| {
            let failure = Failure::kernel(format!("look through {}", dir.display()), Errno::of(&e));
            Error::new(Stage::Mount, failure)
        })?;
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !covered.contains(&path) {
            walk(&path, covered, found)?;
        } else if kind.is_socket() || kind.is_fifo() {
            found.push(path);
            if found.len() > MOST {
                let failure = Failure::ours(
                    ErrorKind::Unsupported,
                    format!("cover the sockets and fifos below {}", dir.display()),
                    format!(
                        "there are more than {MOST}, and no overlay can be laid over them here"
                    ),
                )
                .remedy(
                    "load the overlay module as root, or use a directory as root: .rootfs(dir)",
                );
                return Err(Error::new(Stage::Mount, failure));
            }
        }
    }
    Ok(())
}
