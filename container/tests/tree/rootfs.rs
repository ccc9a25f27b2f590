//! A directory as root: read-only, writable, ephemeral.

use crate::kit::{ClosedRoot, fingerprint, in_root, lines, owner, refused, said, value};
use ireko::{ErrorKind, Mount, Rootfs, Size, Stage};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use testkit::{need, rootfs};

#[test]
fn root_writable_rootfs_keeps_owners() {
    need!(root);
    let closed = ClosedRoot::new();
    let root = closed.path();
    for (name, id) in [("zero", 0), ("user", 1000), ("web", 33), ("beyond", 70_000)] {
        let path = root.join("etc").join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(id), Some(id)).unwrap();
    }
    let writable = in_root(Rootfs::directory(&root).writable());
    let verbs = [
        "write /work/by-root",
        "stat /work/by-root",
        "stat /etc/zero",
        "stat /etc/user",
        "stat /etc/web",
        "stat /etc/beyond",
        "read /etc/zero",
        "chown 33 33 /etc/web",
    ];
    let [write, new, zero, user, web, beyond, read, chown] = said(&writable, verbs);
    assert_eq!((write.as_str(), read.as_str(), chown.as_str()), ("ok", "ok 4 bytes", "ok"));
    let owners = [&new, &zero, &user, &web, &beyond].map(|stat| value(stat, "owner").unwrap());
    assert_eq!(owners, ["0:0", "0:0", "1000:1000", "33:33", "65534:65534"]);
    let verbs = ["write /home/user/own", "write /tmp/own", "read /etc/user", "read /etc/zero"];
    let [home, tmp, own, other] = said(&writable.user((1000, 1000)), verbs);
    assert_eq!([home, tmp, own], ["ok", "ok", "ok 4 bytes"]);
    assert_eq!(other, "error 13 EACCES");
    // On disk: what was seen inside, and it stays.
    assert_eq!(owner(root.join("work/by-root")), (0, 0));
    assert_eq!(owner(root.join("home/user/own")), (1000, 1000));
    assert_eq!(owner(root.join("tmp/own")), (1000, 1000));
    assert_eq!(owner(root.join("etc/web")), (33, 33));
    assert_eq!(owner(root.join("etc/beyond")), (70_000, 70_000));
}

#[test]
fn root_writable_rootfs_in_reach_is_refused() {
    need!(root);
    let closed = ClosedRoot::new();
    let writable = in_root(Rootfs::directory(closed.path()).writable());
    let above = closed.above();
    let open = |mode, id| {
        fs::set_permissions(above, Permissions::from_mode(mode)).unwrap();
        chown(above, Some(id), Some(id)).unwrap();
    };
    // Anybody's, a group's, one who may only pass, and another owner's.
    for (mode, id) in [(0o755, 0), (0o750, 0), (0o701, 0), (0o710, 0), (0o700, 1000)] {
        open(mode, id);
        let error = writable.plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Config), "{mode:o}");
        let remedy = error.remedy().unwrap();
        let chmod = format!("chmod 0700 {}", above.display());
        assert!(remedy.contains(".ephemeral(") && remedy.contains(&chmod), "{remedy}");
    }
    // What the remedy says helps.
    open(0o700, 0);
    assert_eq!(said(&writable, ["write /work/x"]), ["ok"]);
    // A directory of everybody's is not to be closed for it.
    let public = rootfs();
    let error = in_root(Rootfs::directory(&public).writable()).plan().unwrap_err();
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains(".ephemeral(") && remedy.contains("chmod 0700"), "{remedy}");
    assert!(!remedy.contains("chmod 0700 /tmp"), "{remedy}");
}

fn read_only() {
    let root = rootfs();
    let before = fingerprint(root.path());
    let verbs = [
        "stat /etc/passwd",
        "write /etc/passwd",
        "write /work/new",
        "mkdir /new",
        "read /etc/hosts",
        "write /tmp/new",
        "write /run/new",
        "write /dev/shm/new",
        "stat /",
    ];
    let [stat, passwd, new, top, hosts, tmp, run, shm, slash] = said(&in_root(root.path()), verbs);
    assert_eq!([value(&stat, "owner"), value(&slash, "owner")], [Some("0:0"); 2]);
    assert_eq!([passwd, new, top], ["error 30 EROFS"; 3]);
    assert_eq!(hosts, "ok 20 bytes");
    assert_eq!([tmp, run, shm], ["ok"; 3]);
    assert_eq!(fingerprint(root.path()), before);
}

#[test]
fn root_read_only_rootfs_stays_as_it_is() {
    need!(root);
    read_only();
}

#[test]
fn unpriv_read_only_rootfs_stays_as_it_is() {
    need!(unprivileged, userns);
    read_only();
}

fn ephemeral() {
    let root = rootfs();
    let before = fingerprint(root.path());
    let mounts_before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ephemeral = in_root(Rootfs::directory(&root).ephemeral(Size::mib(2)))
        .mount(Mount::tmpfs("/made/for/it"))
        .mount(Mount::bind(root.join("etc/hosts"), "/etc/deep/file.conf").read_only());
    let verbs = [
        "read /work/new",
        "write /work/new word",
        "read /work/new",
        "append /etc/hosts more",
        "read /etc/hosts",
        "unlink /etc/hostname",
        "mkdir /new",
        "write /made/for/it/x",
        "read /etc/deep/file.conf",
        "chmod 0700 /etc",
        "fill /work/big 8",
        "stat /etc/group",
    ];
    for _ in 0..2 {
        // The second time there is nothing of the first.
        let [none, new, read, append, hosts, unlink, mkdir, mounted, bound, chmod, fill, group] =
            said(&ephemeral, verbs);
        assert_eq!(none, "error 2 ENOENT");
        assert_eq!([new, append, unlink, mkdir, mounted, chmod], ["ok"; 6]);
        assert_eq!([read, hosts, bound], ["ok 4 bytes", "ok 24 bytes", "ok 20 bytes"]);
        let wrote: u64 = value(&fill, "wrote").unwrap().parse().unwrap();
        assert!(wrote < 2 << 20 && value(&fill, "errno") == Some("ENOSPC"), "{fill}");
        assert_eq!(value(&group, "owner"), Some("0:0"));
    }
    assert_eq!(fingerprint(root.path()), before);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts_before);
}

#[test]
fn root_m10_mount_points_are_made_on_nothing_of_the_hosts() {
    need!(root, overlay);
    ephemeral();
    none_is_made();
}

#[test]
fn unpriv_m10_mount_points_are_made_on_nothing_of_the_hosts() {
    need!(unprivileged, userns, overlay);
    ephemeral();
    none_is_made();
    // A directory that is shown writable is the host's as well.
    let root = rootfs();
    let shared = root.mkdir("srv/shared", 0o755);
    let builder = in_root(root.path())
        .mount(Mount::bind(&shared, "/mnt"))
        .mount(Mount::tmpfs("/mnt/missing"));
    assert_eq!(refused(&builder).kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);
}

/// A mount point that is missing is an error with what to do.
fn none_is_made() {
    let root = rootfs();
    let before = fingerprint(root.path());
    for missing in [
        Mount::tmpfs("/work/missing"),
        Mount::bind(root.join("etc"), "/work/missing/deep").read_only(),
        Mount::bind(root.join("etc/hosts"), "/etc/missing.conf").read_only(),
    ] {
        let error = refused(&in_root(root.path()).mount(missing));
        assert_eq!((error.kind(), error.stage()), (ErrorKind::NotFound, Stage::Mount), "{error}");
        assert!(error.remedy().unwrap().contains(".ephemeral("), "{error}");
    }
    assert_eq!(fingerprint(root.path()), before);
}

fn without_places() {
    for name in ["proc", "sys", "dev"] {
        let root = rootfs();
        fs::remove_dir(root.join(name)).unwrap();
        let before = fingerprint(root.path());
        let error = refused(&in_root(root.path()));
        assert_eq!((error.kind(), error.stage()), (ErrorKind::NotFound, Stage::Mount), "{error}");
        let remedy = error.remedy().unwrap().to_owned();
        let mkdir = format!("mkdir {}", root.join(name).display());
        assert!(remedy.contains(&mkdir) && remedy.contains(".ephemeral("), "{remedy}");
        // Both of them help.
        let ephemeral = in_root(Rootfs::directory(&root).ephemeral(Size::mib(1)));
        let [mounts] = said(&ephemeral, ["mounts"]);
        // Without /proc there is nothing to be read.
        assert!(lines(&mounts).iter().any(|line| line.point == format!("/{name}")), "{mounts}");
        assert_eq!(fingerprint(root.path()), before);
        root.mkdir(name, 0o755);
        assert_eq!(said(&in_root(root.path()), ["echo hi"]), ["hi"]);
    }
}

#[test]
fn root_missing_proc_is_an_error_with_its_remedy() {
    need!(root, overlay);
    without_places();
}

#[test]
fn unpriv_missing_proc_is_an_error_with_its_remedy() {
    need!(unprivileged, userns, overlay);
    without_places();
}
