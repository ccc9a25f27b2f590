//! Mounting and unmounting, by effect.

use crate::common::{dirs, private};
use ireko_mounts::{Attributes, Detached, ErrorKind, Filesystem, MountTable, Root, Size};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

fn mounted(path: &Path) -> bool {
    MountTable::of_caller().unwrap().at(path).is_some()
}

#[test]
fn root_dropping_unmounts() {
    private("drop", |dir| {
        let [at] = dirs(dir, ["at"]);
        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap().attach(&at).unwrap();
        assert_eq!(tmpfs.path(), at);
        fs::write(at.join("f"), "on the tmpfs").unwrap();
        assert!(mounted(&at));
        drop(tmpfs);
        assert!(!mounted(&at));
        assert!(!at.join("f").exists());
    });
}

#[test]
fn root_dropping_unmounts_what_is_in_use() {
    private("drop-busy", |dir| {
        let [at] = dirs(dir, ["at"]);
        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap().attach(&at).unwrap();
        let file = fs::File::create(at.join("f")).unwrap();
        drop(tmpfs);
        assert!(!mounted(&at));
        file.set_len(10).unwrap();
    });
}

#[test]
fn root_unmount_tells_of_users() {
    private("busy", |dir| {
        let [at] = dirs(dir, ["at"]);
        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap().attach(&at).unwrap();
        let _file = fs::File::create(at.join("f")).unwrap();
        let error = tmpfs.unmount().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let words = format!("unmount {}: device or resource busy (EBUSY)", at.display());
        assert_eq!(error.to_string(), words);
        assert!(!mounted(&at));

        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap().attach(&at).unwrap();
        tmpfs.unmount().unwrap();
        assert!(!mounted(&at));
    });
}

#[test]
fn root_unmount_takes_what_is_below() {
    private("below", |dir| {
        let [source, at] = dirs(dir, ["source", "at"]);
        let kept = Detached::tmpfs(Size::mib(1)).unwrap().attach(&source).unwrap().keep();
        assert_eq!(kept, source);
        let [a, _b] = dirs(&source, ["a", "b"]);
        Detached::tmpfs(Size::mib(1)).unwrap().attach(&a).unwrap().keep();
        let copy = Detached::bind_recursive(&source).unwrap().attach(&at).unwrap();
        Detached::tmpfs(Size::mib(1)).unwrap().attach(at.join("b")).unwrap().keep();
        assert!(mounted(&at.join("a")) && mounted(&at.join("b")));
        copy.unmount().unwrap();
        assert_eq!(MountTable::of_caller().unwrap().below(&at).count(), 0);
        assert!(!mounted(&at) && mounted(&a));
    });
}

#[test]
fn root_nothing_of_others_is_unmounted() {
    private("others", |dir| {
        let [at] = dirs(dir, ["at"]);
        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap().attach(&at).unwrap();
        let cover = Detached::tmpfs(Size::mib(1)).unwrap().attach(&at).unwrap();
        let error = tmpfs.unmount().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().ends_with("something else is mounted there"), "{error}");
        fs::write(at.join("f"), "").unwrap();

        nix::mount::umount(&at).unwrap();
        let below = MountTable::of_caller().unwrap().at(&at).unwrap().id();
        drop(cover);
        assert_eq!(MountTable::of_caller().unwrap().at(&at).unwrap().id(), below);

        let gone = Detached::tmpfs(Size::mib(1)).unwrap().attach(&at).unwrap();
        nix::mount::umount(&at).unwrap();
        nix::mount::umount(&at).unwrap();
        assert_eq!(gone.unmount().unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn root_a_tmpfs_is_as_large_as_said() {
    private("size", |dir| {
        let [at] = dirs(dir, ["at"]);
        let _tmpfs = Detached::tmpfs(Size::kib(64)).unwrap().attach(&at).unwrap();
        let error = fs::write(at.join("f"), vec![0; 65 << 10]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        fs::write(at.join("f"), vec![0; 60 << 10]).unwrap();
    });
}

#[test]
fn root_binding_alone_leaves_out_what_is_below() {
    private("bind", |dir| {
        let [source, sub, at] = dirs(dir, ["source", "source/sub", "at"]);
        let _sub = Detached::tmpfs(Size::mib(1)).unwrap().attach(&sub).unwrap();
        fs::write(sub.join("f"), "").unwrap();
        let plain = Detached::bind(&source).unwrap().attach(&at).unwrap();
        assert!(at.join("sub").exists() && !at.join("sub/f").exists());
        plain.unmount().unwrap();
        let held = fs::File::open(&source).unwrap();
        for (recursive, seen) in [(false, false), (true, true)] {
            let copy = Detached::bind_fd(&held, recursive).unwrap().attach(&at).unwrap();
            assert_eq!(at.join("sub/f").exists(), seen);
            drop(copy);
        }
    });
}

#[test]
fn root_a_file_goes_on_a_file() {
    private("file", |dir| {
        let (source, at) = (dir.join("source"), dir.join("at"));
        fs::write(&source, "source").unwrap();
        fs::write(&at, "at").unwrap();
        let copy = Detached::bind(&source).unwrap().attach(&at).unwrap();
        assert_eq!(fs::read_to_string(&at).unwrap(), "source");
        drop(copy);
        assert_eq!(fs::read_to_string(&at).unwrap(), "at");
        let error = Detached::bind(&source).unwrap().attach(dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let words = "a file goes on a file, a directory on a directory";
        assert!(error.to_string().ends_with(words), "{error}");
    });
}

#[test]
fn root_what_is_missing_is_named() {
    private("missing", |dir| {
        let error = Detached::bind(dir.join("x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with(&format!("bind {}/x: ", dir.display())), "{error}");
        let error = Detached::tmpfs(Size::mib(1)).unwrap().attach(dir.join("x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let words = format!("attach tmpfs to {}/x: no such file", dir.display());
        assert!(error.to_string().starts_with(&words), "{error}");
    });
}

#[test]
fn root_no_symlink_leads_an_attached_mount_out() {
    private("inside", |dir| {
        let [inside, outside, within] = dirs(dir, ["root", "out", "root/out"]);
        // The absolute target is there outside, and inside the root only without `dir`.
        symlink("/out", inside.join("link")).unwrap();
        symlink("../../out", inside.join("up")).unwrap();
        let root = Root::open(&inside).unwrap();
        for link in ["link", "up"] {
            let at = root.resolve(link).unwrap();
            Detached::tmpfs(Size::mib(1)).unwrap().attach_in(&at).unwrap();
            assert!(mounted(&within) && !mounted(&outside), "{link}");
            nix::mount::umount(&within).unwrap();
        }
    });
}

#[test]
fn root_the_path_has_no_symlinks_in_it() {
    private("path", |dir| {
        let [at, other] = dirs(dir, ["at", "other"]);
        let link = dir.join("link");
        symlink(&at, &link).unwrap();
        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap().attach(&link).unwrap();
        assert_eq!(tmpfs.path(), at);
        fs::remove_file(&link).unwrap();
        symlink(&other, &link).unwrap();
        drop(tmpfs);
        assert!(!mounted(&at));
    });
}

#[test]
fn root_names_need_no_quoting() {
    private("names", |dir| {
        let names = ["a b,c:d", "e=f\\g,lowerdir=/", "tab\there\nline", "ü#\u{7f}"];
        let bytes: &[u8] = b"not utf8 \xff\xfe";
        let names = names.map(str::as_bytes).into_iter().chain([bytes]);
        for name in names {
            let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
            let at = dir.join(name);
            fs::create_dir_all(at.join("lower")).unwrap();
            fs::write(at.join("lower/f"), "through").unwrap();
            let copy = Detached::bind(at.join("lower")).unwrap().attach(&at).unwrap();
            assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "through");
            let table = MountTable::of_caller().unwrap();
            assert_eq!(table.at(&at).unwrap().mount_point(), at);
            copy.unmount().unwrap();

            let tmpfs = Filesystem::new("tmpfs").source(name).mount().unwrap();
            let tmpfs = tmpfs.attach(at.join("lower")).unwrap();
            let table = MountTable::of_caller().unwrap();
            assert_eq!(table.at(tmpfs.path()).unwrap().source(), Some(name));
        }
    });
}

#[test]
fn root_layers_of_an_overlay_need_no_quoting() {
    private("layers", |dir| {
        let [one, two, at] = dirs(dir, ["a,b:c d", "e\\f=g", "at"]);
        fs::write(one.join("one"), "").unwrap();
        fs::write(two.join("two"), "").unwrap();
        let overlay =
            Filesystem::new("overlay").option("lowerdir+", &one).option("lowerdir+", &two);
        let overlay = match overlay.mount() {
            Ok(made) => made.attach(&at).unwrap(),
            // Linux 6.5.
            Err(error) => return crate::common::skip("layers", "overlay", &error.to_string()),
        };
        assert!(at.join("one").exists() && at.join("two").exists());
        let table = MountTable::of_caller().unwrap();
        let layers: Vec<_> = table
            .at(overlay.path())
            .unwrap()
            .super_options()
            .filter(|(key, _)| *key == "lowerdir+")
            .filter_map(|(_, value)| value)
            .collect();
        assert_eq!(layers, [one.as_os_str(), two.as_os_str()]);
    });
}

#[test]
fn root_a_mount_can_be_handed_on() {
    private("handed", |dir| {
        let [at] = dirs(dir, ["at"]);
        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap().with(Attributes::NOEXEC).unwrap();
        let fd = OwnedFd::from(tmpfs);
        // Looked into before it is attached.
        let inside = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        fs::write(format!("{inside}/f"), "made before").unwrap();
        let copy = Detached::bind_fd(&fd, false);
        // A detached mount can be copied since Linux 6.15.
        if let Ok(copy) = copy {
            let _copy = copy.attach(&at).unwrap();
            assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "made before");
            let table = MountTable::of_caller().unwrap();
            assert_eq!(table.at(&at).unwrap().attributes(), Attributes::NOEXEC);
        }
    });
}
