ireko_sys::error! {
    /// A namespace call that failed: which call, in which step of a start, and why.
    from ireko_sys::Error;
}

/// [`std::result::Result`] with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
