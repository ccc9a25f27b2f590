//! Installing, by each of the ways.
#![cfg(target_arch = "x86_64")]

use ireko_capabilities::{CapSet, State};
use ireko_seccomp::{Action, Arch, Errno, ErrorKind, Instruction, Profile, Program};
use std::process::Command;

const MARK: Errno = Errno::from_raw(77);

/// Everything is allowed, but getppid fails with a number nobody else uses.
fn marking(errno: Errno) -> Program {
    Profile::new(Action::Allow).deny(["getppid"], errno).compile(Arch::Native).unwrap()
}

fn getppid() -> Result<i64, Errno> {
    // SAFETY: it takes nothing.
    let r = unsafe { libc::syscall(libc::SYS_getppid) };
    if r < 0 { Err(Errno::last()) } else { Ok(r) }
}

fn no_new_privs() -> bool {
    let zero: libc::c_ulong = 0;
    // SAFETY: this option takes nothing.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, zero, zero, zero, zero) == 1 }
}

fn in_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(run).join().unwrap()
}

#[test]
fn install_confines_this_thread_and_what_it_starts() {
    let before = no_new_privs();
    in_thread(|| {
        marking(MARK).install().unwrap();
        assert!(no_new_privs());
        assert_eq!(getppid(), Err(MARK));
        assert_eq!(in_thread(getppid), Err(MARK));
    });
    assert!(getppid().is_ok());
    assert_eq!(no_new_privs(), before);
}

#[test]
fn of_two_filters_the_stricter_and_then_the_newer_wins() {
    in_thread(|| {
        marking(MARK).install().unwrap();
        marking(Errno::EPERM).install().unwrap();
        assert_eq!(getppid(), Err(Errno::EPERM));
    });
}

#[test]
fn install_as_root_needs_a_privilege_or_no_new_privs() {
    in_thread(|| {
        if no_new_privs() {
            eprintln!("skipped: no_new_privs is set already");
            return;
        }
        let now = State::of_thread().unwrap();
        let none = CapSet::EMPTY;
        State { effective: none, permitted: none, inheritable: none, ambient: none, ..now }
            .apply()
            .unwrap();
        let error = marking(MARK).install_as_root().unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Denied, Some(Errno::EACCES)));
        assert!(error.remedy().unwrap().contains("install"));
        assert!(!no_new_privs());
        assert!(getppid().is_ok());
    });
}

#[test]
fn root_install_as_root_leaves_no_new_privs() {
    let root = State::of_thread().unwrap().effective.contains(ireko_capabilities::Cap::SysAdmin);
    if !root || no_new_privs() {
        let required = std::env::var("IREKO_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|word| word == "root"), "root is required");
        eprintln!("skipped: needs CAP_SYS_ADMIN");
        return;
    }
    in_thread(|| {
        marking(MARK).install_as_root().unwrap();
        assert_eq!((getppid(), no_new_privs()), (Err(MARK), false));
    });
}

/// In a process of its own: it confines the threads of other tests, too.
#[test]
fn install_all_threads_confines_those_that_run_already() {
    const CHILD: &str = "IREKO_TEST_ALL_THREADS";
    if std::env::var_os(CHILD).is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "install_all_threads_confines_those_that_run_already"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        wait.recv().unwrap();
        getppid()
    });
    marking(MARK).install_all_threads().unwrap();
    go.send(()).unwrap();
    assert_eq!(other.join().unwrap(), Err(MARK));

    // A thread that has one more keeps it, and the call is refused for all.
    let (ready, go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            marking(Errno::EPERM).install().unwrap();
            ready.wait();
            go.wait();
        });
        ready.wait();
        let error = marking(Errno::ENOENT).install_all_threads().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(getppid(), Err(MARK));
        go.wait();
    });
}

#[test]
fn each_action_does_what_it_says() {
    // The process ends, in a process of its own.
    const CHILD: &str = "IREKO_TEST_KILL";
    if std::env::var_os(CHILD).is_some() {
        Profile::new(Action::Allow)
            .rule("getppid", [], Action::KillProcess)
            .compile(Arch::Native)
            .unwrap()
            .install()
            .unwrap();
        let _ = getppid();
        return;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "each_action_does_what_it_says"])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGSYS));

    for (action, result) in [
        (Action::Errno(Errno::from_raw(4095)), Err(Errno::from_raw(4095))),
        (Action::Errno(Errno::from_raw(0)), Ok(0)),
        (Action::Trace(3), Err(Errno::ENOSYS)),
        (Action::Notify, Err(Errno::ENOSYS)),
    ] {
        let got = in_thread(move || {
            let profile = Profile::new(Action::Allow).rule("getppid", [], action);
            profile.compile(Arch::Native).unwrap().install().unwrap();
            getppid()
        });
        assert_eq!(got, result, "{action}");
    }
}

/// The kernel and our checker agree on what a filter is.
#[test]
fn the_kernel_takes_what_the_checker_takes() {
    let i = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let allow = i(0x06, 0x7fff_0000);
    let mut programs: Vec<Vec<Instruction>> = vec![vec![], vec![allow; 4096], vec![allow; 4097]];
    for code in 0..0x200 {
        for k in [0, 1, 3, 16, 31, 32, 60, 64] {
            programs.push(vec![i(code, k), allow]);
            programs.push(vec![i(0x02, 3), i(code, k), allow, allow]);
        }
    }
    programs.push(vec![i(0x20, 0), Instruction { code: 0x15, jt: 1, jf: 0, k: 0 }, allow]);
    programs.push(vec![i(0x05, u32::MAX), allow]);
    programs.push(vec![i(0x20, 0)]);
    // Each in a thread of its own, which dies with its filter.
    let differences: Vec<String> = {
        programs
            .into_iter()
            .filter_map(|code| {
                let ours = Program::from_instructions(code.iter().copied()).is_ok();
                let theirs = std::thread::spawn({
                    let code = code.clone();
                    move || kernel_takes(&code)
                });
                let theirs = theirs.join().unwrap();
                (ours != theirs).then_some((ours, theirs, code))
            })
            .map(|(ours, theirs, code)| {
                format!("{ours} {theirs} {:x?}", &code[..code.len().min(4)])
            })
            .collect()
    };
    assert_eq!(differences, Vec::<String>::new());
}

fn kernel_takes(code: &[Instruction]) -> bool {
    let program =
        libc::sock_fprog { len: code.len() as u16, filter: code.as_ptr().cast_mut().cast() };
    let (one, zero): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: numbers; then a structure and instructions that live through the call.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) == 0
    }
}
