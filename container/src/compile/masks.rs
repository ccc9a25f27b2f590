//! Files of `/proc` and `/sys` that are hidden or read-only, as Docker has them.

use super::table::{NODEV, NOEXEC, NOSUID, RDONLY};
use super::{Draft, register};
use crate::{Feature, Policy, Result, Stage};
use ireko_namespaces::start::{Code, Fd, Op};

const HIDDEN: [&str; 14] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/firmware",
    "sys/devices/virtual/powercap",
    // Which cpu throttles tells what a neighbour computes.
    "sys/devices/system/cpu/cpu0/thermal_throttle",
    "sys/kernel/debug",
];
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

impl Draft<'_> {
    pub(super) fn masks(&mut self) -> Result<()> {
        if self.config.unmasked {
            return Ok(());
        }
        let policy = self.policy(Feature::MaskedPaths, Policy::Required);
        self.feature(Stage::Mount, Feature::MaskedPaths, policy);
        for path in HIDDEN {
            let entry = self.table.may(&format!("/{path}"), RDONLY | NOSUID | NOEXEC);
            let (tree, below) = tree_of(path);
            let op = Op {
                a: tree.0,
                b: self.recipe.text(below)?,
                c: Fd::register(register::DEV).0,
                x: self.nothing(),
                y: entry,
                ..Op::new(Code::Mask)
            };
            self.step(op, format!("hide /{path}"));
        }
        for path in READ_ONLY {
            let attributes = RDONLY | NOSUID | NODEV | NOEXEC;
            let entry = self.table.may(&format!("/{path}"), attributes);
            let (tree, below) = tree_of(path);
            let op = Op {
                a: tree.0,
                b: self.recipe.text(below)?,
                x: attributes,
                y: entry,
                ..Op::new(Code::ReadOnly)
            };
            self.step(op, format!("make /{path} read-only"));
        }
        Ok(())
    }
}

/// The file system that a path is on, and where there: by fd, since what has the name in
/// the tree may have changed.
fn tree_of(path: &str) -> (Fd, &str) {
    match path.split_once('/') {
        Some(("proc", below)) => (Fd::register(register::PROC), below),
        Some((_, below)) => (Fd::register(register::SYS), below),
        None => unreachable!("all of them lie below /proc or /sys"),
    }
}
