//! What the presets answer, by the simulator and by the kernel.
#![cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]

use ireko_seccomp::{Action, Arch, Errno, Profile, Program};

const EPERM: Action = Action::Errno(Errno::EPERM);
const ENOSYS: Action = Action::Errno(Errno::ENOSYS);
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;
/// What must make no difference to an int.
const HIGH: u64 = 1 << 32;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

type Call = (&'static str, i64, [u64; 6]);

const fn call(name: &'static str, number: i64, args: [u64; 2]) -> Call {
    (name, number, [args[0], args[1], 0, 0, 0, 0])
}

/// Refused with EPERM by Standard and Strict. Harmless where one were not.
const REFUSED: &[Call] = &[
    call("socket", libc::SYS_socket, [libc::AF_ALG as u64, 5]),
    call("socket", libc::SYS_socket, [libc::AF_ALG as u64 | HIGH, 5]),
    call("socket", libc::SYS_socket, [libc::AF_VSOCK as u64, 1]),
    call("socket", libc::SYS_socket, [libc::AF_PACKET as u64, 3]),
    (
        "socket",
        libc::SYS_socket,
        [libc::AF_NETLINK as u64, 3, libc::NETLINK_NETFILTER as u64, 0, 0, 0],
    ),
    ("socket", libc::SYS_socket, [libc::AF_NETLINK as u64, 3, libc::NETLINK_XFRM as u64, 0, 0, 0]),
    call("socketpair", libc::SYS_socketpair, [libc::AF_VSOCK as u64, 1]),
    call("clone", libc::SYS_clone, [CLONE_NEWUSER, 0]),
    call("clone", libc::SYS_clone, [CLONE_NEWUSER | HIGH | 17, 0]),
    call("unshare", libc::SYS_unshare, [CLONE_NEWUSER, 0]),
    call("setns", libc::SYS_setns, [u64::MAX, 0]),
    call("keyctl", libc::SYS_keyctl, [99, 0]),
    call("add_key", libc::SYS_add_key, [0, 0]),
    call("io_uring_setup", libc::SYS_io_uring_setup, [1, 0]),
    call("bpf", libc::SYS_bpf, [0, 0]),
    call("userfaultfd", libc::SYS_userfaultfd, [u64::MAX, 0]),
    call("perf_event_open", libc::SYS_perf_event_open, [0, 0]),
    call("mount", libc::SYS_mount, [0, 0]),
    call("fsopen", libc::SYS_fsopen, [0, 0]),
    call("move_mount", libc::SYS_move_mount, [u64::MAX, 0]),
    call("pivot_root", libc::SYS_pivot_root, [0, 0]),
    call("open_by_handle_at", libc::SYS_open_by_handle_at, [0, 0]),
    call("ptrace", libc::SYS_ptrace, [99, 0]),
    call("process_vm_readv", libc::SYS_process_vm_readv, [0, 0]),
    call("kexec_load", libc::SYS_kexec_load, [0, 0]),
    call("personality", libc::SYS_personality, [0x0040_0000, 0]),
    call("ioctl", libc::SYS_ioctl, [u64::MAX, TIOCSTI]),
    call("ioctl", libc::SYS_ioctl, [u64::MAX, TIOCSTI | HIGH]),
    call("ioctl", libc::SYS_ioctl, [u64::MAX, TIOCLINUX]),
    call("ioctl", libc::SYS_ioctl, [u64::MAX, TIOCLINUX | HIGH]),
];

/// Let through by Standard and Strict, and what the kernel says of them without a filter.
const DONE: &[(Call, i32)] = &[
    (call("getppid", libc::SYS_getppid, [0, 0]), 0),
    (call("socket", libc::SYS_socket, [libc::AF_UNIX as u64, 99]), libc::EINVAL),
    (call("socket", libc::SYS_socket, [libc::AF_INET6 as u64 | HIGH, 99]), libc::EINVAL),
    (call("socket", libc::SYS_socket, [libc::AF_NETLINK as u64, 99]), libc::EINVAL),
    (call("ioctl", libc::SYS_ioctl, [u64::MAX, TIOCSTI + 1]), libc::EBADF),
    (call("close", libc::SYS_close, [u64::MAX, 0]), libc::EBADF),
];

fn presets() -> [(&'static str, Profile, usize); 3] {
    [
        ("Compat", Profile::compat(), 200),
        ("Standard", Profile::standard(), 200),
        ("Strict", Profile::strict(), 260),
    ]
}

#[test]
fn presets_are_small_and_compiled_once() {
    for (name, profile, most) in presets() {
        let program = profile.compile(Arch::Native).unwrap();
        println!("{name}: {} rules, {program:?}", profile.rules().count());
        assert!(program.instructions() <= most, "{name}: {program:?}");
        let again = profile.compile(Arch::Native).unwrap();
        assert!(std::ptr::eq(program.as_slice(), again.as_slice()), "{name}");
    }
}

#[test]
fn by_the_simulator() {
    for profile in [Profile::standard(), Profile::strict()] {
        let program = profile.compile(Arch::X86_64).unwrap();
        for (name, _, args) in REFUSED {
            let verdict = program.decide(name, *args).unwrap();
            assert_eq!((verdict.action, verdict.rule), (EPERM, None), "{name} {args:x?}");
        }
        for ((name, _, args), _) in DONE {
            let verdict = program.decide(name, *args).unwrap();
            assert_eq!(verdict.action, Action::Allow, "{name} {args:x?}");
            let rule = profile.rules().nth(verdict.rule.unwrap()).unwrap();
            assert_eq!(rule.syscall(), *name);
        }
        for args in [[0; 6], [u64::MAX; 6]] {
            assert_eq!(program.decide("clone3", args).unwrap().action, ENOSYS);
        }
        assert_eq!(program.decide("clone", [17, 0, 0, 0, 0, 0]).unwrap().action, Action::Allow);
        assert!(program.decide("no_such_call", [0; 6]).is_err());
    }
}

#[test]
fn other_abis_and_unknown_numbers_get_enosys() {
    for (name, profile, _) in presets() {
        let program = profile.compile(Arch::X86_64).unwrap();
        for number in (0..1024).chain([u32::MAX, X32, X32 - 1, 1 << 31]) {
            for args in [[0; 6], [u64::MAX; 6]] {
                let i386 = program.decide_raw(I386, number, args);
                assert_eq!((i386.action, i386.rule), (ENOSYS, None), "{name} i386 {number}");
                assert_eq!(program.decide_raw(0, number, args).action, ENOSYS);
                let x32 = program.decide_raw(X86_64, number | X32, args).action;
                assert_eq!(x32, ENOSYS, "{name} x32 {number}");
                if number > 469 || (337..424).contains(&number) {
                    assert_eq!(program.decide_raw(X86_64, number, args).action, ENOSYS, "{number}");
                }
            }
        }
    }
}

#[test]
fn strict_allows_nothing_that_standard_does_not() {
    let [compat, standard, strict] = [Profile::compat(), Profile::standard(), Profile::strict()]
        .map(|profile| profile.compile(Arch::X86_64).unwrap());
    let mut counts = [0; 3];
    for number in 0..470 {
        let mut allowed = [false; 3];
        for args in some_args() {
            let [a, b, c] = [&compat, &standard, &strict]
                .map(|p| p.decide_raw(X86_64, number, args).action == Action::Allow);
            assert!(!c || b, "{number} {args:x?} allowed by Strict, not by Standard");
            assert!(!b || a, "{number} {args:x?} allowed by Standard, not by Compat");
            allowed = [allowed[0] || a, allowed[1] || b, allowed[2] || c];
        }
        for (count, allowed) in counts.iter_mut().zip(allowed) {
            *count += usize::from(allowed);
        }
    }
    // Calls that are allowed for some arguments.
    assert_eq!(counts, [309, 288, 252]);
}

#[test]
fn strict_refuses_what_it_takes_away() {
    let strict = Profile::strict().compile(Arch::X86_64).unwrap();
    for name in ["splice", "tee", "io_submit", "mq_open", "msgget", "mincore", "chroot"] {
        assert_eq!(strict.decide(name, [0; 6]).unwrap().action, EPERM, "{name}");
    }
    assert_eq!(strict.decide("cachestat", [0; 6]).unwrap().action, ENOSYS);
    let setsockopt =
        |level, option| strict.decide("setsockopt", [3, level, option, 0, 0, 0]).unwrap().action;
    assert_eq!(setsockopt(6, 31), EPERM);
    assert_eq!(setsockopt(6 | HIGH, 31 | HIGH), EPERM);
    assert_eq!([setsockopt(6, 1), setsockopt(1, 31)], [Action::Allow; 2]);
}

#[test]
fn otherwise_changes_what_a_preset_refuses_and_not_enosys() {
    let program = Profile::standard().otherwise(Action::KillProcess).compile(Arch::X86_64).unwrap();
    let decided = |name, args| program.decide(name, args).unwrap().action;
    assert_eq!(decided("mount", [0; 6]), Action::KillProcess);
    assert_eq!(decided("ioctl", [0, TIOCSTI, 0, 0, 0, 0]), Action::KillProcess);
    assert_eq!(decided("clone3", [0; 6]), ENOSYS);
    assert_eq!(decided("read", [0; 6]), Action::Allow);
}

/// Arguments around every value that the presets compare with.
fn some_args() -> Vec<[u64; 6]> {
    let mut values = vec![u64::MAX, HIGH, 0x2_0000, 0x2_0008, 0xffff_ffff, 0x7e02_0000];
    values.extend(0..48);
    values.extend((0x5410..0x541f).flat_map(|request| [request, request | HIGH]));
    let mut all = Vec::new();
    for value in &values {
        all.extend([[*value; 6], [*value, 0, 0, 0, 0, 0], [0, *value, 0, 0, 0, 0]]);
        all.extend([[16, 0, *value, 0, 0, 0], [0, 6, *value, 0, 0, 0]]);
    }
    all
}

fn raw(number: i64, a: [u64; 6]) -> (i64, i32) {
    // SAFETY: every call made here is refused, or is given nothing valid to act on.
    let r = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    (r, Errno::last().raw())
}

/// In a thread of its own, whose end takes the filter away.
fn confined<T: Send + 'static>(program: &Program, run: impl FnOnce() -> T + Send + 'static) -> T {
    let program = program.clone();
    std::thread::spawn(move || {
        program.install().unwrap();
        run()
    })
    .join()
    .unwrap()
}

#[test]
fn by_the_kernel() {
    for profile in [Profile::standard(), Profile::strict()] {
        let program = profile.compile(Arch::Native).unwrap();
        confined(&program, || {
            for (name, number, args) in REFUSED {
                assert_eq!(raw(*number, *args), (-1, libc::EPERM), "{name} {args:x?}");
            }
            for ((name, number, args), errno) in DONE {
                let (r, got) = raw(*number, *args);
                let want = if *errno == 0 { r >= 0 } else { (r, got) == (-1, *errno) };
                assert!(want, "{name} {args:x?}: {r} {got}");
            }
            assert_eq!(raw(libc::SYS_clone3, [0; 6]), (-1, libc::ENOSYS));
            assert_eq!(raw(470, [0; 6]), (-1, libc::ENOSYS));
            // x32 numbers: getpid.
            assert_eq!(raw(i64::from(X32 | 39), [0; 6]), (-1, libc::ENOSYS));
            assert_eq!(i386_getpid(), -libc::ENOSYS);
        });
    }
}

#[test]
fn threads_and_processes_start_under_a_filter() {
    for (_, profile, _) in presets() {
        let program = profile.compile(Arch::Native).unwrap();
        let status = confined(&program, || {
            // A thread: clone3 is refused, and clone taken instead.
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            std::process::Command::new("sh").args(["-c", "exit $(echo 5)"]).status().unwrap()
        });
        assert_eq!(status.code(), Some(5));
    }
}

/// What `int 0x80` with 20 says: a number of a process, or a negative error.
fn i386_getpid() -> i32 {
    let result: i32;
    // SAFETY: getpid takes nothing; the kernel clobbers r8 to r11 on this entry.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") 20 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nostack),
        );
    }
    result
}
