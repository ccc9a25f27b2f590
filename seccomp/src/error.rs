ireko_sys::error! {
    /// A profile that cannot be compiled, or a filter that was not taken.
    from ireko_sys::Error, ireko_capabilities::Error;
}

/// [`std::result::Result`] with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
