//! Processes and their lives: what a program is given, how it ends, what is told of it.

#[path = "process/command.rs"]
mod command;
#[path = "process/common.rs"]
mod common;
#[path = "process/descriptors.rs"]
mod descriptors;
#[path = "process/ends.rs"]
mod ends;
#[path = "process/failures.rs"]
mod failures;
#[path = "process/helper.rs"]
mod helper;
#[path = "process/life.rs"]
mod life;
#[path = "process/streams.rs"]
mod streams;
#[path = "process/users.rs"]
mod users;
