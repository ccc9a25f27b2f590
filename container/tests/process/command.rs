//! What is set as on a `std::process::Command`, and what a program inherits.

use crate::again;
use crate::common::{bare, both, confined, output, play, plays, printed, text, value, values};
use ireko::namespaces::Namespaces;
use ireko::{Builder, Container, ErrorKind, Resource, Stage};
use std::os::fd::{AsRawFd, FromRawFd};
use testkit::{TempDir, need, payload, rootfs};

fn report(builder: &Builder) -> String {
    printed(builder)
}

#[test]
fn unpriv_arguments_and_their_first() {
    need!(unprivileged, userns);
    for (name, builder) in both(["report"]) {
        let got = report(&builder.clone().args(["", "a b", "ä"]).arg("last"));
        let words: Vec<_> = (1..=5).map(|n| value(&got, &format!("argv.{n}"))).collect();
        assert_eq!(words, ["report", "", "a b", "ä", "last"], "{name}");
        assert_eq!(value(&got, "argv.0"), payload().to_str().unwrap(), "{name}");
        assert!(values(&got, "argv.6").is_empty(), "{name}");
        assert_eq!(value(&report(&builder.arg0("other")), "argv.0"), "other", "{name}");
    }
    // The name it is started by decides what the payload is.
    assert_eq!(output(&confined([]).arg0("false")).status.code(), Some(1));
    assert_eq!(output(&confined([]).arg0("/x/true")).status.code(), Some(0));
}

/// The lines about the environment.
fn environment(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("env.")).collect()
}

#[test]
fn unpriv_environment() {
    need!(unprivileged, userns);
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let of = |builder: &Builder| -> Vec<String> {
        environment(&report(builder)).into_iter().map(str::to_owned).collect()
    };
    let plain = confined(["report"]);
    assert_eq!(of(&plain), [PATH]);
    assert_eq!(of(&plain.clone().env("A", "1").env("A", "2").env("B", "")), ["A=2", "B=", PATH]);
    assert_eq!(of(&plain.clone().envs([("C", "x=y"), ("D", "z")])), ["C=x=y", "D=z", PATH]);
    assert_eq!(of(&plain.clone().env("A", "1").env_remove("A").env_remove("none")), [PATH]);
    assert_eq!(of(&plain.clone().env_remove("PATH")), [""; 0]);
    assert_eq!(of(&plain.clone().env("A", "1").env_clear()), [""; 0]);
    assert_eq!(of(&plain.clone().env_clear().env("A", "1")), ["A=1"]);
    // A bare start has the caller's own, and changes it in the same way.
    let home = std::env::var("HOME").unwrap_or_default();
    assert!(of(&bare(["report"])).contains(&format!("HOME={home}")));
    assert!(!of(&bare(["report"]).env_remove("HOME")).iter().any(|var| var.starts_with("HOME=")));
    assert_eq!(of(&bare(["report"]).env_clear().env("A", "b")), ["A=b"]);
    assert_eq!(of(&bare(["report"]).env_clear().envs(std::env::vars_os())), of(&bare(["report"])));
    for bad in ["", "a=b", "a\0b"] {
        let error = plain.clone().env(bad, "x").plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config), "{bad:?}");
    }
}

#[test]
fn unpriv_r18_nothing_of_the_environment_is_taken_but_by_name() {
    need!(unprivileged, userns);
    if plays("secret") {
        let got = printed(&confined(["report"]));
        assert_eq!(environment(&got).len(), 1, "{got}");
        assert!(!got.contains("sesame"), "{got}");
        return;
    }
    let mut command = again!("secret");
    command.env("SECRET", "sesame").env("LD_PRELOAD", "").env("LD_LIBRARY_PATH", "sesame");
    play(command);
}

#[test]
fn unpriv_current_dir() {
    need!(unprivileged, userns);
    assert_eq!(value(&report(&confined(["report"])), "cwd"), "/");
    assert_eq!(value(&report(&confined(["report"]).current_dir("/usr")), "cwd"), "/usr");
    let here = std::env::current_dir().unwrap();
    assert_eq!(value(&report(&bare(["report"])), "cwd"), here.to_str().unwrap());
    assert_eq!(value(&report(&bare(["report"]).current_dir("/usr")), "cwd"), "/usr");
    for (name, builder) in both(["report"]) {
        for bad in ["/not/there", "/etc/passwd"] {
            let error = builder.clone().current_dir(bad).output().unwrap_err();
            assert_eq!(error.stage(), Stage::Process, "{name} {bad}: {error}");
            assert!(error.operation().contains(bad), "{name}: {error}");
        }
    }
    // The caller is where it was.
    assert_eq!(std::env::current_dir().unwrap(), here);
}

#[test]
fn unpriv_p8_r6_no_directory_of_the_host_through_a_descriptor() {
    need!(unprivileged, userns);
    let host = TempDir::new();
    let kept = std::fs::File::open(host.path()).unwrap();
    // Whatever numbers the set-up has open: each is refused, or inside.
    for n in (0..32).chain([kept.as_raw_fd() as u32]) {
        for directory in [format!("/proc/self/fd/{n}"), format!("/proc/self/fd/{n}/../..")] {
            for (name, builder) in both(["report"]) {
                match builder.current_dir(&directory).output() {
                    Err(error) => assert_eq!(error.stage(), Stage::Process, "{name} {directory}"),
                    Ok(output) => panic!("{name} {directory}: {}", text(&output.stdout)),
                }
            }
        }
    }
}

#[test]
fn unpriv_p15_umask_and_priorities() {
    need!(unprivileged, userns);
    if plays("caller") {
        // SAFETY: these change this process alone, which is there for that.
        unsafe {
            libc::umask(0o077);
            libc::setpriority(libc::PRIO_PROCESS, 0, 3);
            let limit = libc::rlimit { rlim_cur: 77, rlim_max: 500 };
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 21 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        }
        std::fs::write("/proc/self/oom_score_adj", "300").unwrap();
        // A preset has its own umask and limits; what tells who is favoured is inherited.
        let got = report(&confined(["report"]));
        let all = ["umask", "nice", "oom_score_adj", "rlimit.nofile", "rlimit.core"];
        assert_eq!(all.map(|key| value(&got, key)), ["0022", "3", "300", "500:500", "0:0"]);
        // Bare is as std.
        let got = report(&bare(["report"]));
        let core = "1048576:2097152";
        assert_eq!(all.map(|key| value(&got, key)), ["0077", "3", "300", "77:500", core]);
        // And named ones hold in both.
        for (name, builder) in both(["report"]) {
            let got = report(
                &builder
                    .umask(0o027)
                    .nice(4)
                    .oom_score_adj(400)
                    .rlimit(Resource::Nofile, 60, 70)
                    .rlimit(Resource::Core, 0, 5),
            );
            assert_eq!(
                all.map(|key| value(&got, key)),
                ["0027", "7", "400", "60:70", "0:5"],
                "{name}"
            );
        }
        return;
    }
    play(again!("caller"));
}

#[test]
fn unpriv_limits_of_the_process() {
    need!(unprivileged, userns);
    let got = report(&confined(["report"]));
    assert_eq!(value(&got, "rlimit.core"), "0:0");
    assert!(value(&got, "rlimit.nofile").starts_with("1024:"), "{got}");
    for (name, builder) in both(["report"]) {
        for (resource, key) in [
            (Resource::As, "as"),
            (Resource::Core, "core"),
            (Resource::Cpu, "cpu"),
            (Resource::Fsize, "fsize"),
            (Resource::Memlock, "memlock"),
            (Resource::Nofile, "nofile"),
            (Resource::Nproc, "nproc"),
            (Resource::Stack, "stack"),
        ] {
            // More than the payload needs, less than anybody's own.
            let (soft, hard) = match resource {
                Resource::As => (1 << 32, 1 << 33),
                Resource::Stack => (1 << 22, 1 << 23),
                Resource::Memlock => (4096, 8192),
                Resource::Nofile => (50, 60),
                _ => (600, 700),
            };
            let got = report(&builder.clone().rlimit(resource, soft, hard));
            let got = value(&got, &format!("rlimit.{key}"));
            assert_eq!(got, format!("{soft}:{hard}"), "{name} {key}");
        }
        let error = builder.clone().rlimit(Resource::Nofile, 2, 1).plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config), "{name}");
    }
    // By effect, the last one given; and fewer than a start itself needs.
    for (name, builder) in both(["nofile", "64"]) {
        for (limit, opened) in [(20, 17), (5, 2)] {
            let few = builder.clone().rlimit(Resource::Nofile, 99, 99);
            let got = printed(&few.rlimit(Resource::Nofile, limit, limit));
            assert_eq!(got, format!("opened={opened}\nerrno=EMFILE\n"), "{name}");
        }
    }
}

#[test]
fn unpriv_priorities_out_of_reach() {
    need!(unprivileged, userns);
    for (name, builder) in both(["true"]) {
        let error = builder.clone().nice(-5).output().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Process), "{name}");
        assert!(error.remedy().is_some(), "{name}: {error}");
        let error = builder.clone().oom_score_adj(1001).plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config), "{name}");
        let error = builder.clone().umask(0o1000).plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config), "{name}");
    }
    let low = "-1";
    assert!(std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim() != low);
    let error = confined(["true"]).oom_score_adj(-1).output().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Process), "{error}");
}

#[test]
fn root_priorities_below_the_callers() {
    need!(root);
    let own = priority();
    let got = report(&bare(["report"]).nice(-5));
    assert_eq!(value(&got, "nice"), (own - 5).to_string());
    // The one needs CAP_SYS_RESOURCE, which root of an outer container may lack: then it is
    // an error, never less than was asked for.
    match bare(["report"]).oom_score_adj(-500).output() {
        Ok(output) => assert_eq!(value(&text(&output.stdout), "oom_score_adj"), "-500"),
        Err(error) => {
            assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Process));
            assert!(error.remedy().is_some(), "{error}");
        }
    }
    let got = report(&confined(["report"]).nice(6));
    assert_eq!(value(&got, "nice"), (own + 6).to_string());
    assert_eq!(priority(), own);
}

fn priority() -> i32 {
    // SAFETY: two numbers; nothing is changed.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

#[test]
fn unpriv_p14_signals_are_as_new() {
    need!(unprivileged, userns);
    if plays("deaf") {
        // SAFETY: this process is there for that; the masks are initialised first.
        unsafe {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            libc::signal(libc::SIGRTMIN() + 3, libc::SIG_IGN);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        for (name, builder) in both(["report"]) {
            let got = report(&builder);
            for key in ["SigBlk", "SigCgt"] {
                assert_eq!(value(&got, key), "0000000000000000", "{name} {key}");
            }
            // As std: what was ignored stays so in a bare start, but for SIGPIPE.
            let ignored = u64::from_str_radix(value(&got, "SigIgn"), 16).unwrap();
            let bit = |signal: i32| ignored >> (signal - 1) & 1 == 1;
            let ours = [libc::SIGHUP, libc::SIGTERM, libc::SIGRTMIN() + 3];
            assert_eq!(ours.map(bit), [name == "bare"; 3], "{name} {ignored:x}");
            assert!(!bit(libc::SIGPIPE), "{name}");
            assert!(name == "bare" || ignored == 0, "{ignored:x}");
        }
        // By effect: Rust ignores SIGPIPE, and yes(1) would complain of the closed pipe.
        for builder in [Container::builder(), Container::bare()] {
            let script = builder.command("/bin/sh").args(["-c", "yes | head -n 1"]);
            let output = output(&script);
            assert_eq!((text(&output.stdout), text(&output.stderr)), ("y\n".into(), "".into()));
        }
        return;
    }
    play(again!("deaf"));
}

#[test]
fn unpriv_names_of_the_host() {
    need!(unprivileged, userns);
    let plain = confined(["report"]);
    let longest = "h".repeat(64);
    let got = report(&plain.clone().hostname(&longest).domainname(longest.to_uppercase()));
    assert_eq!(value(&got, "hostname"), longest);
    assert_eq!(value(&got, "domainname"), longest.to_uppercase());
    let too_long = "h".repeat(65);
    for bad in ["", too_long.as_str(), "a\0b"] {
        for builder in [plain.clone().hostname(bad), plain.clone().domainname(bad)] {
            let error = builder.plan().unwrap_err();
            assert_eq!(
                (error.kind(), error.stage()),
                (ErrorKind::Invalid, Stage::Config),
                "{bad:?}"
            );
        }
    }
    let error = plain.share(Namespaces::UTS).hostname("x").plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.remedy().is_some());
}

#[test]
fn unpriv_id_and_pid() {
    need!(unprivileged, userns);
    let named = confined(["sleep", "30"]).id("Some-name_1+2.3".parse().unwrap()).spawn().unwrap();
    assert_eq!(named.id().as_str(), "Some-name_1+2.3");
    let other = confined(["sleep", "30"]).spawn().unwrap();
    let third = confined(["sleep", "30"]).spawn().unwrap();
    assert_ne!(other.id(), third.id());
    assert!(other.id().as_str().parse::<ireko::Id>().is_ok());
    // The number is that of the host, where the process is ours.
    let (_, parent) = crate::common::stat(named.pid()).unwrap();
    assert_eq!(parent, std::process::id());
    let line = std::fs::read(format!("/proc/{}/cmdline", named.pid())).unwrap();
    assert!(text(&line).contains("sleep\x0030"), "{line:?}");
}

#[test]
fn unpriv_r22_ids_are_no_paths() {
    need!(unprivileged);
    let longest = "a".repeat(64);
    for good in ["a", "0", "Z9", "a.b", "a-b_c+d", longest.as_str()] {
        assert_eq!(good.parse::<ireko::Id>().unwrap().to_string(), good);
    }
    let too_long = "a".repeat(65);
    for bad in [
        "",
        ".",
        "..",
        ".a",
        "-a",
        "_a",
        "+a",
        "a/b",
        "/a",
        "a/../b",
        "a b",
        "a\n",
        "a\0",
        "a:b",
        "a%b",
        "ä",
        "@a",
        too_long.as_str(),
    ] {
        let error = bad.parse::<ireko::Id>().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config), "{bad:?}");
    }
}

#[test]
fn unpriv_r14_a_session_and_terminals_of_its_own() {
    need!(unprivileged, userns);
    let mut name = [0 as libc::c_char; 64];
    // A terminal of the host, handed over as all three streams.
    // SAFETY: numbers, and a buffer with its length; the descriptors are new and ours.
    let terminal = unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(master >= 0);
        libc::grantpt(master);
        libc::unlockpt(master);
        assert_eq!(libc::ptsname_r(master, name.as_mut_ptr(), name.len()), 0);
        std::os::fd::OwnedFd::from_raw_fd(master)
    };
    // SAFETY: ptsname_r has ended it with a zero.
    let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_str().unwrap();
    let slave = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let words = ["seq", "report", ",", "tty", ",", "pty", ",", "ioctl", "0", "0x5412", "@x"];
    // TIOCSTI, as a number and hidden in the upper half.
    let words = confined(words).args([",", "ioctl", "0", "0x100005412", "@x"]);
    let got = output(&words.stdin(slave.try_clone().unwrap()));
    let got = text(&got.stdout);
    assert_eq!(value(&got, "sid"), value(&got, "pid"));
    assert_eq!(value(&got, "tty.0"), "yes");
    // It has none that signals or job control could come from.
    assert_eq!(value(&got, "ctty"), "no");
    // The first of an instance of its own.
    assert_eq!(value(&got, "pty"), "/dev/pts/0");
    assert_eq!(got.matches("errno=EPERM(1)").count(), 2, "{got}");
    // Nothing was typed into the caller's.
    let mut waiting: libc::c_int = -1;
    // SAFETY: FIONREAD fills an int.
    unsafe { libc::ioctl(slave.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
    assert_eq!(waiting, 0);
    drop(terminal);
}

#[test]
fn unpriv_r14_none_of_the_hosts_terminals_is_there() {
    need!(unprivileged, userns);
    let got = printed(&confined(["list", "/dev/pts"]));
    assert_eq!(got, "entry=ptmx\n");
    let got = output(&confined(["read", "/dev/tty"]));
    assert_eq!(text(&got.stdout), "error 6 ENXIO\n");
}

#[test]
fn unpriv_one_directory_as_root() {
    need!(unprivileged, userns);
    // Looked up inside, with the container's PATH.
    let root = rootfs();
    let plain = Container::builder().rootfs(root.path()).command("payload").args(["report"]);
    let got = report(&plain);
    assert_eq!(value(&got, "exe"), "/bin/payload");
    let error = plain.env("PATH", "/usr/bin:").output().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::NotFound, Stage::Exec));
}
