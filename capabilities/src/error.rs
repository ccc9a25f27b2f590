ireko_sys::error! {
    /// A capability call that failed.
    from ireko_sys::Error;
}

/// [`std::result::Result`] with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
