#![doc = include_str!("../README.md")]
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
    AFFINITY, HELD_PAGE, HELD_PLAN, HELD_SOCKET, Header, MAPPED_AT, MISSED, NAME, Page, SLOTS,
    VERSION,
};
pub use run::{Walk, run};
