use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Something there is one of in each process: made at first use, and anew in a fork of
/// the process, whose copy has no threads and perhaps a lock that nobody will release.
///
/// What a parent of a fork made is left alone there, never dropped.
#[derive(Debug)]
pub struct PerProcess<T>(AtomicPtr<(u32, T)>);

impl<T: Send + Sync> PerProcess<T> {
    /// Not made yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// This process's own; `make` may be called in several threads, one value stays.
    pub fn get(&'static self, make: impl Fn() -> T) -> &'static T {
        let me = std::process::id();
        loop {
            let now = self.0.load(Acquire);
            // SAFETY: what was stored came from a box and is never freed.
            if let Some((process, value)) = unsafe { now.as_ref() }
                && *process == me
            {
                return value;
            }
            let new = Box::into_raw(Box::new((me, make())));
            if self.0.compare_exchange(now, new, Release, Relaxed).is_err() {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }
}

impl<T: Send + Sync> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}
