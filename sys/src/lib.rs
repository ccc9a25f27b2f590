#![doc = include_str!("../README.md")]

mod errno;
mod error;
mod fd;
mod per_process;
mod pidfd;
mod proc;
mod root;
mod signal;
mod size;
mod stdio;

pub use errno::Errno;
pub use error::{Error, ErrorKind, Failure, Result};
pub use fd::above;
pub use per_process::PerProcess;
pub use pidfd::{Pidfd, Reaped};
pub use proc::ProcRoot;
pub use root::{InRoot, Root};
pub use signal::Signal;
pub use size::Size;
pub use stdio::Stdio;
