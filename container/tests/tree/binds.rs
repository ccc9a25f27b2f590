//! Binds of the host's files, and places that are hidden.

use crate::kit::{fingerprint, host, in_root, owner, refused, said, value};
use ireko::{Container, ErrorKind, Mount, Size, Stage};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use testkit::{TempDir, need, rootfs};

fn hidden() {
    let root = rootfs();
    root.mkdir("srv/secret", 0o755);
    root.write("srv/secret/key", "key");
    let before = fingerprint(root.path());
    let builder = in_root(root.path())
        .mount(Mount::hidden("/srv/secret"))
        .mount(Mount::hidden("/etc/passwd"))
        .mount(Mount::hidden("/etc/no/such"));
    let verbs = [
        "list /srv/secret",
        "read /srv/secret/key",
        "read /etc/passwd",
        "write /srv/secret/new",
        "read /etc/no/such",
        "read /etc/group",
        "umount /etc/passwd 2",
    ];
    let [list, key, passwd, new, none, group, umount] = said(&builder, verbs);
    assert_eq!(
        (list.as_str(), key.as_str(), passwd.as_str()),
        ("", "error 2 ENOENT", "ok 0 bytes")
    );
    assert!(new.starts_with("error "), "{new}");
    assert_eq!((none.as_str(), umount.as_str()), ("error 2 ENOENT", "error 1 EPERM"));
    assert!(group.starts_with("ok "), "{group}");
    assert_eq!(fingerprint(root.path()), before);
}

fn missing() {
    let gone = "/no/such/source";
    let error = host().mount(Mount::bind(gone, "/mnt/x").read_only()).plan().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::NotFound, Stage::Config));
    assert!(error.operation().contains(gone), "{error}");
    let dir = TempDir::public();
    let builder = host()
        .mount(Mount::bind(gone, "/mnt/x").read_only().if_present())
        .mount(Mount::bind(dir.path(), "/mnt/y").read_only().if_present());
    assert_eq!(said(&builder, ["list /mnt"]), ["entry=y"]);
    for bad in ["/mnt/../etc", "/", "../x"] {
        let error = host().mount(Mount::tmpfs(bad)).plan().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}: {error}");
    }
}

#[test]
fn root_hidden_and_missing() {
    need!(root);
    hidden();
    missing();
}

#[test]
fn unpriv_hidden_and_missing() {
    need!(unprivileged, userns);
    hidden();
    missing();
}

fn files() {
    let root = rootfs();
    let dir = TempDir::public();
    fs::write(dir.join("one"), "one").unwrap();
    let builder = in_root(root.path())
        .mount(Mount::bind(dir.join("one"), "/etc/hosts").read_only())
        .mount(Mount::bind(dir.join("one"), "/run/made.conf").read_only());
    let verbs =
        ["show /etc/hosts", "write /etc/hosts", "show /run/made.conf", "stat /run/made.conf"];
    let [hosts, write, made, stat] = said(&builder, verbs);
    assert_eq!([hosts, made], ["one"; 2]);
    assert_eq!((write.as_str(), value(&stat, "type")), ("error 30 EROFS", Some("file")));
    // A directory does not go on a file, nor a file on a directory.
    for (from, to) in [(dir.path(), "/etc/hosts"), (&dir.join("one"), "/etc")] {
        let error = refused(&in_root(root.path()).mount(Mount::bind(from, to).read_only()));
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Mount), "{error}");
    }
}

#[test]
fn root_files_are_bound() {
    need!(root);
    files();
}

#[test]
fn unpriv_files_are_bound() {
    need!(unprivileged, userns);
    files();
}

/// As root nobody inside owns what the host's root does.
#[test]
fn root_writable_bind_needs_an_owner_inside() {
    need!(root);
    let closed = TempDir::new();
    let dir = closed.join("shared");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("root's"), "x").unwrap();
    fs::set_permissions(dir.join("root's"), Permissions::from_mode(0o600)).unwrap();
    let bind = Mount::bind(&dir, "/mnt/shared");
    for error in [
        host().mount(bind.clone()).plan().unwrap_err(),
        host().expose_writable(&dir).plan().unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config), "{error}");
        assert!(error.remedy().unwrap().contains(".idmapped()"), "{error}");
    }
    // Plainly shown: owners as they are.
    let verbs = ["stat /mnt/shared/root's", "read /mnt/shared/root's", "write /mnt/shared/new"];
    let [stat, read, write] = said(&host().mount(bind.clone().read_only()), verbs);
    assert_eq!(value(&stat, "owner"), Some("65534:65534"));
    assert_eq!([read, write], ["error 13 EACCES", "error 30 EROFS"]);
    // What the remedy says: owners on disk are those seen inside.
    let [stat, read, write] = said(&host().mount(bind.clone().idmapped()), verbs);
    assert_eq!(value(&stat, "owner"), Some("0:0"));
    assert_eq!([read, write], ["ok 1 bytes", "ok"]);
    assert_eq!(owner(dir.join("new")), (0, 0));
    chown(&dir, Some(1000), Some(1000)).unwrap();
    let own = host().mount(bind.idmapped()).user(1000);
    assert_eq!(said(&own, ["write /mnt/shared/own"]), ["ok"]);
    assert_eq!(owner(dir.join("own")), (1000, 1000));
    // In reach of others: as for a writable root.
    let public = TempDir::public();
    let open = Mount::bind(public.path(), "/mnt/open").idmapped();
    let error = host().mount(open.clone()).plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.remedy().unwrap().contains("chmod 0700"), "{error}");
    let [write] = said(&host().mount(open.read_only()), ["write /mnt/open/x"]);
    assert_eq!(write, "error 30 EROFS");
}

#[test]
fn unpriv_writable_bind_is_the_users_own() {
    need!(unprivileged, userns);
    let dir = TempDir::public();
    let [write] = said(&host().mount(Mount::bind(dir.path(), "/mnt/own")), ["write /mnt/own/x"]);
    assert_eq!(write, "ok");
    // SAFETY: takes nothing.
    assert_eq!(owner(dir.join("x")).0, unsafe { libc::geteuid() });
    let error = host().mount(Mount::bind(dir.path(), "/mnt/own").idmapped()).plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    // Somebody else's: nobody inside could write there.
    let error = host().expose_writable("/usr").plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.remedy().unwrap().contains(".idmapped()"), "{error}");
}

/// Without a preset mounts go where they are asked for, and no further.
#[test]
fn root_bare_mounts_in_place() {
    need!(root);
    let dir = TempDir::public();
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table();
    let builder = Container::bare()
        .command(testkit::payload())
        .mount(Mount::tmpfs(dir.path()).size(Size::mib(1)));
    let verb = format!("write {}/x", dir.path().display());
    assert_eq!(said(&builder, [&verb]), ["ok"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(table(), before);
}
