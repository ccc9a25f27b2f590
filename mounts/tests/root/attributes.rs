//! Attributes and id maps, by what a process can then not do.

use crate::common::{dirs, private, scratch};
use ireko_mounts::{Attributes, Detached, ErrorKind, Filesystem, MountTable, Size};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// A program on a tmpfs that has no attributes.
fn program(dir: &Path) -> PathBuf {
    let [place] = dirs(dir, ["bin"]);
    let program = place.join("id");
    fs::copy("/usr/bin/id", &program).unwrap();
    program
}

#[test]
fn root_read_only_is_so_all_the_way_down() {
    private("rdonly", |dir| {
        let [source, at] = dirs(dir, ["source", "at"]);
        let [sub] = dirs(&source, ["sub"]);
        let _one = Detached::tmpfs(Size::mib(1)).unwrap().attach(&sub).unwrap();
        let [subsub] = dirs(&sub, ["sub"]);
        let _two = Detached::tmpfs(Size::mib(1)).unwrap().attach(&subsub).unwrap();
        let copy = Detached::bind_recursive(&source).unwrap().with(Attributes::RDONLY).unwrap();
        let _copy = copy.attach(&at).unwrap();
        for place in ["", "sub", "sub/sub"] {
            let inside = at.join(place).join("f");
            assert_eq!(errno(fs::write(&inside, "")), Some(libc::EROFS), "{place}");
            fs::write(source.join(place).join("f"), "the source can be written").unwrap();
        }
        let table = MountTable::of_caller().unwrap();
        let below: Vec<_> = table.below(&at).map(|e| e.attributes()).collect();
        assert_eq!(below, [Attributes::RDONLY; 2]);
    });
}

#[test]
fn root_nosuid_means_no_set_user_id() {
    private("nosuid", |dir| {
        let program = program(dir);
        fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
        let [at] = dirs(dir, ["at"]);
        for (attributes, euid) in [(Attributes::empty(), "0\n"), (Attributes::NOSUID, "1234\n")] {
            let copy = Detached::bind(dir.join("bin")).unwrap().with(attributes).unwrap();
            let _copy = copy.attach(&at).unwrap();
            // In a process of its own: it changes its ids. /proc tells us nothing here.
            let output = Command::new(at.join("id")).arg("-u").uid(1234).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), euid);
        }
    });
}

#[test]
fn root_nodev_means_no_devices() {
    private("nodev", |dir| {
        let [source, at] = dirs(dir, ["source", "at"]);
        let node = source.join("null");
        mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
        for (attributes, answer) in
            [(Attributes::empty(), None), (Attributes::NODEV, Some(libc::EACCES))]
        {
            let copy = Detached::bind(&source).unwrap().with(attributes).unwrap();
            let _copy = copy.attach(&at).unwrap();
            assert_eq!(errno(File::open(at.join("null"))), answer);
        }
    });
}

#[test]
fn root_noexec_means_no_programs() {
    private("noexec", |dir| {
        program(dir);
        let [at] = dirs(dir, ["at"]);
        for (attributes, answer) in
            [(Attributes::empty(), None), (Attributes::NOEXEC, Some(libc::EACCES))]
        {
            let copy = Detached::bind(dir.join("bin")).unwrap().with(attributes).unwrap();
            let _copy = copy.attach(&at).unwrap();
            assert_eq!(errno(Command::new(at.join("id")).output()), answer);
        }
    });
}

#[test]
fn root_nosymfollow_means_no_symlinks() {
    private("nosymfollow", |dir| {
        let [at] = dirs(dir, ["at"]);
        let tmpfs = Filesystem::new("tmpfs").attributes(Attributes::NOSYMFOLLOW).mount().unwrap();
        let _tmpfs = tmpfs.attach(&at).unwrap();
        symlink(dir, at.join("link")).unwrap();
        assert_eq!(errno(File::open(at.join("link"))), Some(libc::ELOOP));
    });
}

#[test]
fn root_attributes_from_the_start_are_the_same() {
    private("start", |dir| {
        let [at] = dirs(dir, ["at"]);
        let all = Attributes::all();
        let _tmpfs = Filesystem::new("tmpfs").attributes(all).mount().unwrap().attach(&at).unwrap();
        assert_eq!(MountTable::of_caller().unwrap().at(&at).unwrap().attributes(), all);
    });
}

/// A user namespace in which 0.. are 100,000.. outside, made by a process that ends at once.
fn user_namespace() -> File {
    let mut command = Command::new("sleep");
    command.arg("60").stdin(Stdio::null());
    // SAFETY: unshare(2) alone is called between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::unshare(libc::CLONE_NEWUSER) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    let mut child = command.spawn().unwrap();
    let proc = format!("/proc/{}", child.id());
    fs::write(format!("{proc}/uid_map"), "0 100000 65536").unwrap();
    fs::write(format!("{proc}/gid_map"), "0 100000 65536").unwrap();
    let namespace = File::open(format!("{proc}/ns/user")).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    namespace
}

fn shows_mapped_owners(source: &Path, at: &Path) {
    for (name, id) in [("root", 0), ("user", 1000), ("beyond", 70_000)] {
        fs::write(source.join(name), "").unwrap();
        chown(source.join(name), Some(id), Some(id)).unwrap();
    }
    let copy = match Detached::bind_recursive(source).unwrap().idmapped(user_namespace()) {
        Ok(copy) => copy,
        Err(error) => return crate::common::skip("idmapped", "idmap", &error.to_string()),
    };
    let copy = copy.attach(at).unwrap();
    for (name, id) in [("root", 100_000), ("user", 101_000), ("beyond", 65_534)] {
        let seen = fs::metadata(at.join(name)).unwrap();
        assert_eq!((seen.uid(), seen.gid()), (id, id), "{name}");
    }
    assert!(MountTable::of_caller().unwrap().at(at).unwrap().is_idmapped());
    // Whoever is 101,000 here writes as 1,000 there.
    let touched = at.join("touched");
    fs::set_permissions(source, Permissions::from_mode(0o777)).unwrap();
    let status = Command::new("touch").arg(&touched).uid(101_000).gid(101_000).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::metadata(source.join("touched")).unwrap().uid(), 1000);
    // And root has no name there.
    assert_eq!(errno(fs::write(at.join("mine"), "")), Some(libc::EOVERFLOW));
    copy.unmount().unwrap();
}

#[test]
fn root_a_tmpfs_shows_mapped_owners() {
    private("idmap-tmpfs", |dir| {
        let [source, at] = dirs(dir, ["source", "at"]);
        shows_mapped_owners(&source, &at);
    });
}

#[test]
fn root_a_disk_shows_mapped_owners() {
    private("idmap-disk", |dir| {
        let [at] = dirs(dir, ["at"]);
        let disk = scratch("disk");
        fs::set_permissions(&disk, Permissions::from_mode(0o755)).unwrap();
        shows_mapped_owners(&disk, &at);
        fs::remove_dir_all(&disk).unwrap();
    });
}

#[test]
fn root_what_cannot_be_id_mapped_says_so() {
    private("idmap-refused", |dir| {
        let overlay =
            Filesystem::new("overlay").option("lowerdir", format!("{0}:{0}/..", dir.display()));
        let error = overlay.mount().unwrap().idmapped(user_namespace()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let words = "id-map overlay: a filesystem in it cannot show mapped owners (EINVAL)";
        assert_eq!(error.to_string(), words);

        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap();
        let error = tmpfs.idmapped(File::open("/proc/self/ns/mnt").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), "id-map tmpfs: the fd is no user namespace");

        let tmpfs = Detached::tmpfs(Size::mib(1)).unwrap();
        let error = tmpfs.idmapped(File::open("/proc/self/ns/user").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
    });
}
