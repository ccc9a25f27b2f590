//! Verbs that are one system call, or one of a family.

use std::ffi::{CString, OsString, c_char, c_int, c_long, c_ulong, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::ptr::{null, null_mut};

use crate::{Args, arg, check, errno, int, number, outcome, parse, say, sys, usage};

/// Runs the verb when it is one of these.
pub(crate) fn verb(verb: &str, args: Args) -> Option<c_int> {
    Some(match verb {
        "syscall" => call(number(args, 0), &rest(args)),
        "x32" => call(number(args, 0) | 1 << 30, &rest(args)),
        "int80" => int80(number(args, 0), &rest(args)),
        "ioctl" => {
            // SAFETY: whatever the test wants to know about.
            let result = unsafe {
                sys::ioctl(int(args, 0), number(args, 1) as c_ulong, value(arg(args, 2)))
            };
            result_of(c_long::from(result))
        }
        "unshare" => outcome(check(sys::unshare(int(args, 0))).map(|_| "")),
        "mount" => outcome(mount(args).map(|_| "")),
        "umount" => {
            let target = c_string(args, 0);
            // SAFETY: a string that ends in zero.
            outcome(check(unsafe { sys::umount2(target.as_ptr(), int(args, 1)) }).map(|_| ""))
        }
        "sethostname" => {
            let name = arg(args, 0).as_bytes();
            // SAFETY: readable for its length.
            let result = unsafe { sys::sethostname(name.as_ptr().cast(), name.len()) };
            outcome(check(result).map(|_| ""))
        }
        "ipc-put" => ipc(int(args, 0), 0o1600),
        "ipc-get" => ipc(int(args, 0), 0),
        "ipc-remove" => ipc_remove(int(args, 0)),
        "mq" => mq_open(args, 0o102),
        "mq-get" => mq_open(args, 0o2),
        "mq-remove" => {
            let name = c_string(args, 0);
            // SAFETY: a string that ends in zero.
            outcome(check(unsafe { sys::mq_unlink(name.as_ptr()) }).map(|_| ""))
        }
        _ => return None,
    })
}

fn c_string(args: Args, index: usize) -> CString {
    CString::new(arg(args, index).as_bytes()).unwrap_or_else(|_| usage("a zero byte"))
}

/// The values after the first argument, six of them.
fn rest(args: Args) -> [c_long; 6] {
    let mut values = [0; 6];
    for (place, word) in values.iter_mut().zip(args.iter().skip(1)) {
        *place = value(word);
    }
    values
}

/// A number, or the address of something that is never freed.
fn value(word: &OsString) -> c_long {
    let bytes = word.as_bytes();
    if let Some(text) = bytes.strip_prefix(b"@") {
        let text = CString::new(text).unwrap_or_else(|_| usage("a zero byte"));
        return text.into_raw().expose_provenance() as c_long;
    }
    let word = word.to_str().unwrap_or_default();
    let parsed = match word.strip_prefix("buf:") {
        Some(size) => size.parse().ok().map(|size| {
            let buffer: &mut [u8] = vec![0; size].leak();
            buffer.as_mut_ptr().expose_provenance() as c_long
        }),
        None => parse(word),
    };
    parsed.unwrap_or_else(|| usage(format!("not a number, @TEXT or buf:N: {word:?}")))
}

fn result_of(result: c_long) -> c_int {
    if result >= 0 {
        return say(format_args!("ret={result}"));
    }
    failed(errno::last())
}

fn failed(number: c_int) -> c_int {
    say(format_args!("errno={}({number})", errno::name(number)));
    1
}

fn call(number: c_long, a: &[c_long; 6]) -> c_int {
    // SAFETY: whatever the test wants to know about.
    result_of(unsafe { sys::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) })
}

#[cfg(target_arch = "x86_64")]
fn int80(number: c_long, a: &[c_long; 6]) -> c_int {
    let result: c_long;
    // SAFETY: rbx is the compiler's own and is put back; the kernel changes rax, and r8 to
    // r11 before Linux 4.17.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) a[0] => _,
            inlateout("rax") number => result,
            in("rcx") a[1], in("rdx") a[2], in("rsi") a[3], in("rdi") a[4],
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    match result as i32 {
        error @ -4095..=-1 => failed(-error),
        value => say(format_args!("ret={value}")),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn int80(_: c_long, _: &[c_long; 6]) -> c_int {
    failed(38)
}

fn mount(args: Args) -> io::Result<c_int> {
    let word = |index: usize| match args.get(index) {
        Some(word) if word != "-" => Some(c_string(args, index)),
        _ => None,
    };
    let words = [word(0), word(1), word(2), word(4)];
    let [source, target, kind, data] =
        words.each_ref().map(|word| word.as_ref().map_or(null(), |word| word.as_ptr()));
    let flags = number(args, 3) as c_ulong;
    // SAFETY: strings that end in zero, or null.
    check(unsafe { sys::mount(source, target, kind, flags, data.cast::<c_void>()) })
}

fn ipc(key: c_int, flags: c_int) -> c_int {
    let shm = check(sys::shmget(key, 4096 * c_int::from(flags != 0) as usize, flags));
    say(format_args!("shm={}", ok_or_name(&shm)));
    let sem = check(sys::semget(key, c_int::from(flags != 0), flags));
    say(format_args!("sem={}", ok_or_name(&sem)));
    c_int::from(shm.is_err() || sem.is_err())
}

fn ipc_remove(key: c_int) -> c_int {
    let shm = check(sys::shmget(key, 0, 0)).and_then(|id| {
        // IPC_RMID
        // SAFETY: takes no buffer.
        check(unsafe { sys::shmctl(id, 0, null_mut()) })
    });
    say(format_args!("shm={}", ok_or_name(&shm)));
    let sem = check(sys::semget(key, 0, 0)).and_then(|id| check(sys::semctl(id, 0, 0)));
    say(format_args!("sem={}", ok_or_name(&sem)));
    c_int::from(shm.is_err() || sem.is_err())
}

fn ok_or_name(result: &io::Result<c_int>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => errno::name(error.raw_os_error().unwrap_or(0)),
    }
}

fn mq_open(args: Args, flags: c_int) -> c_int {
    let name = c_string(args, 0);
    let none: *const c_char = null();
    // SAFETY: a string that ends in zero; the mode and no attributes follow.
    outcome(check(unsafe { sys::mq_open(name.as_ptr(), flags, 0o600, none) }).map(|_| ""))
}
