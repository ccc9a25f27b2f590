#![doc = include_str!("../README.md")]

mod apply;
mod controllers;
mod detect;
mod encode;
mod enforced;
mod error;
mod freeze;
mod fs;
mod gc;
mod group;
mod kill;
mod limits;
mod oom;
mod parent;
mod start;
mod stats;
mod template;
mod text;
mod tree;
mod units;

pub use controllers::{Controllers, Hierarchy};
pub use enforced::{Adjusted, Enforced, Value};
pub use error::{Error, Result};
pub use gc::gc;
pub use group::Cgroup;
pub use ireko_sys::{Errno, ErrorKind, Pidfd, Size};
pub use limits::Limits;
pub use oom::OomScope;
pub use parent::Parent;
pub use stats::Stats;
pub use template::Template;
pub use units::{Cpu, Weight};
