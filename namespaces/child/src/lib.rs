//! child
#![no_std]
