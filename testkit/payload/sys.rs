//! The C library, as far as the payload calls it.

use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};

pub(crate) const EINTR: c_int = 4;
pub(crate) const SIGKILL: c_int = 9;
pub(crate) const SIGTERM: c_int = 15;
/// `SIG_IGN`.
pub(crate) const IGNORE: usize = 1;
#[cfg(target_arch = "x86_64")]
pub(crate) const RT_SIGACTION: c_long = 13;
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const RT_SIGACTION: c_long = 134;

#[repr(C)]
#[derive(Default)]
pub(crate) struct Timespec {
    pub(crate) seconds: c_long,
    pub(crate) nanoseconds: c_long,
}

#[repr(C)]
#[derive(Default)]
pub(crate) struct Limit {
    pub(crate) soft: c_ulong,
    pub(crate) hard: c_ulong,
}

#[repr(C)]
pub(crate) struct Utsname {
    /// sysname, nodename, release, version, machine, domainname
    pub(crate) fields: [[u8; 65]; 6],
}

// Those that take integers alone can break nothing by their arguments.
unsafe extern "C" {
    pub(crate) safe fn _exit(status: c_int) -> !;
    pub(crate) safe fn abort() -> !;
    safe fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    pub(crate) safe fn fork() -> c_int;
    pub(crate) safe fn getpgid(pid: c_int) -> c_int;
    pub(crate) safe fn getpid() -> c_int;
    pub(crate) safe fn getppid() -> c_int;
    pub(crate) safe fn getpriority(which: c_int, who: c_uint) -> c_int;
    pub(crate) safe fn getsid(pid: c_int) -> c_int;
    pub(crate) safe fn grantpt(fd: c_int) -> c_int;
    pub(crate) safe fn isatty(fd: c_int) -> c_int;
    pub(crate) safe fn kill(pid: c_int, signal: c_int) -> c_int;
    pub(crate) safe fn pause() -> c_int;
    pub(crate) safe fn posix_openpt(flags: c_int) -> c_int;
    pub(crate) safe fn semctl(id: c_int, number: c_int, command: c_int, ...) -> c_int;
    pub(crate) safe fn semget(key: c_int, count: c_int, flags: c_int) -> c_int;
    pub(crate) safe fn setresgid(real: c_uint, effective: c_uint, saved: c_uint) -> c_int;
    pub(crate) safe fn setresuid(real: c_uint, effective: c_uint, saved: c_uint) -> c_int;
    pub(crate) safe fn setsid() -> c_int;
    pub(crate) safe fn shmget(key: c_int, size: usize, flags: c_int) -> c_int;
    pub(crate) safe fn umask(mask: c_uint) -> c_uint;
    pub(crate) safe fn unlockpt(fd: c_int) -> c_int;
    pub(crate) safe fn unshare(flags: c_int) -> c_int;

    pub(crate) fn capget(header: *mut [u32; 2], data: *mut [u32; 6]) -> c_int;
    pub(crate) fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    pub(crate) fn execv(path: *const c_char, argv: *const *const c_char) -> c_int;
    pub(crate) fn getgroups(size: c_int, list: *mut c_uint) -> c_int;
    pub(crate) fn getresgid(r: *mut c_uint, e: *mut c_uint, s: *mut c_uint) -> c_int;
    pub(crate) fn getresuid(r: *mut c_uint, e: *mut c_uint, s: *mut c_uint) -> c_int;
    pub(crate) fn getrlimit(resource: c_uint, limit: *mut Limit) -> c_int;
    pub(crate) fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    pub(crate) fn mknod(path: *const c_char, mode: c_uint, device: c_ulong) -> c_int;
    pub(crate) fn mmap(
        at: *mut c_void,
        size: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: c_long,
    ) -> *mut c_void;
    pub(crate) fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    pub(crate) fn mq_open(name: *const c_char, flags: c_int, ...) -> c_int;
    pub(crate) fn mq_unlink(name: *const c_char) -> c_int;
    pub(crate) fn prctl(option: c_int, ...) -> c_int;
    pub(crate) fn ptsname_r(fd: c_int, name: *mut c_char, size: usize) -> c_int;
    pub(crate) fn read(fd: c_int, to: *mut c_void, size: usize) -> isize;
    pub(crate) fn setgroups(size: usize, list: *const c_uint) -> c_int;
    pub(crate) fn sethostname(name: *const c_char, size: usize) -> c_int;
    pub(crate) fn shmctl(id: c_int, command: c_int, buffer: *mut c_void) -> c_int;
    pub(crate) fn signal(signal: c_int, handler: usize) -> usize;
    pub(crate) fn sigprocmask(how: c_int, set: *const c_void, old: *mut [u64; 16]) -> c_int;
    pub(crate) fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    pub(crate) fn syscall(number: c_long, ...) -> c_long;
    pub(crate) fn umount2(target: *const c_char, flags: c_int) -> c_int;
    pub(crate) fn uname(to: *mut Utsname) -> c_int;
    pub(crate) fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    pub(crate) fn write(fd: c_int, from: *const c_void, size: usize) -> isize;
}

/// `prctl` with integers only, which is all the payload asks of it.
pub(crate) fn control(option: c_int, a: c_ulong, b: c_ulong) -> c_int {
    let none: c_ulong = 0;
    // SAFETY: the options used here take no pointers.
    unsafe { prctl(option, a, b, none, none) }
}

/// Whether a descriptor is open.
pub(crate) fn is_open(fd: c_int) -> bool {
    const F_GETFD: c_int = 1;
    fcntl(fd, F_GETFD) >= 0
}
