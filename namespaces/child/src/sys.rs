//! Raw system calls: no errno, so nothing of the C library is touched.

use core::arch::asm;

/// An answer of the kernel: the value, or the errno.
pub(crate) type Answer = Result<usize, i32>;

/// # Safety
/// As the call itself: pointers must be what it expects.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) unsafe fn raw(n: usize, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let ret: isize;
    // SAFETY: the kernel's calling convention; it clobbers rcx and r11 alone.
    unsafe {
        asm!("syscall", inlateout("rax") n as isize => ret, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

/// # Safety
/// As the call itself: pointers must be what it expects.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) unsafe fn raw(n: usize, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let ret: isize;
    // SAFETY: the kernel's calling convention.
    unsafe {
        asm!("svc 0", in("x8") n, inlateout("x0") a as isize => ret, in("x1") b, in("x2") c,
            in("x3") d, in("x4") e, in("x5") f, options(nostack));
    }
    ret
}

/// # Safety
/// As the call itself: pointers must be what it expects.
#[inline]
pub(crate) unsafe fn invoke(n: usize, args: [usize; 6]) -> Answer {
    // SAFETY: passed on to the caller.
    let r = unsafe { raw(n, args) };
    if r < 0 && r > -4096 { Err(r.wrapping_neg() as i32) } else { Ok(r as usize) }
}

/// `call!(NR, a, b)`: missing arguments are 0.
macro_rules! call {
    (@ $($argument:expr),*) => {
        // SAFETY: every use in this crate passes numbers, or pointers to what the call
        // named before them expects: NUL-terminated text, of the arena or static, and
        // locals in the kernel's layout.
        unsafe { $crate::sys::invoke($($argument),*) }
    };
    ($n:expr) => { $crate::sys::call!(@ $n, [0; 6]) };
    ($n:expr, $a:expr) => { $crate::sys::call!(@ $n, [$a as usize, 0, 0, 0, 0, 0]) };
    ($n:expr, $a:expr, $b:expr) => {
        $crate::sys::call!(@ $n, [$a as usize, $b as usize, 0, 0, 0, 0])
    };
    ($n:expr, $a:expr, $b:expr, $c:expr) => {
        $crate::sys::call!(@ $n, [$a as usize, $b as usize, $c as usize, 0, 0, 0])
    };
    ($n:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
        $crate::sys::call!(@ $n, [$a as usize, $b as usize, $c as usize, $d as usize, 0, 0])
    };
    ($n:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        $crate::sys::call!(@ $n, [$a as usize, $b as usize, $c as usize, $d as usize, $e as usize, 0])
    };
}
pub(crate) use call;

/// Ends this process, whatever a filter says.
pub(crate) fn die(code: i32) -> ! {
    loop {
        let _ = call!(crate::abi::nr::EXIT_GROUP, code);
        // SAFETY: where a filter refuses that, an illegal instruction ends the process.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            asm!("ud2");
            #[cfg(target_arch = "aarch64")]
            asm!("udf #0");
        }
    }
}
