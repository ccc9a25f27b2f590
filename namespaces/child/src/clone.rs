//! The clone itself, on the caller's side.

use crate::Walk;
use core::arch::asm;

/// As the kernel's `struct clone_args`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneArgs {
    /// `CLONE_*`.
    pub flags: u64,
    /// Where the pidfd goes.
    pub pidfd: u64,
    /// What is cleared at its exec or end.
    pub child_tid: u64,
    /// Where the pid goes.
    pub parent_tid: u64,
    /// The signal at its end.
    pub exit_signal: u64,
    /// The lowest byte of its stack.
    pub stack: u64,
    /// The stack's length.
    pub stack_size: u64,
    /// Unused.
    pub tls: u64,
    /// Unused.
    pub set_tid: u64,
    /// Unused.
    pub set_tid_size: u64,
    /// The group it is started in.
    pub cgroup: u64,
}

extern "C" fn child(walk: *const Walk) -> ! {
    // SAFETY: clone_onto's caller keeps it alive until the child has executed
    // something or ended (CLONE_VFORK).
    let walk = unsafe { &*walk };
    // SAFETY: what clone_onto's caller promises.
    unsafe { crate::run(walk) };
    crate::sys::die(127)
}

/// Clones, on a stack of its own, a child that takes `walk`. Returns its pid, or the
/// negated errno.
///
/// # Safety
/// `args` must have `CLONE_VM | CLONE_VFORK`, a stack that nobody else uses, and
/// pointers that may be written to; `walk` must hold what [`run`](crate::run) wants.
/// All signals must be blocked.
#[cfg(target_arch = "x86_64")]
pub unsafe fn clone_onto(args: &CloneArgs, walk: &Walk) -> isize {
    let ret: isize;
    // SAFETY: the child starts on its own, empty stack, calls a function that never
    // returns and so never sees this frame again.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") crate::abi::nr::CLONE3 as isize => ret,
            in("rdi") args,
            in("rsi") core::mem::size_of::<CloneArgs>(),
            in("r8") child as extern "C" fn(*const Walk) -> !,
            in("r9") walk,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    ret
}

/// As on x86-64.
///
/// # Safety
/// As on x86-64.
#[cfg(target_arch = "aarch64")]
pub unsafe fn clone_onto(args: &CloneArgs, walk: &Walk) -> isize {
    let ret: isize;
    // SAFETY: as on x86-64.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x4",
            "blr x3",
            "udf #0",
            "2:",
            in("x8") crate::abi::nr::CLONE3,
            inlateout("x0") args as *const CloneArgs as isize => ret,
            in("x1") core::mem::size_of::<CloneArgs>(),
            in("x3") child as extern "C" fn(*const Walk) -> !,
            in("x4") walk,
            lateout("x30") _,
        );
    }
    ret
}
