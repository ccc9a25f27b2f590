//! What a container sees of files, and what the host's files notice of it.

mod binds;
mod closed;
mod kit;
mod mounts;
mod own_mounts;
mod races;
mod rootfs;
mod share;
mod system;
