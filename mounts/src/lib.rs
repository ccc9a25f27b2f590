//! Mounts held by fd: made complete, then attached.
//!
//! Only the mount calls of Linux 5.2 and 5.12 are used (`fsopen`, `fsconfig`,
//! `fsmount`, `open_tree`, `mount_setattr`, `move_mount`). A mount has its
//! attributes, its id map and its propagation before anybody can walk into it,
//! options never pass through one comma-separated string, and the kernel says
//! in words which of them it refused.
//!
//! ```no_run
//! use ireko_mounts::{Attributes, Detached, Size};
//!
//! let _data = Detached::bind_recursive("/srv/data")?
//!     .with(Attributes::RDONLY | Attributes::NOSUID | Attributes::NODEV)?
//!     .attach("/mnt/data")?;
//! let scratch = Detached::tmpfs(Size::mib(16))?.attach("/mnt/scratch")?;
//! scratch.unmount()?;
//! # Ok::<(), ireko_mounts::Error>(())
//! ```
//!
//! Linux 5.12, and `CAP_SYS_ADMIN` in the user namespace that owns the mount
//! namespace: root has it, and so has whoever made both.

mod attributes;
mod call;
mod detached;
mod entry;
mod error;
mod filesystem;
mod mounted;
mod table;

pub use attributes::{Attributes, Propagation};
pub use detached::Detached;
pub use entry::MountEntry;
pub use error::{Error, Result};
pub use filesystem::Filesystem;
pub use ireko_sys::{Errno, ErrorKind, InRoot, Root, Size};
pub use mounted::Mounted;
pub use table::MountTable;
