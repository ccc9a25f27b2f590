//! What runs between clone and exec.
//!
//! A `no_std` crate without `alloc`: the compiler refuses allocation, locks,
//! formatting and thread-locals here. It comes in two forms from one source: this
//! library, for starts in place on the caller's memory, and `helper.rs`, a static
//! program of a dozen KiB that is executed first and owns its memory.
//!
//! A start is a flat list of [`Op`]s over one arena, made beforehand. [`run`] walks
//! it and writes into a shared [`Page`] the index of each before taking it, and the
//! errno of the one that failed. Each op first acts, then checks what the kernel
//! made of it.
#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod abi;
mod clone;
mod mount;
mod op;
mod page;
mod proc;
mod process;
mod run;
mod sys;
mod table;
mod text;

pub use clone::{CloneArgs, clone_onto};
pub use op::{Code, Fd, Identity, Op, flag};
pub use page::{
    AFFINITY, HELD_PAGE, HELD_PLAN, HELD_SOCKET, Header, MAPPED_AT, MISSED, Page, SLOTS, VERSION,
};
pub use run::{Walk, run};
