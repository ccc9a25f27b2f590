//! Trees that somebody changes while containers start on them.

use crate::kit::{Canary, Swap, in_root, lines, said, value};
use ireko::{Builder, Error, Mount, Rootfs, Size, Stage};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use testkit::{TempDir, need, rootfs};

/// How many starts there are in one race.
const STARTS: usize = 200;

/// A start that somebody disturbed: it fails where the tree is made.
#[track_caller]
fn failed_there(error: &Error) {
    assert!([Stage::Mount, Stage::Root].contains(&error.stage()), "{error}");
    assert_ne!(error.errno().map(|errno| errno.raw()), Some(libc::EAGAIN), "{error}");
}

/// Starts containers while two names are exchanged; the canary notices nothing.
fn race(builder: &Builder, canary: &Canary, a: &Path, b: &Path, check: impl Fn(&str)) {
    let plan = builder.clone().arg("report").plan().unwrap();
    let swap = Swap::start(a, b);
    let mut good = 0;
    for _ in 0..STARTS {
        match plan.output() {
            Ok(output) => {
                assert!(output.status.success(), "{output:?}");
                check(&String::from_utf8(output.stdout).unwrap());
                good += 1;
            }
            Err(error) => failed_there(&error),
        }
    }
    let swaps = swap.stop();
    assert!(swaps > 100, "{swaps} exchanges");
    // Undisturbed it works.
    assert!(plan.output().unwrap().status.success());
    canary.check();
    eprintln!("{good} of {STARTS} started, {swaps} exchanges");
}

/// Directories become links to the host's, and back.
fn links_do_not_lead_out() {
    let canary = Canary::new();
    let at = |point: &str| {
        let point = point.to_owned();
        move |report: &str| {
            let mounts: String = report
                .lines()
                .filter(|line| line.starts_with("mount="))
                .map(|line| format!("{line}\n"))
                .collect();
            let all = lines(mounts.trim_end());
            // Wherever the directory has been carried meanwhile.
            assert!(all.iter().any(|line| line.point.ends_with(&point)), "{mounts}");
        }
    };
    // A mount point that is there: the container gets a mount on it or does not start.
    let root = rootfs();
    root.mkdir("mnt/a/b/c", 0o777);
    symlink(canary.path(), root.join("mnt/evil")).unwrap();
    let builder = in_root(root.path()).mount(Mount::tmpfs("/mnt/a/b/c").size(Size::kib(64)));
    race(&builder, &canary, &root.join("mnt/a"), &root.join("mnt/evil"), at("/b/c"));
    // One that is made, of which a part is exchanged.
    let root = rootfs();
    root.mkdir("mnt/a", 0o777);
    symlink(canary.path(), root.join("mnt/evil")).unwrap();
    let builder = in_root(Rootfs::directory(&root).ephemeral(Size::mib(1)))
        .mount(Mount::tmpfs("/mnt/a/b/new/deep").size(Size::kib(64)))
        .mount(Mount::bind(root.join("etc/hosts"), "/mnt/a/b/file").read_only());
    race(&builder, &canary, &root.join("mnt/a"), &root.join("mnt/evil"), at("/b/new/deep"));
    // The places of /proc, /sys and /dev: the real thing or no start.
    for name in ["proc", "sys", "dev"] {
        let root = rootfs();
        symlink(canary.path().join(name), root.join("evil")).unwrap();
        let builder = in_root(root.path());
        race(&builder, &canary, &root.join(name), &root.join("evil"), |report| {
            assert_eq!(value(report, "pid"), Some("1"), "{report}");
            // Where it was carried off the program cannot tell.
            if value(report, "mount") == Some("?") {
                return;
            }
            let place = if name == "proc" { "" } else { "/proc" };
            at("/keys")(report);
            at(&format!("{place}/sys"))(report);
            at("/pts")(report);
            at("/firmware")(report);
        });
    }
}

#[test]
fn root_m3_r1_symlink_races_do_not_lead_out() {
    need!(root, overlay);
    links_do_not_lead_out();
}

#[test]
fn unpriv_m3_r1_symlink_races_do_not_lead_out() {
    need!(unprivileged, userns, overlay);
    links_do_not_lead_out();
}

/// The root and a bind's source are what they were when planned, or there is no start.
fn sources_are_what_was_planned() {
    let canary = Canary::new();
    let above = TempDir::public();
    let (root, other) = (rootfs(), rootfs());
    root.write("etc/which", "planned");
    other.write("etc/which", "other!!");
    // Somewhere that names can be exchanged.
    for (name, of) in [("root", &root), ("other", &other)] {
        fs::rename(of.path(), above.join(name)).unwrap();
        // For its removal.
        fs::create_dir(of.path()).unwrap();
    }
    fs::create_dir(above.join("source")).unwrap();
    fs::write(above.join("source/which"), "planned").unwrap();
    symlink(canary.path(), above.join("link")).unwrap();
    let root = above.join("root");
    let show = |builder: Builder, path: &str| builder.args(["show", path]).plan().unwrap();
    let bind = Mount::bind(above.join("source"), "/mnt").read_only();
    let by_root = show(in_root(root.as_path()), "/etc/which");
    let by_bind = show(in_root(root.as_path()).mount(bind), "/mnt/which");
    for (plan, name, evil) in [
        (&by_root, "root", "other"),
        (&by_root, "root", "link"),
        (&by_bind, "source", "link"),
        (&by_bind, "source", "other"),
    ] {
        let swap = Swap::start(above.join(name), above.join(evil));
        let mut good = 0;
        for _ in 0..STARTS {
            match plan.output() {
                Ok(output) => {
                    assert_eq!(output.stdout, b"planned", "{name}, {evil}");
                    good += 1;
                }
                Err(error) => failed_there(&error),
            }
        }
        assert!(swap.stop() > 100);
        assert_eq!(plan.output().unwrap().stdout, b"planned");
        eprintln!("{name}, {evil}: {good} of {STARTS} started");
    }
    canary.check();
}

#[test]
fn root_r2_sources_are_what_was_planned() {
    need!(root);
    sources_are_what_was_planned();
}

#[test]
fn unpriv_r2_sources_are_what_was_planned() {
    need!(unprivileged, userns);
    sources_are_what_was_planned();
}

/// Every kind of link, at every place of a mount point's path.
fn links_of_all_kinds() {
    let canary = Canary::new();
    let out = canary.path().to_str().unwrap().to_owned();
    let up = "../".repeat(30);
    let targets = [
        out.clone(),
        format!("{up}{}", &out[1..]),
        format!("/proc/self/root{out}"),
        format!("/proc/1/root{out}"),
        "/proc/self/cwd".to_owned(),
        "/missing".to_owned(),
        "evil".to_owned(),
        "chain-0".to_owned(),
        up,
    ];
    for target in &targets {
        for (point, below) in [("/mnt/evil", ""), ("/mnt/evil/b", "b"), ("/mnt/evil/b/c", "b/c")] {
            let root = rootfs();
            symlink(target, root.join("mnt/evil")).unwrap();
            for n in 0..45 {
                symlink(format!("chain-{}", n + 1), root.join(format!("mnt/chain-{n}"))).unwrap();
            }
            symlink(&out, root.join("mnt/chain-45")).unwrap();
            for root in [Rootfs::directory(&root), Rootfs::directory(&root).ephemeral(Size::mib(1))]
            {
                let builder =
                    in_root(root).mount(Mount::tmpfs(point).size(Size::kib(64))).arg("report");
                // Where it leads somewhere inside, it may be mounted there.
                match builder.output() {
                    Ok(output) => assert!(output.status.success(), "{target} {below}: {output:?}"),
                    Err(error) => failed_there(&error),
                }
            }
        }
    }
    canary.check();
}

#[test]
fn root_m3_r1_links_in_a_mount_point_do_not_lead_out() {
    need!(root, overlay);
    links_of_all_kinds();
}

#[test]
fn unpriv_m3_r1_links_in_a_mount_point_do_not_lead_out() {
    need!(unprivileged, userns, overlay);
    links_of_all_kinds();
}

/// A link is one of the tree's own: it leads to the place inside.
fn a_link_leads_to_the_place_inside() {
    let canary = Canary::new();
    let root = rootfs();
    root.mkdir("srv/real", 0o755);
    let up = format!("{}srv/real", "../".repeat(20));
    for (name, target) in [("absolute", "/srv/real"), ("relative", "../srv/real"), ("up", &up)] {
        symlink(target, root.join("mnt").join(name)).unwrap();
        for base in [Rootfs::directory(&root), Rootfs::directory(&root).ephemeral(Size::mib(1))] {
            let at = format!("/mnt/{name}");
            let builder = in_root(base).mount(Mount::bind(root.join("etc"), &at).read_only());
            let [mounts, read] = said(&builder, ["mounts", &format!("read {at}/hostname")]);
            assert_eq!(read, "ok 7 bytes");
            assert!(lines(&mounts).iter().any(|line| line.point == "/srv/real"), "{mounts}");
        }
    }
    canary.check();
}

#[test]
fn root_r1_a_link_leads_to_the_place_inside() {
    need!(root);
    a_link_leads_to_the_place_inside();
}

#[test]
fn unpriv_r1_a_link_leads_to_the_place_inside() {
    need!(unprivileged, userns);
    a_link_leads_to_the_place_inside();
}

/// A directory inside that is none any more when the program starts there.
fn working_directory() {
    let canary = Canary::new();
    let root = rootfs();
    symlink(canary.path(), root.join("work/out")).unwrap();
    symlink("../../../../../../..", root.join("work/up")).unwrap();
    for dir in ["/work/out", "/proc/self/fd/3", "/proc/1/cwd/../../nothing", "/missing"] {
        let error = in_root(root.path()).current_dir(dir).arg("true").status().unwrap_err();
        assert_eq!(error.stage(), Stage::Process, "{error}");
        let errno = error.errno().map(|errno| errno.raw());
        // A magic link is none that is followed.
        assert!([Some(libc::ENOENT), Some(libc::ELOOP)].contains(&errno), "{error}");
    }
    let [report] = said(&in_root(root.path()).current_dir("/work/up"), ["report"]);
    assert_eq!(value(&report, "cwd"), Some("/"));
    canary.check();
}

#[test]
fn root_r1_the_working_directory_is_inside() {
    need!(root);
    working_directory();
}

#[test]
fn unpriv_r1_the_working_directory_is_inside() {
    need!(unprivileged, userns);
    working_directory();
}
