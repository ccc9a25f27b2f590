//! Namespaces alone: start a program in new ones, hold them, enter them.
//!
//! [`Spawn`] is `unshare(1)` as a value, safe from threaded programs. [`NsFd`] holds a
//! namespace of any kind; [`NetNs`] and its like run a closure inside one on a thread
//! made for it. [`IdMaps`] says who is who in a user namespace. Linux 5.9, and newer
//! where a call says so.
//!
//! The module [`start`] is what all starts of Ireko rest on.

mod error;
mod fd;
mod idmap;
mod kinds;
mod spawn;
pub mod start;
mod thread;

pub use error::{Error, Result};
pub use fd::NsFd;
pub use idmap::{IdMap, IdMaps};
pub use ireko_sys::{Errno, ErrorKind, Pidfd, Stdio};
pub use kinds::Namespaces;
pub use spawn::{Child, Output, Spawn};
pub use thread::{CgroupNs, IpcNs, NetNs, UtsNs, setns, unshare};
