//! What is shared with the caller, and where the helper finds it.

use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU16, AtomicU32, AtomicU64};

/// How many values that differ from spawn to spawn.
pub const SLOTS: usize = 96;
/// Words of a cpu mask: 1,024 cpus.
pub const AFFINITY: usize = 16;
/// Words of a name: 64 bytes and a NUL.
pub const NAME: usize = 9;
/// How many ops can note that they failed where that is not an error.
pub const MISSED: usize = 384;

/// The page that caller and child share: where the child is, what stopped it, and
/// what this spawn alone is given.
#[repr(C)]
#[derive(Debug)]
pub struct Page {
    /// The index of the op being taken.
    pub step: AtomicU32,
    /// The errno of the op that failed; 0: none has.
    pub errno: AtomicI32,
    /// More about it: which candidate of an exec, say.
    pub note: AtomicU32,
    /// The cpus that the calling thread may run on.
    pub affinity: [AtomicU64; AFFINITY],
    /// Its name, ended by a NUL.
    pub name: [AtomicU64; NAME],
    /// File descriptors and ids of this spawn.
    pub slots: [AtomicI64; SLOTS],
    /// By op: the errno of one that was tried and preferred.
    pub missed: [AtomicU16; MISSED],
}

/// At the start of the arena, for the helper, which is told nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Changes with the layout of anything here.
    pub version: u32,
    /// The arena's length in bytes.
    pub length: u32,
    /// Where the ops begin.
    pub ops: u32,
    /// The first that the helper takes.
    pub from: u32,
    /// One past the last.
    pub to: u32,
}

/// Where the helper maps the arena, so that the pointers in it can be made
/// beforehand: low enough for 39-bit address spaces, far from everything else of a
/// static program.
pub const MAPPED_AT: usize = 0x20_0000_0000;

/// The arena, in the helper.
pub const HELD_PLAN: i32 = 3;
/// The shared page, in the helper.
pub const HELD_PAGE: i32 = 4;
/// The hand-shake's socket, in the helper.
pub const HELD_SOCKET: i32 = 5;

/// Changes with the layout of anything that caller and helper share.
pub const VERSION: u32 = 1;
