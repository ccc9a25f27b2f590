//! ireko
