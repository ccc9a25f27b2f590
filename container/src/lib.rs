#![doc = include_str!("../README.md")]

mod builder;
mod compile;
mod enforcement;
mod error;
mod groups;
mod handle;
mod id;
mod ids;
mod mount;
mod output;
mod plan;
mod policy;
mod preset;
mod reach;
mod remedy;
mod rlimit;
mod rootfs;
mod seen;
mod spawn;
mod status;
mod timers;
mod user;

pub use builder::Builder;
pub use enforcement::{Enforcement, Extent, Item, Reason};
pub use error::{Error, Result, Stage};
pub use handle::Container;
pub use id::Id;
pub use mount::Mount;
pub use plan::{Plan, Step};
pub use policy::{Feature, Policy};
pub use preset::Preset;
pub use rlimit::Resource;
pub use rootfs::Rootfs;
pub use status::{Cause, Clock, ExitStatus, Output, Usage};
pub use user::User;

pub use ireko_sys::{Errno, ErrorKind, Signal, Size, Stdio};

#[doc(inline)]
pub use ireko_capabilities as capabilities;
#[doc(inline)]
pub use ireko_cgroups as cgroups;
#[doc(inline)]
pub use ireko_mounts as mounts;
#[doc(inline)]
pub use ireko_namespaces as namespaces;
#[doc(inline)]
pub use ireko_seccomp as seccomp;
#[doc(inline)]
pub use ireko_sys as sys;
