//! The helper: the same walk, in a program of its own.
//!
//! Built by `ireko-namespaces` with rustc alone: a static ELF without the C library,
//! executed from a sealed memfd. It is handed the arena, the shared page and a socket
//! as fds 3, 4 and 5, and nothing else.
#![no_std]
#![no_main]

pub mod abi;
mod mount;
mod op;
mod page;
mod proc;
mod process;
mod run;
mod sys;
mod table;
mod text;

pub use op::{Code, Fd, Identity, Op, flag};
pub use page::{
    HELD_PAGE, HELD_PLAN, HELD_SOCKET, Header, MAPPED_AT, MISSED, NAME, Page, SLOTS, VERSION,
};
pub use run::{Walk, run};

use abi::{MAP_FIXED_NOREPLACE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, nr};

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, xzr", "bl {main}", "udf #0", main = sym main);

extern "C" fn main() -> ! {
    // SAFETY: the fds are what the stub before us put there; the arena was made for
    // this address.
    unsafe {
        let Ok(header) =
            map(HELD_PLAN, MAPPED_AT, 4096, MAP_PRIVATE | MAP_POPULATE | MAP_FIXED_NOREPLACE)
        else {
            sys::die(126)
        };
        let header = &*(header as *const Header);
        let (version, length) = (header.version, header.length as usize);
        if version != VERSION {
            sys::die(126);
        }
        if length > 4096 {
            let rest = length.wrapping_sub(4096);
            if map_from(
                HELD_PLAN,
                MAPPED_AT.wrapping_add(4096),
                rest,
                MAP_PRIVATE | MAP_POPULATE | MAP_FIXED_NOREPLACE,
                4096,
            )
            .is_err()
            {
                sys::die(126);
            }
        }
        let size = core::mem::size_of::<Page>();
        let Ok(page) = map(HELD_PAGE, 0, size, MAP_SHARED | MAP_POPULATE) else { sys::die(126) };
        let walk = Walk {
            base: MAPPED_AT as *const u8,
            ops: (MAPPED_AT as *const u8).wrapping_add(header.ops as usize).cast(),
            from: header.from,
            to: header.to,
            page: page as *const Page,
        };
        run(&walk);
    }
    sys::die(127)
}

fn map(fd: i32, at: usize, length: usize, flags: u32) -> sys::Answer {
    map_from(fd, at, length, flags, 0)
}

fn map_from(fd: i32, at: usize, length: usize, flags: u32, from: usize) -> sys::Answer {
    let write = if flags & MAP_SHARED != 0 { PROT_WRITE } else { 0 };
    let protection = (PROT_READ | write) as usize;
    // SAFETY: fresh memory, or this program's own address for it.
    unsafe { sys::invoke(nr::MMAP, [at, length, protection, flags as usize, fd as usize, from]) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::die(125)
}

// SAFETY of the attributes below: these have the names and the meaning of the C functions.
// The compiler may call these for copies of its own; there is no C library here.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's promise, which is that of the C function.
    unsafe { bytes(to, from, n) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= n {
        // SAFETY: the caller's promise, which is that of the C function.
        unsafe { bytes(to, from, n) };
    } else {
        let mut i = n;
        while i > 0 {
            i = i.wrapping_sub(1);
            // SAFETY: the caller's promise, which is that of the C function.
            unsafe { to.wrapping_add(i).write_volatile(from.wrapping_add(i).read_volatile()) };
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, n: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as memset itself.
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") value as u8, options(nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut i = 0;
        while i < n {
            // Volatile, lest the loop become a call of this very function.
            // SAFETY: as memset itself.
            unsafe { to.wrapping_add(i).write_volatile(value as u8) };
            i = i.wrapping_add(1);
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    let mut i = 0;
    while i < n {
        // SAFETY: the caller's promise, which is that of the C function.
        let (x, y) =
            unsafe { (a.wrapping_add(i).read_volatile(), b.wrapping_add(i).read_volatile()) };
        if x != y {
            return i32::from(x).wrapping_sub(i32::from(y));
        }
        i = i.wrapping_add(1);
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the caller's promise, which is that of the C function.
    unsafe { memcmp(a, b, n) }
}

/// Forward, byte by byte: `memcpy`, and `memmove` when the target does not begin inside.
unsafe fn bytes(to: *mut u8, from: *const u8, n: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise, which is that of the C function.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut i = 0;
        while i < n {
            // SAFETY: the caller's promise, which is that of the C function.
            unsafe { to.wrapping_add(i).write_volatile(from.wrapping_add(i).read_volatile()) };
            i = i.wrapping_add(1);
        }
    }
}
