//! What a thread passes on to its children and other threads need not share.
//!
//! A child is cloned by a thread of ours, but has to be as if the calling thread had cloned
//! it. Namespaces, capabilities, ids, filters, the working directory and even the table of
//! files are each thread's own, so a starter serves only threads that stand where it does.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;

const OTHERS: [&str; 7] =
    ["mnt", "ipc", "uts", "cgroup", "user", "time_for_children", "pid_for_children"];

thread_local! {
    /// This thread has been moved by this crate.
    static MOVED: Cell<bool> = const { Cell::new(false) };
}

/// For a thread that changes its namespaces.
pub(crate) fn moved() {
    MOVED.set(true);
}

#[derive(PartialEq, Eq)]
pub(crate) struct Standing {
    ids: [libc::uid_t; 6],
    capabilities: [u32; 6],
    /// no-new-privileges, and the mode of seccomp. Which filters and which Landlock domain
    /// cannot be asked; both need the first, so one who takes the first step is noticed.
    restricted: [i32; 2],
    /// What other code is most likely to have changed; a mount namespace is told by
    /// the working directory that comes with it.
    net: Option<u64>,
    others: Option<[Option<u64>; 7]>,
}

impl Standing {
    /// Of the calling thread.
    pub(crate) fn here() -> Self {
        let mut ids = [0; 6];
        // Version 3 of capget: two words for each of three sets.
        let header = [0x2008_0522u32, 0];
        let mut capabilities = [0u32; 6];
        let [ru, eu, su, rg, eg, sg] = &mut ids;
        // SAFETY: places on this stack for what these write; they fail for no caller.
        let restricted = unsafe {
            libc::getresuid(ru, eu, su);
            libc::getresgid(rg, eg, sg);
            libc::syscall(libc::SYS_capget, header.as_ptr(), capabilities.as_mut_ptr());
            [
                libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
                libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0),
            ]
        };
        Self {
            ids,
            capabilities,
            restricted,
            net: number("net"),
            others: MOVED.get().then(|| OTHERS.map(number)),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::fs::metadata(format!("/proc/thread-self/ns/{name}")).ok().map(|of| of.ino())
}

/// Whether both threads, of this process, have the same working directory, root and
/// table of files. What a sandbox does not let us ask is taken to be so.
pub(crate) fn shares_files(thread: i32) -> bool {
    const KCMP_FILES: i32 = 2;
    const KCMP_FS: i32 = 3;
    // SAFETY: numbers only.
    let differs = |kind: i32| unsafe {
        libc::syscall(libc::SYS_kcmp, libc::gettid(), thread, kind, 0, 0) > 0
    };
    !differs(KCMP_FILES) && !differs(KCMP_FS)
}
