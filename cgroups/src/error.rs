ireko_sys::error! {
    /// A cgroup call that failed: on which file, and why.
    from ireko_sys::Error;
}

/// [`std::result::Result`] with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
