//! The system call filter, by what the kernel answers inside.

use crate::common::{bare, confined, in_root, printed, said};
use ireko::seccomp::{Action, Arch, Profile, Program, arg};
use ireko::{Builder, Cause, ErrorKind, Signal, Stage};
use testkit::{need, rootfs};

const EPERM: &str = "errno=EPERM(1)";
const ENOSYS: &str = "errno=ENOSYS(38)";
/// Above every argument that is an int.
const BIT_32: &str = "0x100000000";

/// A name, the payload's words, and what it prints.
type Try = (&'static str, &'static str, &'static str);

const REFUSED: [Try; 44] = [
    ("AF_ALG", "syscall 41 38 5 0", EPERM),
    ("AF_ALG, bit 32 set", "syscall 41 0x100000026 5 0", EPERM),
    ("AF_VSOCK", "syscall 41 40 1 0", EPERM),
    ("AF_VSOCK, bit 32 set", "syscall 41 0x100000028 1 0", EPERM),
    ("AF_PACKET", "syscall 41 17 3 0", EPERM),
    ("another netlink family", "syscall 41 16 3 12", EPERM),
    ("a pair of AF_INET", "syscall 53 2 1 0 buf:8", EPERM),
    ("clone with CLONE_NEWUSER", "syscall 56 0x10000011 0 0 0 0", EPERM),
    ("clone with CLONE_NEWNS", "syscall 56 0x20011 0 0 0 0", EPERM),
    ("clone with CLONE_NEWNET", "syscall 56 0x40000011 0 0 0 0", EPERM),
    ("clone3", "syscall 435 buf:88 88", ENOSYS),
    ("unshare", "syscall 272 0x10000000", EPERM),
    ("setns", "syscall 308 0 0", EPERM),
    ("add_key", "syscall 248 @user @x @y 1 -3", EPERM),
    ("request_key", "syscall 249 @user @x 0 -3", EPERM),
    ("keyctl", "syscall 250 0 -3 0", EPERM),
    ("io_uring_setup", "syscall 425 1 buf:120", EPERM),
    ("io_uring_enter", "syscall 426 0 0 0 0", EPERM),
    ("io_uring_register", "syscall 427 0 0 0 0", EPERM),
    ("bpf", "syscall 321 0 buf:64 64", EPERM),
    ("perf_event_open", "syscall 298 buf:128 0 -1 -1 0", EPERM),
    ("userfaultfd", "syscall 323 1", EPERM),
    ("ptrace", "syscall 101 0 0 0 0", EPERM),
    ("process_vm_readv", "syscall 310 1 0 0 0 0 0", EPERM),
    ("process_vm_writev", "syscall 311 1 0 0 0 0 0", EPERM),
    ("open_by_handle_at", "syscall 304 0 buf:16 0", EPERM),
    ("kexec_load", "syscall 246 0 0 0 0", EPERM),
    ("init_module", "syscall 175 buf:8 8 @x", EPERM),
    ("mount", "syscall 165 @none @/tmp @tmpfs 0 0", EPERM),
    ("umount", "syscall 166 @/tmp 2", EPERM),
    ("pivot_root", "syscall 155 @/ @/", EPERM),
    ("fsopen", "syscall 430 @tmpfs 0", EPERM),
    ("open_tree", "syscall 428 -100 @/ 1", EPERM),
    ("move_mount", "syscall 429 0 @x 0 @y 0", EPERM),
    ("mknod", "syscall 133 @/tmp/x 0o20666 0x103", EPERM),
    ("personality", "syscall 135 0x40000", EPERM),
    ("TIOCSTI", "ioctl 0 0x5412 buf:1", EPERM),
    ("TIOCSTI, bit 32 set", "syscall 16 0 0x100005412 buf:1", EPERM),
    ("TIOCLINUX", "ioctl 0 0x541c buf:1", EPERM),
    ("TIOCLINUX, bit 32 set", "syscall 16 0 0x10000541c buf:1", EPERM),
    ("a number that is not known", "syscall 5000", ENOSYS),
    ("a number of a later kernel", "syscall 700", ENOSYS),
    ("x32", "x32 39", ENOSYS),
    ("x32, a number of its own", "x32 520 @/bin/true 0 0", ENOSYS),
];

/// What ordinary programs do is not in the way of it.
const ALLOWED: [Try; 8] = [
    ("AF_UNIX", "syscall 41 1 1 0", "ret=3"),
    ("AF_INET", "syscall 41 2 1 0", "ret=4"),
    ("AF_INET6", "syscall 41 10 1 0", "ret=5"),
    ("netlink for routes", "syscall 41 16 3 0", "ret=6"),
    ("a pair of AF_UNIX", "syscall 53 1 1 0 buf:8", "ret=0"),
    ("TCGETS", "ioctl 0 0x5401 buf:64", "errno=ENOTTY(25)"),
    ("asking for the personality", "syscall 135 0xffffffff", "ret=0"),
    ("a thread, without clone3", "thread-create", "ok"),
];

/// One start for all of them: the payload goes from one to the next.
fn tried(builder: Builder, all: &[Try]) -> Vec<String> {
    let mut builder = builder.arg("seq");
    for (index, (_, words, _)) in all.iter().enumerate() {
        let separator = (index > 0).then_some(",");
        builder = builder.args(separator).args(words.split(' '));
    }
    let text = said(&builder.arg(",").arg("true"));
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), all.len(), "{text}");
    lines
}

fn check(builder: Builder, all: &[Try]) {
    let got = tried(builder, all);
    let wrong: Vec<String> = all
        .iter()
        .zip(&got)
        .filter(|((_, _, wanted), got)| wanted != got)
        .map(|((name, _, wanted), got)| format!("{name}: {got}, not {wanted}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn default_filter_refuses() {
    check(confined([]), &REFUSED);
    check(confined([]), &ALLOWED);
    // The 32-bit entry, where the kernel has it at all.
    let has = bare(["int80", "20"]).output().unwrap().status.success();
    if has {
        let getpid = ("int 0x80", "int80 20", ENOSYS);
        let socket = ("socketcall by int 0x80", "int80 102 1 buf:12", ENOSYS);
        check(confined([]), &[getpid, socket]);
    }
    // Nothing else refuses these: it is the filter.
    let control: Vec<Try> = REFUSED
        .into_iter()
        .filter(|(name, ..)| {
            ["keyctl", "TIOCSTI", "personality", "unshare", "mknod", "io_uring_setup"]
                .contains(name)
        })
        .collect();
    assert_eq!(control.len(), 6);
    let got = tried(confined([]).dangerously_disable_seccomp(), &control);
    let same: Vec<_> =
        control.iter().zip(&got).filter(|((_, _, refused), got)| refused == got).collect();
    // Of these six only mknod is refused by the kernel itself, in a user namespace.
    assert!(same.len() <= 1, "refused without the filter, too: {same:?}");
}

#[test]
fn unpriv_default_filter_refuses() {
    need!(unprivileged, userns);
    default_filter_refuses();
}

#[test]
fn root_r12_default_filter_refuses_root_too() {
    need!(root, userns);
    default_filter_refuses();
}

/// What the filter allows to a capability, it allows to nobody without.
#[test]
fn root_filter_follows_the_capabilities() {
    need!(root, userns);
    use ireko::capabilities::{Cap, CapSet};
    let hostname = || confined(["sethostname", "other"]);
    assert_eq!(said(&hostname()), "error 1 EPERM");
    let set = CapSet::STANDARD.with(Cap::SysAdmin);
    assert_eq!(said(&hostname().capabilities(set)), "ok");
}

/// Nothing that the child must do after the filter is in need of what a filter refuses:
/// a program that is missing is a missing program, whatever the profile says.
fn c3_exec_failure(start: impl Fn(&str) -> Builder) {
    let refuse = |action| Profile::new(action).unknown(action);
    let but_exec = |action| refuse(action).allow(["execve"]);
    for action in [Action::Errno(ireko::Errno::EPERM), Action::KillProcess, Action::KillThread] {
        let error = start("/bin/missing").seccomp(but_exec(action)).spawn().unwrap_err();
        let seen = (error.kind(), error.stage(), error.errno());
        let wanted = (ErrorKind::NotFound, Stage::Exec, Some(ireko::Errno::ENOENT));
        assert_eq!(seen, wanted, "{action:?}: {error}");
    }
    // A profile that refuses exec itself says so, in the same way.
    let error = start("/bin/missing").seccomp(refuse(Action::Errno(ireko::Errno::EACCES)));
    let error = error.spawn().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Exec), "{error}");
    // And one that kills for it would make a status of what is none of the program's.
    for action in [Action::KillProcess, Action::KillThread, Action::Trap] {
        let error = start("/bin/true").seccomp(refuse(action)).plan().unwrap_err();
        assert_eq!((error.kind(), error.remedy()), (ErrorKind::Invalid, Some("allow execve")));
    }
}

#[test]
fn root_c3_deny_all_profile_still_reports_exec_failure() {
    need!(root, userns);
    let root = rootfs();
    c3_exec_failure(|program| in_root(&root, []).command(program));
    c3_exec_failure(|program| bare([]).rootfs(root.path()).command(program));
    c3_exec_failure(|program| in_root(&root, []).command(program).user((1000, 1000)));
}

#[test]
fn unpriv_c3_deny_all_profile_still_reports_exec_failure() {
    need!(unprivileged, userns);
    let root = rootfs();
    c3_exec_failure(|program| in_root(&root, []).command(program));
}

fn forbidding() -> Profile {
    Profile::standard().rule("getppid", [], Action::KillProcess)
}

/// SIGSYS from the filter is a cause of its own; an errno is none.
#[test]
fn root_forbidden_syscall_is_a_cause() {
    need!(root, userns);
    for builder in [confined(["syscall", "110"]), bare(["syscall", "110"])] {
        let status = builder.clone().seccomp(forbidding()).output().unwrap().status;
        assert_eq!(status.cause(), Cause::ForbiddenSyscall, "{status}");
        assert_eq!((status.signal(), status.code()), (Some(Signal::SYS), None));
        assert_eq!(status.to_string(), "signal: 31 (SIGSYS), forbidden system call");
        let denied = Profile::standard().deny(["getppid"], ireko::Errno::EACCES);
        let output = builder.seccomp(denied).output().unwrap();
        assert_eq!(output.status.cause(), Cause::Exited(1));
        assert_eq!(output.stdout, b"errno=EACCES(13)\n");
    }
}

/// A finished filter counts besides the profile, and the stricter answer wins.
#[test]
fn root_seccomp_program_is_accepted() {
    need!(root, userns);
    let compiled = |profile: Profile| profile.compile(Arch::Native).unwrap();
    let denies = compiled(Profile::new(Action::Allow).deny(["getppid"], ireko::Errno::EACCES));
    let getppid = confined(["syscall", "110"]);
    assert_eq!(said(&getppid), "ret=0");
    assert_eq!(said(&getppid.clone().seccomp_program(denies.clone())), "errno=EACCES(13)");
    // As instructions from elsewhere.
    let again = Program::from_instructions(denies.as_slice().iter().copied()).unwrap();
    assert_eq!(said(&getppid.seccomp_program(again)), "errno=EACCES(13)");
    // One that allows everything takes nothing away from the profile.
    let allows = compiled(Profile::new(Action::Allow));
    let unshare = confined(["syscall", "272", "0x10000000"]).seccomp_program(allows.clone());
    assert_eq!(said(&unshare), EPERM);
    assert_eq!(said(&bare(["syscall", "110"]).seccomp_program(denies)), "errno=EACCES(13)");
    // Both are in the plan.
    let plan = confined(["true"]).seccomp_program(allows).plan().unwrap().to_string();
    assert!(plan.contains("install the given filter"), "{plan}");
    assert!(plan.contains("install the Standard profile"), "{plan}");
    // A filter that forbids prctl cannot be asked for, and is there all the same.
    let quiet = Profile::standard().deny(["prctl"], ireko::Errno::EPERM);
    assert_eq!(said(&confined(["syscall", "157", "21"]).seccomp(quiet)), EPERM);
}

/// int arguments are compared as the kernel reads them.
#[test]
fn root_upper_halves_of_ints_do_not_count() {
    need!(root, userns);
    let profile = Profile::standard().rule(
        "kill",
        [arg(1).equals_int(0)],
        Action::Errno(ireko::Errno::EACCES),
    );
    let kill = |signal| said(&confined(["syscall", "62", "1", signal]).seccomp(profile.clone()));
    assert_eq!(kill("0"), "errno=EACCES(13)");
    assert_eq!(kill(BIT_32), "errno=EACCES(13)");
    assert_eq!(printed(&confined(["syscall", "62", "1", "18"])), "ret=0\n");
}
