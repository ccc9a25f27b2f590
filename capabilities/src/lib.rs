#![doc = include_str!("../README.md")]

mod cap;
mod error;
mod kernel;
mod set;
mod state;
mod status;

pub use cap::Cap;
pub use error::{Error, Result};
pub use ireko_sys::{Errno, ErrorKind, Pidfd};
pub use set::CapSet;
pub use state::State;
