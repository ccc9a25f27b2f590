//! The start of a process, as all of Ireko does it.
//!
//! A [`Recipe`] is filled once with steps, [`compiled`](Recipe::compile), and started any
//! number of times with a [`Start`]. `docs/spawn.md` has the whole of it. This is a
//! layer for crates that put steps together; programs want [`Spawn`](crate::Spawn).

mod begin;
mod helper;
mod pipes;
mod recipe;
mod standing;
mod starter;
mod sub_ids;

pub use begin::{Begun, Failed, Start, Started};
pub use ireko_child::{Code, Fd, Identity, Op, flag};
pub use pipes::{Pipes, Streams};
pub use recipe::{Compiled, Recipe, Step, slot};
pub(crate) use standing::moved;
pub(crate) use sub_ids::{sub_ids, write_by_helpers};
