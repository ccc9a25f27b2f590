//! `/proc`, `/sys` and `/dev`.

use crate::kit::{
    Canary, answers, fingerprint, host, in_root, lines, open_for_writing, refused, said, value,
    words,
};
use crate::own_mounts::{bind, own_mounts, tmpfs};
use ireko::namespaces::Namespaces;
use ireko::{Builder, ErrorKind, Mount, Rootfs, Size, Stage};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use testkit::{need, payload, rootfs};

fn places_that_are_links() {
    let canary = Canary::new();
    for name in ["proc", "sys", "dev"] {
        for target in [canary.path(), Path::new("etc"), Path::new("/"), Path::new("/missing")] {
            let root = rootfs();
            fs::remove_dir(root.join(name)).unwrap();
            symlink(target, root.join(name)).unwrap();
            let before = fingerprint(root.path());
            let error = refused(&in_root(root.path()));
            assert_eq!(error.stage(), Stage::Mount, "{name} -> {}: {error}", target.display());
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name}: {error}");
            assert!(error.to_string().contains("link") && error.remedy().is_some(), "{error}");
            let error = refused(&in_root(Rootfs::directory(&root).ephemeral(Size::mib(1))));
            assert_eq!(error.stage(), Stage::Mount, "{name} -> {}: {error}", target.display());
            // One that became a link after the plan was made.
            fs::remove_file(root.join(name)).unwrap();
            fs::create_dir(root.join(name)).unwrap();
            let plan = in_root(root.path()).arg("true").plan().unwrap();
            fs::remove_dir(root.join(name)).unwrap();
            symlink(target, root.join(name)).unwrap();
            let error = plan.output().unwrap_err();
            assert_eq!(error.stage(), Stage::Mount, "{name}: {error}");
            assert_eq!(error.errno().map(|errno| errno.raw()), Some(libc::ELOOP), "{error}");
            assert_eq!(before.len(), fingerprint(root.path()).len());
        }
    }
    canary.check();
}

#[test]
fn root_r3_proc_sys_dev_symlinks_are_refused() {
    need!(root, overlay);
    places_that_are_links();
}

#[test]
fn unpriv_r3_proc_sys_dev_symlinks_are_refused() {
    need!(unprivileged, userns, overlay);
    places_that_are_links();
}

/// Whatever the tree has in /dev, /proc and /sys is not what the container gets.
fn masks(builder: &Builder) {
    let verbs = ["mounts", "stat /dev/null", "list /dev", "write /dev/null word", "report"];
    let [mounts, null, dev, write, report] = said(builder, verbs);
    assert_eq!((value(&null, "type"), value(&null, "rdev")), (Some("char"), Some("1:3")));
    assert_eq!(write, "ok");
    assert!(!dev.contains("entry=planted"), "{dev}");
    assert_eq!(value(&report, "pid"), Some("1"));
    let all = lines(&mounts);
    let kind = |point: &str| {
        let mut found = all.iter().filter(|line| line.point == point);
        found.next_back().unwrap_or_else(|| panic!("{point} in\n{mounts}")).kind.clone()
    };
    assert_eq!((kind("/proc"), kind("/sys")), ("proc".to_owned(), "sysfs".to_owned()));
    // What is hidden: there, and nothing can be read.
    let mut hidden = 0;
    for path in [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/sys/kernel/debug",
    ] {
        let Ok(of) = fs::metadata(path) else { continue };
        hidden += 1;
        let verbs: [&str; 5] = [
            &format!("stat {path}"),
            &format!("read {path}"),
            &format!("list {path}"),
            &open_for_writing(path),
            &open_for_writing(&format!("{path}/new")),
        ];
        let [stat, read, list, open, new] = said(builder, verbs);
        if of.is_dir() {
            assert_eq!((value(&stat, "type"), list.as_str()), (Some("dir"), ""), "{path}: {stat}");
            assert!(new.starts_with("errno="), "{path}: {new}");
        } else {
            assert_eq!(value(&stat, "rdev"), Some("1:3"), "{path}: {stat}");
            assert_eq!(read, "ok 0 bytes", "{path}");
            // It is the null device, behind a read-only mount.
            assert!(open.starts_with("ret=") || open.starts_with("errno="), "{open}");
        }
        let over = all.iter().find(|line| line.point == path).unwrap_or_else(|| panic!("{path}"));
        assert!(over.has("ro") && over.has("nosuid") && over.has("noexec"), "{over:?}");
    }
    assert!(hidden > 3, "the host has but {hidden} of them");
    // What is read-only: nobody can write there, not even one who may.
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        if fs::exists(path).unwrap() {
            let over = all.iter().find(|line| line.point == path).expect(path);
            assert!(over.has("ro"), "{over:?}");
        }
    }
    for path in ["core_pattern", "modprobe", "hostname", "panic"] {
        let path = format!("/proc/sys/kernel/{path}");
        if fs::exists(&path).unwrap() {
            let [open] = said(builder, [&open_for_writing(&path)]);
            assert!(["errno=EROFS(30)", "errno=EACCES(13)"].contains(&open.as_str()), "{open}");
        }
    }
}

/// A root directory whose /dev/null leads to where a core dump's program is named.
fn planted() -> testkit::Rootfs {
    let root = rootfs();
    symlink("/proc/sys/kernel/core_pattern", root.join("dev/null")).unwrap();
    symlink("/tmp", root.join("dev/pts")).unwrap();
    symlink("/tmp", root.join("dev/shm")).unwrap();
    root.write("dev/planted", "");
    root.write("proc/planted", "");
    root.mkdir("proc/sys", 0o777);
    root
}

#[test]
fn root_m4_r5_masks_are_what_they_should_be() {
    need!(root);
    masks(&host());
    masks(&in_root(planted().path()));
    // With the host's root inside, nothing but the mounts is in the way.
    let with_root = host().share(Namespaces::USER);
    masks(&with_root);
    for path in
        ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/sys/kernel/profiling"]
    {
        assert_eq!(said(&with_root, [&open_for_writing(path)]), ["errno=EROFS(30)"], "{path}");
    }
}

#[test]
fn unpriv_m4_r5_masks_are_what_they_should_be() {
    need!(unprivileged, userns);
    masks(&host());
    masks(&in_root(planted().path()));
}

/// The host's own null device is looked at before it hides anything.
#[test]
fn unpriv_m4_r5_a_false_null_is_an_error() {
    need!(unprivileged, userns);
    let _dir = own_mounts!(|_| vec![bind("/dev/zero", "/dev/null")]);
    let error = host().arg("true").status().unwrap_err();
    assert_eq!(error.stage(), Stage::Mount, "{error}");
    assert!(error.operation().contains("/dev/null, device 1:3"), "{error}");
}

/// Settings are written through a procfs that nobody else has.
#[test]
fn root_r4_settings_do_not_go_through_the_containers_proc() {
    need!(root);
    // A tree, and mounts, in which /proc is not what it seems.
    let root = planted();
    let decoy = root.mkdir("srv/decoy/sys/net/ipv4", 0o777);
    fs::write(decoy.join("ip_unprivileged_port_start"), "1024").unwrap();
    fs::create_dir_all(root.join("srv/decoy/self")).unwrap();
    fs::write(root.join("srv/decoy/self/oom_score_adj"), "0").unwrap();
    let before = fingerprint(&root.join("srv"));
    let builder = in_root(root.path())
        .mount(Mount::bind(root.join("srv/decoy"), "/proc").read_only())
        .mount(Mount::tmpfs("/sys").size(Size::mib(1)))
        .sysctl("net.ipv4.ip_unprivileged_port_start", "77")
        .oom_score_adj(321)
        .user(1000);
    let container =
        builder.args(["listen-tcp", "127.0.0.1:78"]).stdout(ireko::Stdio::Piped).spawn();
    let container = container.unwrap();
    let pid = container.pid();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "321\n");
    let mut said = [0; 8];
    let mut out = container.take_stdout().unwrap();
    std::io::Read::read_exact(&mut out, &mut said).unwrap();
    assert_eq!(&said, b"ready 78", "an ordinary user may have that port");
    container.kill().unwrap();
    container.wait().unwrap();
    assert_eq!(fingerprint(&root.join("srv")), before);
}

/// Where the outer /proc is masked the kernel refuses a fresh one.
fn masked_outside() {
    let error = refused(&host());
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Mount), "{error}");
    assert!(error.operation().contains("procfs"), "{error}");
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("systempaths=unconfined"), "{remedy}");
    assert!(remedy.contains(".share(Namespaces::PID)"), "{remedy}");
    // That helps, and keeps the mask.
    let [mounts, list] = said(&host().share(Namespaces::PID), ["mounts", "list /proc/irq"]);
    assert!(lines(&mounts).iter().any(|line| line.point == "/proc/irq"), "{mounts}");
    assert_eq!(list, "");
}

#[test]
fn root_m6_a_masked_proc_outside_is_an_error_with_its_remedy() {
    need!(root);
    let _dir = own_mounts!(|_| vec![tmpfs("/proc/irq")]);
    masked_outside();
}

#[test]
fn unpriv_m6_a_masked_proc_outside_is_an_error_with_its_remedy() {
    need!(unprivileged, userns);
    let _dir = own_mounts!(|_| vec![tmpfs("/proc/irq")]);
    masked_outside();
}

fn sys() {
    let verbs = ["interfaces", "list /sys/fs/cgroup", "mounts", "write /sys/new", "report"];
    let [interfaces, groups, mounts, write, report] = said(&host(), verbs);
    // Of its own network, not of the host's.
    assert_eq!(interfaces, "interface=lo");
    assert_eq!(groups, "");
    assert!(write.starts_with("error "), "{write}");
    let all = lines(&mounts);
    let sys = all.iter().find(|line| line.point == "/sys").unwrap();
    assert_eq!(sys.kind, "sysfs");
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|word| sys.has(word)), "{sys:?}");
    assert!(!all.iter().any(|line| line.kind.starts_with("cgroup")), "{mounts}");
    // It is the root of what it sees.
    let groups: Vec<_> = report.lines().filter(|line| line.starts_with("cgroup=")).collect();
    assert!(!groups.is_empty() && groups.iter().all(|line| line.ends_with(":/")), "{groups:?}");
    let mount = "mount cgroup /mnt cgroup2 0";
    let answer = said(&host(), [mount, "unshare 0x02000000"]);
    assert_eq!(answer, ["error 1 EPERM"; 2]);
}

#[test]
fn root_m7_r16_sys_is_its_own_and_read_only() {
    need!(root);
    sys();
    let open = open_for_writing("/sys/class/net/lo/mtu");
    let [open, v1] = said(&host().share(Namespaces::USER), [&open, "mount x /tmp cgroup 0 pids"]);
    assert_eq!([open.as_str(), v1.as_str()], ["errno=EROFS(30)", "error 1 EPERM"]);
}

#[test]
fn unpriv_m7_r16_sys_is_its_own_and_read_only() {
    need!(unprivileged, userns);
    sys();
}

fn devices(builder: &Builder, group: bool) {
    let [list, mounts] = said(builder, ["list /dev", "mounts"]);
    let mut names: Vec<&str> =
        list.lines().map(|line| line.strip_prefix("entry=").unwrap()).collect();
    names.sort_unstable();
    let wanted = [
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    assert_eq!(names, wanted);
    for (name, device) in [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ] {
        let [stat] = said(builder, [&format!("stat /dev/{name}")]);
        let found = (value(&stat, "type"), value(&stat, "rdev"), value(&stat, "mode"));
        assert_eq!(found, (Some("char"), Some(device), Some("0666")), "{name}");
    }
    let verbs = [
        "write /dev/null",
        "write /dev/full word",
        "readlink /dev/fd",
        "readlink /dev/ptmx",
        "pty",
        "list /dev/pts",
        "write /dev/shm/x",
        "write /dev/new",
        "unlink /dev/null",
        "stat /dev",
    ];
    let [null, full, fd, ptmx, pty, pts, shm, new, unlink, _] = said(builder, verbs);
    assert_eq!([null, shm], ["ok"; 2]);
    assert_eq!(full, "error 28 ENOSPC");
    assert_eq!((fd.as_str(), ptmx.as_str()), ("ok /proc/self/fd", "ok pts/ptmx"));
    // Its own, from the first on.
    assert_eq!((pty.as_str(), pts.as_str()), ("pty=/dev/pts/0", "entry=0\nentry=ptmx"));
    for answer in [new, unlink] {
        assert!(
            ["error 30 EROFS", "error 13 EACCES", "error 16 EBUSY"].contains(&answer.as_str()),
            "{answer}"
        );
    }
    let pts = lines(&mounts).into_iter().find(|line| line.point == "/dev/pts").unwrap();
    assert_eq!(pts.kind, "devpts");
    assert_eq!(pts.all.contains("gid="), group, "{pts:?}");
    for line in lines(&mounts).iter().filter(|line| line.point.starts_with("/dev")) {
        assert!(line.has("nosuid") && line.has("noexec"), "{line:?}");
    }
    // And none can be made: no device of the host's can be reached by number.
    let verbs = ["mknod /tmp/null c 1 3", "mknod /tmp/disk b 254 0", "mknod /dev/shm/m c 1 1"];
    for answer in said(builder, verbs) {
        assert_eq!(answer, "error 1 EPERM");
    }
}

#[test]
fn root_m8_devices() {
    need!(root);
    devices(&host(), true);
    devices(&in_root(planted().path()), true);
    // Also with the host's root inside, who could make them.
    for answer in
        said(&host().share(Namespaces::USER), ["mknod /tmp/m c 1 1", "mknod /tmp/b b 254 0"])
    {
        assert_eq!(answer, "error 1 EPERM");
    }
}

#[test]
fn unpriv_m8_devices() {
    need!(unprivileged, userns);
    devices(&host(), false);
    devices(&in_root(planted().path()), false);
}

/// What a tree holds gives nobody anything.
#[test]
fn root_r13_no_privilege_and_no_device_from_the_tree() {
    need!(root);
    let root = rootfs();
    let name = std::ffi::CString::new(root.join("etc/mem").to_str().unwrap()).unwrap();
    let zero = libc::makedev(1, 5);
    // SAFETY: a string that ends in zero.
    let made = unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o666, zero) };
    assert_eq!(made, 0);
    fs::set_permissions(root.join("etc/mem"), Permissions::from_mode(0o666)).unwrap();
    root.program("bin/suid");
    fs::set_permissions(root.join("bin/suid"), Permissions::from_mode(0o6755)).unwrap();
    let user = in_root(root.path()).user(1000);
    let [node, mounts, report] = said(&user, ["syscall 257 0 @/etc/mem 0 0", "mounts", "report"]);
    assert_eq!(node, "errno=EACCES(13)");
    assert_eq!(value(&report, "NoNewPrivs"), Some("1"));
    for line in lines(&mounts) {
        assert!(line.has("nosuid"), "{line:?}");
        assert!(
            line.has("nodev")
                || line.point.starts_with("/dev")
                || line.all.contains(" - tmpfs ") && line.all.contains("/null "),
            "{line:?}"
        );
    }
    let output = user.clone().command("/bin/suid").args(words(&["report"])).output().unwrap();
    let [report] = answers(&output);
    assert_eq!((value(&report, "euid"), value(&report, "egid")), (Some("1000"), Some("1000")));
    // The same for a mount.
    let tools = testkit::TempDir::public();
    let status =
        std::process::Command::new(payload()).arg("install").arg(tools.join("suid")).status();
    assert!(status.unwrap().success());
    chown(tools.join("suid"), Some(0), Some(0)).unwrap();
    fs::set_permissions(tools.join("suid"), Permissions::from_mode(0o6755)).unwrap();
    let shown = host().mount(Mount::bind(tools.path(), "/mnt/tools").read_only().idmapped());
    let output =
        shown.user(1000).command("/mnt/tools/suid").args(words(&["report"])).output().unwrap();
    let [report] = answers(&output);
    assert_eq!((value(&report, "euid"), value(&report, "egid")), (Some("1000"), Some("1000")));
    let no_exec = host().mount(Mount::bind(tools.path(), "/mnt/tools").read_only().no_exec());
    let error = no_exec.command("/mnt/tools/suid").status().unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Exec, ErrorKind::Denied));
}
