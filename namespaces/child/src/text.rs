//! NUL-terminated text of the arena.

/// Text that ends with a NUL, and lists of it that end with an empty one.
#[derive(Clone, Copy)]
pub(crate) struct Text(*const u8);

impl Text {
    /// # Safety
    /// `at` must lead to text that stays there.
    pub(crate) const unsafe fn new(at: *const u8) -> Self {
        Self(at)
    }

    /// Text of this program itself.
    pub(crate) const fn fixed(text: &'static core::ffi::CStr) -> Self {
        Self(text.as_ptr().cast())
    }

    pub(crate) const fn as_ptr(self) -> *const u8 {
        self.0
    }

    /// The bytes without the NUL.
    pub(crate) fn bytes(self) -> &'static [u8] {
        let mut n = 0;
        // SAFETY: every byte up to the NUL belongs to the text. Volatile, lest the
        // compiler make a call of strlen of it.
        while unsafe { self.0.wrapping_add(n).read_volatile() } != 0 {
            n = n.wrapping_add(1);
        }
        // SAFETY: as before; the arena outlives the walk, and nothing here does.
        unsafe { core::slice::from_raw_parts(self.0, n) }
    }

    pub(crate) fn is_empty(self) -> bool {
        // SAFETY: at least the NUL is there.
        unsafe { *self.0 == 0 }
    }

    /// The next of a list: not to be asked of the empty one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(self.bytes().len().wrapping_add(1)))
    }
}
