#![doc = include_str!("../README.md")]

mod action;
mod arch;
mod check;
mod compiler;
mod condition;
#[cfg(feature = "seccompiler")]
mod convert;
mod decision;
mod emit;
mod error;
mod gated;
mod install;
mod instruction;
mod presets;
mod profile;
mod program;
mod rule;
mod simulate;
mod table;
mod text;

pub use action::Action;
pub use arch::Arch;
pub use condition::{Arg, Condition, arg};
pub use error::{Error, Result};
pub use instruction::Instruction;
pub use ireko_capabilities::CapSet;
pub use ireko_sys::{Errno, ErrorKind};
pub use profile::Profile;
pub use program::{Program, Verdict};
pub use rule::Rule;
