//! The raw calls. None of them allocates.

use crate::{CapSet, Errno};

/// `_LINUX_CAPABILITY_VERSION_3`, Linux 2.6.26: two words for each set.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Effective, permitted, inheritable.
pub(crate) type Three = [CapSet; 3];

pub(crate) fn capget() -> Result<Three, Errno> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut words = [Words::default(); 2];
    // SAFETY: version 3 fills two elements, which is what there is.
    let r = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) };
    if r < 0 {
        return Err(Errno::last());
    }
    let [low, high] = words;
    let set = |low: u32, high: u32| CapSet::from_bits(u64::from(high) << 32 | u64::from(low));
    Ok([
        set(low.effective, high.effective),
        set(low.permitted, high.permitted),
        set(low.inheritable, high.inheritable),
    ])
}

pub(crate) fn capset(sets: Three) -> Result<(), Errno> {
    let mut header = Header { version: VERSION, pid: 0 };
    let half = |shift: u32| {
        let [effective, permitted, inheritable] = sets.map(|set| (set.bits() >> shift) as u32);
        Words { effective, permitted, inheritable }
    };
    let words = [half(0), half(32)];
    // SAFETY: version 3 reads two elements, which is what there is.
    let r = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) };
    if r < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// `None` for a number the kernel does not have.
pub(crate) fn in_bounding_set(cap: u32) -> Option<bool> {
    match prctl(libc::PR_CAPBSET_READ, cap, 0) {
        Ok(answer) => Some(answer != 0),
        Err(_) => None,
    }
}

pub(crate) fn drop_from_bounding_set(cap: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, cap, 0).map(drop)
}

/// Empty on kernels that have no ambient set (before 4.3).
pub(crate) fn ambient() -> CapSet {
    let is_set =
        |cap: &u32| prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as u32, *cap) == Ok(1);
    CapSet::from_bits((0..64).filter(is_set).fold(0, |set, cap| set | 1 << cap))
}

pub(crate) fn clear_ambient() -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u32, 0).map(drop)
}

pub(crate) fn raise_ambient(cap: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u32, cap).map(drop)
}

fn prctl(option: i32, a: u32, b: u32) -> Result<i32, Errno> {
    let [a, b] = [a, b].map(libc::c_ulong::from);
    let zero: libc::c_ulong = 0;
    // SAFETY: each option used here takes numbers alone.
    let r = unsafe { libc::prctl(option, a, b, zero, zero) };
    if r < 0 { Err(Errno::last()) } else { Ok(r) }
}
