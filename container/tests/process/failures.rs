//! What does not come to a start, and what is told of it.

use crate::common::{bare, both, confined, long_path, output, printed, text};
use ireko::namespaces::{IdMap, IdMaps, Namespaces};
use ireko::{Builder, Cause, Container, Error, ErrorKind, Mount, Resource, Size, Stage};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use testkit::{TempDir, need, payload, rootfs};

#[track_caller]
fn refused(builder: &Builder) -> Error {
    match builder.output() {
        Err(error) => error,
        Ok(output) => panic!("{}: {}", output.status, text(&output.stdout)),
    }
}

#[test]
fn unpriv_setup_exec_and_exit_are_three_things() {
    need!(unprivileged, userns);
    let root = rootfs();
    root.write("bin/orphan", "#!/bin/no-such-interpreter\n");
    std::fs::set_permissions(root.join("bin/orphan"), PermissionsExt::from_mode(0o755)).unwrap();
    let inside = |program: &str| Container::builder().rootfs(root.path()).command(program);
    let outside = |program: &str| Container::bare().command(root.join(program));
    // A set-up that fails is an error with its stage, whatever the program would have been.
    for builder in [inside("/bin/true"), inside("/not/there"), outside("bin/true")] {
        let error = refused(&builder.current_dir("/not/there"));
        assert_eq!((error.stage(), error.kind()), (Stage::Process, ErrorKind::NotFound), "{error}");
        assert_eq!(error.operation(), "change directory to /not/there");
    }
    // No program.
    for builder in [inside("/not/there"), outside("not/there")] {
        let error = refused(&builder);
        assert_eq!((error.stage(), error.kind()), (Stage::Exec, ErrorKind::NotFound), "{error}");
        assert_eq!(error.errno(), Some(ireko::Errno::ENOENT));
        assert!(error.remedy().is_some());
        assert!(!error.to_string().contains("interpreter"), "{error}");
    }
    // A program without what it is run by.
    for builder in [inside("/bin/orphan"), outside("bin/orphan")] {
        let error = refused(&builder);
        assert_eq!((error.stage(), error.kind()), (Stage::Exec, ErrorKind::NotFound), "{error}");
        assert!(error.to_string().contains("interpreter"), "{error}");
        assert!(error.remedy().is_some_and(|text| text.contains("interpreter")), "{error}");
    }
    // A program that says so itself has run: these are its own codes.
    for (name, builder) in both(["exit"]) {
        for code in [127, 126, 125, 1, 0, 255] {
            let status = output(&builder.clone().arg(code.to_string())).status;
            assert_eq!((status.code(), status.signal()), (Some(code), None), "{name}");
            assert_eq!(status.cause(), Cause::Exited(code), "{name}");
            assert_eq!(status.success(), code == 0, "{name}");
        }
    }
    // A shell that does not find its program.
    let shell = Container::builder().command("/bin/sh").args(["-c", "/not/there"]);
    assert_eq!(output(&shell).status.code(), Some(127));
}

#[test]
fn unpriv_p5_every_stage_is_told() {
    need!(unprivileged, userns);
    let foreign = IdMap { inside: 0, outside: 0, count: 1 };
    let plain = || confined(["true"]);
    let table: Vec<(&str, Builder, Stage, ErrorKind)> = vec![
        ("no command", Container::builder(), Stage::Config, ErrorKind::Invalid),
        (
            "a sysctl of the host",
            plain().sysctl("kernel.panic", "1"),
            Stage::Config,
            ErrorKind::Invalid,
        ),
        ("no such root", plain().rootfs("/not/there"), Stage::Config, ErrorKind::NotFound),
        (
            "namespaces without the right to them",
            bare(["true"]).net_ns(),
            Stage::Clone,
            ErrorKind::Denied,
        ),
        (
            "an id that is not ours",
            plain().id_maps(IdMaps::new().uids(foreign).gids(foreign)),
            Stage::IdMap,
            ErrorKind::Denied,
        ),
        (
            "a mount point that is not there",
            plain().mount(Mount::tmpfs("/usr/not/there")),
            Stage::Mount,
            ErrorKind::NotFound,
        ),
        (
            "a limit above ours",
            plain().rlimit(Resource::Nofile, 1 << 29, 1 << 29),
            Stage::Process,
            ErrorKind::Denied,
        ),
        (
            "a directory that is not there",
            plain().current_dir("/x"),
            Stage::Process,
            ErrorKind::NotFound,
        ),
        (
            "a sysctl that is refused",
            plain().sysctl("net.ipv4.ip_unprivileged_port_start", "x"),
            Stage::Process,
            ErrorKind::Invalid,
        ),
        ("no such program", confined([]).command("/x"), Stage::Exec, ErrorKind::NotFound),
    ];
    for (name, builder, stage, kind) in table {
        let error = refused(&builder);
        assert_eq!((error.stage(), error.kind()), (stage, kind), "{name}: {error}");
        assert!(!error.operation().is_empty(), "{name}");
        // One line, which begins with what was being done.
        let shown = error.to_string();
        assert!(shown.starts_with(error.operation()) && !shown.contains('\n'), "{name}: {shown}");
        // Nothing was left of it: the next start is as ever.
        assert_eq!(printed(&confined(["echo", "well"])), "well\n", "{name}");
    }
}

#[test]
fn root_p5_a_limit_that_no_start_fits_into() {
    need!(root, cgroup);
    let error = refused(&confined(["true"]).memory_limit(Size::kib(4)));
    assert_eq!((error.stage(), error.kind()), (Stage::Cgroup, ErrorKind::Invalid), "{error}");
    assert_eq!(printed(&confined(["echo", "well"])), "well\n");
}

#[test]
fn unpriv_p12_where_the_program_is_looked_for() {
    need!(unprivileged, userns);
    let root = rootfs();
    let put = |name: &str, text: &str, mode: u32| {
        root.write(name, text);
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    root.mkdir("one", 0o755);
    root.mkdir("two", 0o755);
    put("one/program", "not executable", 0o644);
    put("one/nothing", "no format that anybody knows", 0o755);
    put("two/loader", "#!/bin/not-there\n", 0o755);
    put("one/only", "", 0o644);
    root.program("two/program");
    root.program("two/true");
    let inside = Container::builder().rootfs(root.path()).env("PATH", "/one:/none:/bin/true:/two");
    let run = |program: &str| inside.clone().command(program).output();
    // The first that can be executed, past what cannot, past what is no directory.
    let output = inside.clone().command("program").args(["report"]).output().unwrap();
    assert!(text(&output.stdout).contains("exe=/two/program\n"), "{}", text(&output.stdout));
    assert!(run("true").unwrap().status.success());
    let told = |program: &str| {
        let error = run(program).unwrap_err();
        assert_eq!(error.stage(), Stage::Exec, "{error}");
        assert!(error.remedy().is_some(), "{error}");
        (error.kind(), error.errno().map(|errno| errno.raw()), error.to_string().contains("interp"))
    };
    assert_eq!(told("only"), (ErrorKind::Denied, Some(libc::EACCES), false));
    assert_eq!(told("nothing"), (ErrorKind::Invalid, Some(libc::ENOEXEC), false));
    assert_eq!(told("loader"), (ErrorKind::NotFound, Some(libc::ENOENT), true));
    assert_eq!(told("sh"), (ErrorKind::NotFound, Some(libc::ENOENT), false));
    assert_eq!(told("/two"), (ErrorKind::Denied, Some(libc::EACCES), false));
    // The host's own /bin/sh is not what is meant, nor anything beside the caller.
    let error = inside.command("./payload").output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn unpriv_p13_nul_bytes() {
    need!(unprivileged, userns);
    for (name, plain) in both(["true"]) {
        for (what, builder) in [
            ("program", plain.clone().command("/bin/tr\0ue")),
            ("argument", plain.clone().arg("a\0b")),
            ("arg0", plain.clone().arg0("\0")),
            ("variable", plain.clone().env("A", "b\0c")),
            ("directory", plain.clone().current_dir("/\0")),
        ] {
            let error = builder.plan().unwrap_err();
            let got = (error.kind(), error.stage());
            assert_eq!(got, (ErrorKind::Invalid, Stage::Config), "{name} {what}: {error}");
        }
    }
    for builder in [
        confined(["true"]).mount(Mount::tmpfs("/tmp/a\0b")),
        confined(["true"]).expose("/tmp/a\0b"),
        confined(["true"]).rootfs("/tmp/a\0b"),
        confined(["true"]).user("a\0b"),
        confined(["true"]).sysctl("net.ipv4.a\0b", "1"),
        confined(["true"]).sysctl("kernel.msgmax", "1\0"),
        confined([]).command(""),
    ] {
        let error = builder.plan().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn unpriv_p13_more_arguments_than_the_kernel_takes() {
    need!(unprivileged, userns);
    let long = "x".repeat(100 << 10);
    for (name, plain) in both(["true"]) {
        // One that is too long, too many, and too large an environment.
        let many: Vec<&str> = std::iter::repeat_n(long.as_str(), 80).collect();
        for builder in [
            plain.clone().arg("y".repeat(200 << 10)),
            plain.clone().args(&many),
            plain.clone().envs(many.iter().enumerate().map(|(n, value)| (format!("V{n}"), value))),
        ] {
            let error = refused(&builder);
            assert_eq!((error.stage(), error.kind()), (Stage::Exec, ErrorKind::Invalid), "{name}");
            assert_eq!(error.errno().map(|errno| errno.raw()), Some(libc::E2BIG), "{name}");
            assert!(error.remedy().is_some(), "{name}");
        }
        // What fits arrives whole.
        let echo: Builder = match name {
            "bare" => bare(["echo"]),
            _ => confined(["echo"]),
        };
        let got = printed(&echo.args(&many[..10]));
        assert_eq!(got.len(), 10 * (long.len() + 1), "{name}");
    }
}

#[test]
fn unpriv_p13_paths_as_long_as_there_are() {
    need!(unprivileged, userns);
    let root = rootfs();
    let directory = TempDir::public();
    std::fs::create_dir(directory.join("here")).unwrap();
    let inside = Container::builder().rootfs(root.path()).command("/bin/payload");
    let outside = |path: &Path, length| long_path(path.to_str().unwrap(), "here", length);
    for (length, fits) in [(4094, true), (4095, true), (4096, false), (5000, false)] {
        let program = inside.clone().command(long_path("/bin", "true", length));
        let cwd = inside.clone().args(["true"]).current_dir(long_path("", "tmp", length));
        let target =
            inside.clone().args(["true"]).mount(Mount::tmpfs(long_path("", "mnt", length)));
        let source = Mount::bind(outside(directory.path(), length), "/mnt");
        let source = inside.clone().args(["true"]).mount(source.read_only());
        let bare_program = bare([]).command(long_path("/bin", "true", length));
        let bare_cwd = bare(["true"]).current_dir(long_path("", "usr", length));
        let all = [program, cwd, target, source, bare_program, bare_cwd];
        for (index, builder) in all.into_iter().enumerate() {
            match builder.output() {
                // The way to a mount point is taken part by part, however many there are.
                Ok(output) => {
                    assert!((fits || index == 2) && output.status.success(), "{index} {length}");
                }
                Err(error) => {
                    let errno = error.errno().map(|errno| errno.raw());
                    assert!(!fits, "{index} {length}: {error}");
                    assert_eq!(errno, Some(libc::ENAMETOOLONG), "{index} {length}: {error}");
                    assert_eq!(error.kind(), ErrorKind::Invalid, "{index} {length}");
                }
            }
        }
    }
}

#[test]
fn unpriv_what_contradicts_itself_is_told_before_anything_is_made() {
    need!(unprivileged, userns);
    let file = || std::fs::File::open("/dev/null").unwrap();
    for builder in [
        confined(["true"]).pass_fd(2, file()),
        confined(["true"]).pass_fd(1024, file()),
        confined(["true"]).pass_fd(5, file()).pass_fd(5, file()),
        confined(["true"]).share(Namespaces::MOUNT).mount(Mount::tmpfs("/tmp")),
        bare(["true"]).hostname("x"),
    ] {
        let error = builder.plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config), "{error}");
    }
}

#[test]
fn unpriv_no_limit_of_time_is_too_long() {
    need!(unprivileged, userns);
    let container = confined(["true"]).timeout(Duration::MAX).spawn().unwrap();
    assert!(container.wait_timeout(Duration::MAX).unwrap().unwrap().success());
    assert_eq!(container.stop(Duration::MAX).unwrap().cause(), Cause::Exited(0));
}

#[test]
fn unpriv_needs_no_flag() {
    need!(unprivileged, userns);
    // The first lines of the documentation, as anybody may run them.
    let output = Container::builder()
        .command("/bin/sh")
        .args(["-c", "echo hi; echo $$; id -u; echo >&2 $HOME; exit 3"])
        .output()
        .unwrap_or_else(|error| panic!("{error}; {:?}", error.remedy()));
    assert_eq!(text(&output.stdout), "hi\n1\n0\n");
    assert_eq!(text(&output.stderr), "\n");
    assert_eq!(output.status.cause(), Cause::Exited(3));
    // And it is a container: the boundary is all there.
    let report = printed(&confined(["report"]));
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let inside = crate::common::value(&report, &format!("ns.{kind}"));
        assert_ne!(inside, own.to_str().unwrap(), "{kind}");
    }
    assert!(report.contains("NoNewPrivs=1\nSeccomp=2\n"), "{report}");
    for item in output.enforcement.missing() {
        // Limits alone may be missing, for want of a delegated group.
        assert!(item.feature == ireko::Feature::PidsLimit, "{item:?}");
    }
    assert!(payload().is_file());
}
