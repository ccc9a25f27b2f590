#![doc = include_str!("../README.md")]

mod attributes;
mod call;
mod detached;
mod entry;
mod error;
mod filesystem;
mod mounted;
mod prepared;
mod table;

pub use attributes::{Attributes, Propagation};
pub use detached::Detached;
pub use entry::MountEntry;
pub use error::{Error, Result};
pub use filesystem::Filesystem;
pub use ireko_sys::{Errno, ErrorKind, InRoot, Root, Size};
pub use mounted::Mounted;
pub use table::MountTable;
