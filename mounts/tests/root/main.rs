//! Mounts by effect, as root, each test in a mount namespace of its own.

mod attributes;
mod common;
mod mounts;
mod propagation;
mod refusals;
