//! What can be asked for, what cannot, and what the answers look like.

use crate::common::{Report, bare, confined, in_root, said};
use ireko::capabilities::{Cap, CapSet};
use ireko::namespaces::{IdMaps, Namespaces};
use ireko::seccomp::Profile;
use ireko::{Builder, Container, Error, ErrorKind, Extent, Feature, Policy, Size};
use testkit::{need, rootfs};

#[track_caller]
fn invalid(builder: &Builder) -> Error {
    let error = match builder.plan() {
        Ok(plan) => panic!("it was planned:\n{plan}"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error
}

/// What is part of the boundary is not given up through a policy, but by the name of it.
fn boundary_has_named_exceptions() {
    for (feature, name) in [
        (Feature::Capabilities, ".capabilities(CapSet::all())"),
        (Feature::Seccomp, ".dangerously_disable_seccomp()"),
        (Feature::NoNewPrivileges, ".dangerously_allow_new_privileges()"),
        (Feature::MaskedPaths, ".dangerously_unmask_proc()"),
        (Feature::Namespaces(Namespaces::NET), ".share(Namespaces::NET)"),
        (Feature::Namespaces(Namespaces::USER), ".share(Namespaces::USER)"),
    ] {
        for policy in [Policy::Off, Policy::Preferred] {
            let error = invalid(&confined(["true"]).policy(feature, policy));
            assert_eq!(error.remedy(), Some(format!("say so by name: {name}").as_str()));
            // The last word counts, and asking for it is fine.
            let required = confined(["true"]).policy(feature, policy).require(feature);
            assert!(required.plan().unwrap().to_string().contains("execute"));
        }
    }
}

#[test]
fn root_boundary_has_named_exceptions() {
    need!(root, userns);
    boundary_has_named_exceptions();
}

#[test]
fn unpriv_boundary_has_named_exceptions() {
    need!(unprivileged, userns);
    boundary_has_named_exceptions();
}

/// What is in force is listed, with how it was asked for; what is off is not tried.
#[test]
fn root_policies_are_told_in_the_enforcement() {
    need!(root, userns);
    let output = confined(["report"]).output().unwrap();
    assert!(output.enforcement.is_full(), "{}", output.enforcement);
    for (feature, policy) in [
        (Feature::Namespaces(Namespaces::USER), Policy::Required),
        (Feature::Namespaces(Namespaces::NET), Policy::Required),
        (Feature::Capabilities, Policy::Required),
        (Feature::NoNewPrivileges, Policy::Required),
        (Feature::Seccomp, Policy::Required),
        (Feature::MaskedPaths, Policy::Required),
        (Feature::Rlimits, Policy::Preferred),
        (Feature::Keyring, Policy::Preferred),
        (Feature::PidsLimit, Policy::Preferred),
    ] {
        let item = output.enforcement.get(feature).unwrap_or_else(|| panic!("no {feature}"));
        assert_eq!((item.asked, item.got), (policy, Extent::Full), "{item}");
    }
    assert!(output.enforcement.get(Feature::MemoryLimit).is_none());
    let text = output.enforcement.to_string();
    assert!(text.contains("system call filter"), "{text}");
    let off = confined(["report"])
        .policy(Feature::Keyring, Policy::Off)
        .policy(Feature::Rlimits, Policy::Off)
        .policy(Feature::PidsLimit, Policy::Off);
    let output = off.output().unwrap();
    for feature in [Feature::Keyring, Feature::Rlimits, Feature::PidsLimit] {
        assert!(output.enforcement.get(feature).is_none(), "{}", output.enforcement);
    }
    let plan = off.plan().unwrap().to_string();
    assert!(!plan.contains("keyring") && !plan.contains("pids.max"), "{plan}");
    let required = confined(["report"]).require(Feature::Keyring).output().unwrap();
    assert_eq!(required.enforcement.get(Feature::Keyring).unwrap().asked, Policy::Required);
}

/// Each does what its name says, and nothing else.
#[test]
fn root_dangerous_calls_do_what_they_say() {
    need!(root, userns);
    let state = |builder: Builder| {
        let report = Report::of(&builder);
        let masked = report.mount_points().iter().any(|place| place.starts_with("/proc/"));
        let sets = report.sets();
        (report.get("NoNewPrivs").to_owned(), report.get("Seccomp").to_owned(), masked, sets)
    };
    let standard = CapSet::STANDARD.bits();
    let sets = [0, standard, standard, standard, 0];
    let one = || "1".to_owned();
    assert_eq!(state(confined(["report"])), (one(), "2".into(), true, sets));
    let new = confined(["report"]).dangerously_allow_new_privileges();
    assert_eq!(state(new), ("0".into(), "2".into(), true, sets));
    let open = confined(["report"]).dangerously_disable_seccomp();
    assert_eq!(state(open), (one(), "0".into(), true, sets));
    let unmasked = confined(["report"]).dangerously_unmask_proc();
    assert_eq!(state(unmasked), (one(), "2".into(), false, sets));
    // By effect: a kernel setting of a namespace of its own.
    let write = |builder: Builder| said(&builder.args(["write", "/proc/sys/kernel/shmmni", "99"]));
    assert_eq!(write(confined([])), "error 30 EROFS");
    assert_eq!(write(confined([]).dangerously_unmask_proc()), "ok");
    // A set-user-id program gains what its owner has, inside.
    let root = rootfs();
    let program = root.program("bin/set-user-id");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(program, mode).unwrap();
    let start = || in_root(&root, ["report"]).command("/bin/set-user-id").user((1000, 1000));
    assert_eq!(Report::of(&start()).get("euid"), "1000");
    let allowed = Report::of(&start().dangerously_allow_new_privileges());
    assert_eq!([allowed.get("uid"), allowed.get("euid")], ["1000", "0"]);
    assert_eq!(allowed.get("NoNewPrivs"), "0");
    // What is bound stays so: it gains the container's root, no more.
    assert_eq!(allowed.sets()[3], standard);
    assert_eq!(allowed.sets()[1] & !standard, 0);
    let error =
        invalid(&confined(["true"]).dangerously_disable_seccomp().seccomp(Profile::standard()));
    assert!(error.to_string().contains("given and disabled"), "{error}");
}

/// A program cannot be moved into a pid namespace, only its later children: an error, not a
/// program that is outside and is told to be inside.
#[test]
fn root_a_pid_namespace_is_not_joined() {
    need!(root, userns);
    let other = confined(["pause"]).spawn().unwrap();
    let pids = other.namespace(Namespaces::PID).unwrap();
    for builder in [confined(["true"]), bare(["true"])] {
        let error = builder.join(&pids).plan().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

/// What would change the host is not set for a container.
fn sysctls_outside_namespaces_are_invalid() {
    for key in [
        "kernel.core_pattern",
        "vm.overcommit_memory",
        "kernel.pid_max",
        "fs.file-max",
        "kernel.msgmax/../core_pattern",
        "net...kernel.core_pattern",
        "net.ipv4",
        "",
        "kernel",
        "net.",
        "user.max_user_namespaces",
        "kernel.shm_rmid_forced.x",
    ] {
        if key == "net.ipv4" {
            // A directory: only the kernel can say so.
            let error = confined(["true"]).sysctl(key, "1").spawn().unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
            continue;
        }
        let error = invalid(&confined(["true"]).sysctl(key, "1"));
        assert!(error.to_string().contains("it would change the host"), "{key}: {error}");
    }
    // Not without the namespace either.
    for (key, kind) in [
        ("net.ipv4.ip_forward", Namespaces::NET),
        ("kernel.msgmax", Namespaces::IPC),
        ("fs.mqueue.msg_max", Namespaces::IPC),
        ("kernel.domainname", Namespaces::UTS),
    ] {
        let error = invalid(&confined(["true"]).share(kind).sysctl(key, "1"));
        assert!(error.to_string().contains("is not its own"), "{key}: {error}");
        let error = invalid(&bare(["true"]).sysctl(key, "1"));
        assert!(error.to_string().contains("is not its own"), "{key}: {error}");
    }
}

#[test]
fn root_sysctls_outside_namespaces_are_invalid() {
    need!(root, userns);
    sysctls_outside_namespaces_are_invalid();
    let set = confined(["show", "/proc/sys/net/ipv4/ip_unprivileged_port_start"])
        .sysctl("net.ipv4.ip_unprivileged_port_start", "80");
    assert_eq!(said(&set), "80");
    let host = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert_eq!(host.trim(), "1024");
}

#[test]
fn unpriv_sysctls_outside_namespaces_are_invalid() {
    need!(unprivileged, userns);
    sysctls_outside_namespaces_are_invalid();
}

/// What contradicts itself is told before anything is made, in one line, with what to do.
fn errors_are_one_line() {
    let two = IdMaps::range(300_000..300_010).uids(ireko::namespaces::IdMap {
        inside: 5,
        outside: 400_000,
        count: 1,
    });
    let root = "/no/such/directory\nat all";
    let errors = [
        Container::builder().plan().map(drop),
        confined(["true"]).hostname("x".repeat(65)).plan().map(drop),
        confined(["true"]).share(Namespaces::UTS).hostname("x").plan().map(drop),
        confined(["true"]).share(Namespaces::MOUNT).rootfs("/").plan().map(drop),
        confined(["true"]).id_maps(two).plan().map(drop),
        confined(["true"]).rootfs(root).plan().map(drop),
        confined(["true"]).user("1:2:3").plan().map(drop),
        confined(["true"]).user("4294967295").plan().map(drop),
        confined(["true"]).user("no-such-user").plan().map(drop),
        confined(["true"]).umask(0o1000).plan().map(drop),
        confined(["true"]).env("a=b", "c").plan().map(drop),
        confined(["true"]).arg("a\0b").plan().map(drop),
        confined(["true"]).oom_score_adj(1001).plan().map(drop),
        confined(["true"]).sysctl("kernel.core_pattern", "|x\ny").plan().map(drop),
        confined(["true"]).policy(Feature::Seccomp, Policy::Off).plan().map(drop),
        confined(["true"]).memory_limit(Size::kib(4)).plan().map(drop),
        confined(["true"]).command("/no/such\nprogram").spawn().map(drop),
        confined(["true"]).current_dir("/no/such\ndirectory").spawn().map(drop),
        bare(["true"]).command("/etc/passwd").spawn().map(drop),
    ];
    for (index, error) in errors.into_iter().enumerate() {
        let error = error.expect_err(&format!("error {index}"));
        let line = error.to_string();
        assert!(!line.is_empty() && !line.contains('\n'), "{index}: {line:?}");
        assert!(!line.starts_with(char::is_uppercase) && !line.ends_with('.'), "{line:?}");
        let start: String = error.operation().chars().take_while(|c| !c.is_control()).collect();
        assert!(line.starts_with(&start) && start.len() > 4, "{line:?}");
        if let Some(remedy) = error.remedy() {
            assert!(!remedy.contains('\n') && !line.contains(remedy), "{line:?}: {remedy:?}");
        }
        if let Some(errno) = error.errno() {
            assert!(line.contains(&format!("({errno:?})")) || line.contains('('), "{line:?}");
        }
    }
}

#[test]
fn root_errors_are_one_line() {
    need!(root, userns);
    errors_are_one_line();
}

#[test]
fn unpriv_errors_are_one_line() {
    need!(unprivileged, userns);
    errors_are_one_line();
}

/// The dry run has everything that will be done, in order, a line each.
fn plan_lists_every_step() {
    let plan = confined(["echo", "a b"])
        .hostname("inside")
        .sysctl("kernel.msgmax", "4096")
        .capabilities(CapSet::EMPTY.with(Cap::Kill))
        .plan()
        .unwrap();
    let text = plan.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), plan.steps().len());
    for (index, (line, step)) in lines.iter().zip(plan.steps()).enumerate() {
        assert_eq!(*line, format!("{:3} {:8} {step}", index + 1, step.stage()));
    }
    let at = |part: &str| {
        let found = lines.iter().position(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no {part:?} in\n{text}"))
    };
    let order = [
        "clone into new namespaces: user mount pid net ipc uts",
        "execute the helper",
        "set the host name to inside",
        "bring loopback up",
        "become user 0, group 0",
        "unshare cgroup",
        "make a procfs",
        "set kernel.msgmax = 4096",
        "hide /proc/keys",
        "make /proc/sys read-only",
        "make the tree the root, and the host's go",
        "check every mount against the plan",
        "close every other file at exec",
        "drop all but CAP_KILL from the bounding set",
        "keep the capabilities CAP_KILL",
        "set the umask to 022",
        "give up gaining privileges by exec",
        "install the Standard profile",
    ];
    let places: Vec<usize> = order.iter().map(|part| at(part)).collect();
    assert!(places.is_sorted(), "{places:?}\n{text}");
    assert!(lines.last().unwrap().contains("execute "), "{text}");
    assert!(lines.last().unwrap().ends_with(r#""echo" "a b""#), "{text}");
    assert!(text.contains(", if the host allows"), "{text}");
}

#[test]
fn root_plan_lists_every_step() {
    need!(root, userns);
    plan_lists_every_step();
}

#[test]
fn unpriv_plan_lists_every_step() {
    need!(unprivileged, userns);
    plan_lists_every_step();
}
