#![doc = include_str!("../README.md")]

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
