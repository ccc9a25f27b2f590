//! Mounts that were asked for, and mounts of the host.

use crate::kit::{Canary, host, in_root, lines, said, value, words};
use crate::own_mounts::{bind, mount, own_mounts, share_all, tmpfs};
use ireko::namespaces::Namespaces;
use ireko::{Container, ErrorKind, Mount, Rootfs, Size, Stage, Stdio};
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use testkit::{TempDir, need, rootfs};

fn table() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// In a tree where all is shared, as a host's is.
fn nothing_crosses(dir: &Path) {
    share_all();
    fs::create_dir_all(dir.join("shown/below")).unwrap();
    let before = table();
    assert!(before.contains("shared:"), "{before}");
    let root = rootfs();
    let shown = || host().expose(dir.join("shown")).mount(Mount::tmpfs("/mnt/x"));
    let builders = [
        shown(),
        // Without a user namespace the kernel makes no difference between its mounts and ours.
        shown().share(Namespaces::USER),
        in_root(root.path()).mount(Mount::bind(dir.join("shown"), "/mnt").read_only()),
        Container::bare().command(testkit::payload()).mount(Mount::tmpfs(dir.join("x"))),
    ];
    fs::create_dir(dir.join("x")).unwrap();
    for builder in builders {
        let in_root = builder.plan().unwrap().to_string().contains("mount it on /mnt\n");
        let shown = if in_root { PathBuf::from("/mnt/below") } else { dir.join("shown/below") };
        let verbs = ["mounts", "eof", &format!("list {}", shown.display()), "mounts"];
        let container =
            builder.args(words(&verbs)).stdin(Stdio::Piped).stdout(Stdio::Piped).spawn().unwrap();
        // What the container mounts is not here,
        assert_eq!(table(), before);
        // what is mounted here is not in the container,
        mount(&tmpfs(dir.join("shown/below")));
        fs::write(dir.join("shown/below/later"), "").unwrap();
        drop(container.take_stdin());
        let mut text = String::new();
        container.take_stdout().unwrap().read_to_string(&mut text).unwrap();
        assert!(container.wait().unwrap().success());
        let said: Vec<&str> = text.split("-- --\n").collect();
        assert_eq!((said[1], said[2]), ("eof=0\n", ""), "{text}");
        assert_eq!(said[0], said[3]);
        // and none of its mounts belongs to a group with others.
        for line in lines(said[0]) {
            let peers = ["shared:", "master:", "propagate_from:"];
            assert!(!peers.iter().any(|word| line.all.contains(word)), "{line:?}");
        }
        let target = std::ffi::CString::new(dir.join("shown/below").to_str().unwrap()).unwrap();
        // SAFETY: a string that ends in zero; the mount is ours.
        assert_eq!(unsafe { libc::umount2(target.as_ptr(), 0) }, 0);
        // A copy that is unmounted is not unmounted here.
        assert_eq!(table(), before);
    }
}

#[test]
fn root_m1_no_mount_crosses() {
    need!(root);
    let dir = own_mounts!(|dir| vec![tmpfs(dir)]);
    nothing_crosses(&dir);
}

fn old_root_is_gone(canary: &Canary) {
    let root = rootfs();
    let secret = canary.path().join("secret");
    for builder in
        [host(), in_root(root.path()), in_root(Rootfs::directory(&root).ephemeral(Size::mib(1)))]
    {
        let up = format!("{}{}", "/..".repeat(40), secret.display());
        let through = format!("/proc/self/root{}", secret.display());
        let cwd = format!("/proc/self/cwd/../../../..{}", secret.display());
        let verbs = [
            "mounts",
            &format!("read {up}"),
            &format!("read {through}"),
            &format!("read {cwd}"),
            &format!("read {}", secret.display()),
            "list /..",
            "list /",
            "umount / 2",
            "report",
        ];
        let builder = builder.current_dir("/../../../..");
        let [mounts, up, through, cwd, plain, above, top, umount, report] = said(&builder, verbs);
        for read in [up, through, cwd, plain] {
            assert_eq!(read, "error 2 ENOENT");
        }
        assert_eq!(above, top);
        assert!(umount.starts_with("error 1 EPERM"), "{umount}");
        assert_eq!((value(&report, "cwd"), value(&report, "root")), (Some("/"), Some("/")));
        let lines = lines(&mounts);
        let mut points: Vec<&str> = lines.iter().map(|line| line.point.as_str()).collect();
        points.sort_unstable();
        // Nothing lies below another mount of the same place.
        assert!(points.windows(2).all(|pair| pair[0] != pair[1]), "{points:?}");
        assert_eq!(points.iter().filter(|point| **point == "/").count(), 1);
        // Nothing of the host's but what is meant to be seen.
        for line in &lines {
            let place = line.point.split('/').nth(1).unwrap();
            let known = [
                "", "usr", "bin", "sbin", "lib", "lib64", "etc", "opt", "tmp", "run", "var",
                "home", "root", "proc", "sys", "dev", "lib32", "libx32", "nix", "gnu",
            ];
            assert!(known.contains(&place), "{line:?}");
        }
    }
    canary.check();
}

#[test]
fn root_m2_old_root_is_gone() {
    need!(root, overlay);
    old_root_is_gone(&Canary::new());
}

#[test]
fn unpriv_m2_old_root_is_gone() {
    need!(unprivileged, userns, overlay);
    old_root_is_gone(&Canary::new());
}

/// A tree with a mount below it, and one below that.
fn nested(dir: &Path) -> Vec<crate::own_mounts::Spec> {
    vec![tmpfs(dir)]
}

fn read_only_all_the_way(dir: &Path) {
    let open = |path: PathBuf| {
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    };
    open(dir.join("tree/sub"));
    // An ordinary user has lost its capabilities at exec: its mounts are there already.
    if dir.join("is-root").exists() {
        mount(&tmpfs(dir.join("tree/sub")));
        open(dir.join("tree/sub/deep"));
        mount(&tmpfs(dir.join("tree/sub/deep")));
    }
    for path in ["tree", "tree/sub", "tree/sub/deep"] {
        open(dir.join(path));
        fs::write(dir.join(path).join("file"), "x").unwrap();
        fs::set_permissions(dir.join(path).join("file"), Permissions::from_mode(0o666)).unwrap();
    }
    let mount = Mount::bind(dir.join("tree"), "/mnt/tree");
    let verbs = [
        "write /mnt/tree/file",
        "write /mnt/tree/sub/file",
        "write /mnt/tree/sub/deep/file",
        "write /mnt/tree/sub/deep/new",
        "read /mnt/tree/sub/deep/file",
        "mounts",
        // MS_REMOUNT | MS_BIND
        "mount - /mnt/tree/sub - 0x1020",
        "umount /mnt/tree/sub 2",
    ];
    let [top, sub, deep, new, read, mounts, remount, umount] =
        said(&host().mount(mount.clone().read_only().no_exec()), verbs);
    assert_eq!([top, sub, deep, new], ["error 30 EROFS"; 4]);
    assert_eq!(read, "ok 1 bytes");
    let below: Vec<_> =
        lines(&mounts).into_iter().filter(|line| line.point.starts_with("/mnt/tree")).collect();
    assert!(below.len() >= 3, "{mounts}");
    for line in &below {
        assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|word| line.has(word)), "{line:?}");
    }
    assert_eq!([remount, umount], ["error 1 EPERM"; 2]);
    // Writable is what is not made read-only.
    let writable = if dir.join("is-root").exists() { return } else { mount };
    let [top, sub, deep, ..] = said(&host().mount(writable), verbs);
    assert_eq!([top, sub, deep], ["ok"; 3]);
}

#[test]
fn root_m5_read_only_holds_for_mounts_below() {
    need!(root);
    let dir = own_mounts!(nested);
    fs::write(dir.join("is-root"), "").unwrap();
    read_only_all_the_way(&dir);
}

#[test]
fn unpriv_m5_read_only_holds_for_mounts_below() {
    need!(unprivileged, userns);
    let dir = own_mounts!(|dir| {
        fs::create_dir_all(dir.join("tree/sub")).unwrap();
        // A directory of a mount serves for a mount below it.
        fs::create_dir_all(dir.join("other/deep")).unwrap();
        vec![
            tmpfs(dir.join("tree/sub")),
            bind(dir.join("other"), dir.join("tree/sub")),
            tmpfs(dir.join("tree/sub/deep")),
        ]
    });
    read_only_all_the_way(&dir);
}

/// A root directory with a mount of the host's below.
#[test]
fn root_m5_read_only_root_holds_for_mounts_below() {
    need!(root);
    let dir = own_mounts!(nested);
    let root = rootfs();
    let below = root.mkdir("srv/below", 0o777);
    mount(&bind(&dir, &below));
    let builder = in_root(root.path());
    let [write, mounts] = said(&builder, ["write /srv/below/x", "mounts"]);
    assert_eq!(write, "error 30 EROFS");
    let all = lines(&mounts);
    let line = all.iter().find(|line| line.point == "/srv/below").expect(&mounts);
    assert!(["ro", "nosuid", "nodev"].iter().all(|word| line.has(word)), "{line:?}");
}

fn tmpfs_sizes() {
    let builder =
        host().mount(Mount::tmpfs("/mnt/one").size(Size::mib(1))).mount(Mount::tmpfs("/mnt/other"));
    let verbs = ["fill /mnt/one/x 4", "fill /mnt/other/x 80", "fill /tmp/x 300", "mounts"];
    let [one, other, tmp, mounts] = said(&builder, verbs);
    let wrote = |answer: &str| value(answer, "wrote").unwrap().parse::<u64>().unwrap();
    assert_eq!((wrote(&one), value(&one, "errno")), (1 << 20, Some("ENOSPC")));
    assert_eq!((wrote(&other), value(&other, "errno")), (64 << 20, Some("ENOSPC")));
    assert_eq!(value(&tmp, "errno"), Some("ENOSPC"));
    assert!(wrote(&tmp) <= 256 << 20, "{tmp}");
    // Every one that there is has a size.
    for line in lines(&mounts).iter().filter(|line| line.kind == "tmpfs") {
        assert!(line.all.contains(",size="), "{line:?}");
    }
    let bind = Mount::bind("/etc", "/mnt/etc").read_only().size(Size::mib(1));
    for mount in [bind, Mount::hidden("/etc").size(Size::mib(1))] {
        let error = host().mount(mount).plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config), "{error}");
    }
}

#[test]
fn root_m9_every_tmpfs_has_a_size() {
    need!(root);
    tmpfs_sizes();
}

#[test]
fn unpriv_m9_every_tmpfs_has_a_size() {
    need!(unprivileged, userns);
    tmpfs_sizes();
}

/// A file that another replaces is another file: a container keeps the one it has.
fn replaced_file() {
    let dir = TempDir::public();
    let file = dir.join("resolv.conf");
    fs::write(&file, "old").unwrap();
    let builder = host().mount(Mount::bind(&file, "/mnt/file").read_only());
    let replace = || {
        fs::write(dir.join("new"), "newer").unwrap();
        fs::rename(dir.join("new"), &file).unwrap();
    };
    let running = builder
        .clone()
        .args(words(&["eof", "show /mnt/file"]))
        .stdin(Stdio::Piped)
        .stdout(Stdio::Piped)
        .spawn()
        .unwrap();
    let planned = builder.clone().args(["show", "/mnt/file"]).plan().unwrap();
    replace();
    let output = running.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "eof=0\n-- --\nold-- --\n");
    // A plan is of what there was when it was made, and says so.
    let error = planned.output().unwrap_err();
    assert_eq!(error.stage(), Stage::Mount);
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.remedy().unwrap().contains("plan again"), "{error}");
    // A new plan shows what there is.
    assert_eq!(builder.args(["show", "/mnt/file"]).output().unwrap().stdout, b"newer");
}

#[test]
fn root_m13_a_replaced_file_is_another() {
    need!(root);
    replaced_file();
}

#[test]
fn unpriv_m13_a_replaced_file_is_another() {
    need!(unprivileged, userns);
    replaced_file();
}

fn order() {
    let dir = TempDir::public();
    fs::write(dir.join("file"), "12345").unwrap();
    let shown = || Mount::bind(dir.path(), "/mnt/a/shown").read_only();
    let over = || Mount::tmpfs("/mnt/a");
    let read = ["read /mnt/a/shown/file", "write /mnt/a/x", "list /mnt/a"];
    let [file, write, list] = said(&host().mount(over()).mount(shown()), read);
    assert_eq!([file, write], ["ok 5 bytes", "ok"]);
    assert_eq!(list, "entry=shown\nentry=x");
    // The later one lies on top.
    let [file, write, list] = said(&host().mount(shown()).mount(over()), read);
    assert_eq!([file, write, list], ["error 2 ENOENT", "ok", "entry=x"]);
    // Also of two on the same place.
    let twice = host().mount(Mount::bind(dir.path(), "/mnt/a").read_only()).mount(over());
    assert_eq!(said(&twice, ["list /mnt/a"]), [""]);
    let twice = host().mount(over()).mount(Mount::bind(dir.path(), "/mnt/a").read_only());
    assert_eq!(said(&twice, ["list /mnt/a"]), ["entry=file"]);
    let other = TempDir::public();
    fs::write(other.join("other"), "").unwrap();
    let binds = [dir.path(), other.path()].map(|from| Mount::bind(from, "/mnt/a").read_only());
    let [first, second] = binds;
    assert_eq!(said(&host().mount(first).mount(second), ["list /mnt/a"]), ["entry=other"]);
    let dev = host().mount(Mount::bind(dir.path(), "/dev").read_only());
    assert_eq!(said(&dev, ["list /dev"]), ["entry=file"]);
    // Also over what is there by itself.
    for place in ["/tmp", "/var/tmp", "/dev/shm", "/run", "/home", "/opt"] {
        let builder = Container::builder()
            .mount(Mount::bind(testkit::payload(), "/mnt/payload").read_only())
            .mount(Mount::tmpfs(place).size(Size::mib(1)))
            .command("/mnt/payload");
        let fill = format!("fill {place}/x 2");
        assert_eq!(value(&said(&builder, [&fill])[0], "wrote"), Some("1048576"), "{place}");
        let root = rootfs();
        for root in [Rootfs::directory(&root), Rootfs::directory(&root).ephemeral(Size::mib(1))] {
            let builder = in_root(root).mount(Mount::tmpfs(place).size(Size::mib(1)));
            assert_eq!(value(&said(&builder, [&fill])[0], "wrote"), Some("1048576"), "{place}");
        }
    }
}

#[test]
fn root_mounts_are_made_in_the_order_given() {
    need!(root, overlay);
    order();
}

#[test]
fn unpriv_mounts_are_made_in_the_order_given() {
    need!(unprivileged, userns, overlay);
    order();
}
