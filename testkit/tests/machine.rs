//! Directories, snapshots and needs.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::panic::catch_unwind;
use std::process::{Command, Stdio};
use std::ptr::null;
use std::time::Duration;
use testkit::{Caller, Census, TempDir, alone, need, payload, rootfs, within};

/// Kinds in which other tests and other programs show.
const SHARED: [&str; 3] = ["thread", "namespace", "process"];

#[test]
fn a_directory_is_private_and_goes() {
    let _alone = alone();
    let dir = TempDir::new();
    assert_eq!(dir.path().metadata().expect("made").mode() & 0o7777, 0o700);
    assert_eq!(TempDir::public().path().parent(), dir.path().parent());
    fs::create_dir_all(dir.join("a/b/c")).expect("directories");
    fs::write(dir.join("a/b/file"), "x").expect("a file");
    fs::set_permissions(dir.join("a/b"), Permissions::from_mode(0o000)).expect("a mode");
    let path = dir.path().to_owned();
    dir.close().expect("all can be removed");
    assert!(!path.exists());
}

#[test]
fn removal_follows_no_link() {
    let _alone = alone();
    let (kept, removed) = (TempDir::new(), TempDir::new());
    fs::write(kept.join("file"), "x").expect("a file");
    symlink(kept.path(), removed.join("link")).expect("a link");
    removed.close().expect("all can be removed");
    assert!(kept.join("file").exists());
}

#[test]
fn root_removal_enters_no_mount() {
    need!(root);
    let _alone = alone();
    let (kept, removed) = (TempDir::new(), TempDir::new());
    fs::write(kept.join("file"), "x").expect("a file");
    fs::create_dir(removed.join("on")).expect("a directory");
    File::create(removed.join("over")).expect("a file");
    let bind = |from: &std::path::Path, to: &std::path::Path| {
        let c = |path: &std::path::Path| CString::new(path.as_os_str().as_bytes()).expect("a path");
        let (from, to) = (c(from), c(to));
        // SAFETY: strings that end in zero.
        unsafe { libc::mount(from.as_ptr(), to.as_ptr(), null(), libc::MS_BIND, null()) }
    };
    assert_eq!(bind(kept.path(), &removed.join("on")), 0);
    assert_eq!(bind(&kept.join("file"), &removed.join("over")), 0);
    let path = removed.path().to_owned();
    removed.close().expect("all can be removed");
    assert!(!path.exists());
    assert!(kept.join("file").exists());
    let table = fs::read_to_string("/proc/self/mountinfo").expect("a table");
    assert!(!table.contains(path.to_str().expect("text")), "{table}");
}

#[test]
fn a_root_directory_runs_the_payload() {
    let _alone = alone();
    let root = rootfs();
    for (name, status) in [("bin/true", 0), ("bin/false", 1), ("bin/payload", 64)] {
        let mut program = Command::new(root.join(name));
        let status_of = program.stderr(Stdio::null()).status().expect("it starts");
        assert_eq!(status_of.code(), Some(status), "{name}");
    }
    assert_eq!(root.join("/tmp").metadata().expect("made").mode() & 0o7777, 0o1777);
    assert_eq!(root.join("/etc/passwd"), root.path().join("etc/passwd"));
}

#[test]
fn a_census_sees_what_is_left_and_what_has_gone() {
    let _alone = alone();
    let before = Census::take();
    let ours = before.clone().without(&SHARED);
    let file = File::open("/etc/passwd").expect("a file");
    let dir = TempDir::new();
    let mut child = Command::new(payload()).arg("pause").spawn().expect("it starts");
    let added = Census::diff(&before, &Census::take());
    let has = |start: &str, end: &str| {
        added.iter().any(|line| line.starts_with(start) && line.ends_with(end))
    };
    assert!(has("fd: ", " /etc/passwd"), "{added:#?}");
    assert!(has("file: ", dir.path().to_str().expect("text")), "{added:#?}");
    assert!(has(&format!("child: {} ", child.id()), ""), "{added:#?}");
    assert!(has(&format!("process: {} payload ", child.id()), ""), "{added:#?}");
    child.kill().expect("a signal");
    std::thread::sleep(Duration::from_millis(50));
    let added = Census::diff(&before, &Census::take());
    assert!(added.contains(&format!("zombie: {} payload", child.id())), "{added:#?}");
    child.wait().expect("a status");
    drop((file, dir));
    let left = Census::diff(&ours, &Census::settled(&ours, Duration::from_secs(5)));
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_caller_that_changed() {
    let _alone = alone();
    let before = Caller::take();
    let file = File::open("/etc/passwd").expect("a file");
    // SAFETY: the umask is put back below.
    let mask = unsafe { libc::umask(0o123) };
    let during = Caller::take();
    // SAFETY: takes a number.
    unsafe { libc::umask(mask) };
    drop(file);
    let fds: usize = before.get("fds").and_then(|n| n.parse().ok()).expect("a number");
    assert_eq!(
        Caller::diff(&before, &during),
        [format!("Umask: {mask:04o} → 0123"), format!("fds: {fds} → {}", fds + 1),]
    );
    assert_eq!(Caller::diff(&before, &Caller::take()), Vec::<String>::new());
    let all = Caller::take_with_thread();
    assert_eq!(all.get("thread.Uid"), before.get("Uid"));
    assert!(before.get("limit.Max open files").is_some_and(|limit| limit.ends_with("files")));
}

#[test]
fn a_time_limit() {
    let _alone = alone();
    assert_eq!(within(Duration::from_secs(60), || 7), 7);
    let stuck = || within(Duration::from_millis(50), || std::thread::sleep(Duration::from_secs(9)));
    let panic = catch_unwind(stuck).expect_err("it takes too long");
    let said = panic.downcast_ref::<String>().expect("a message");
    assert!(said.starts_with("stuck for 50ms\nthread "), "{said}");
    let failed = catch_unwind(|| within(Duration::from_secs(60), || panic!("as it was")));
    let said = failed.expect_err("it panics").downcast_ref::<&str>().copied();
    assert_eq!(said, Some("as it was"));
}

/// Runs one test of this binary in a process of its own, where it skips itself.
fn skipping(test: &str, require: &str) -> (bool, String) {
    let dir = TempDir::new();
    let output = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", test])
        .env("IREKO_TEST_INNER", "1")
        .env("IREKO_SKIPS", dir.join("skips"))
        .env("IREKO_REQUIRE", require)
        .output()
        .expect("it starts");
    let skips = fs::read_to_string(dir.join("skips")).unwrap_or_default();
    (output.status.success(), skips)
}

#[test]
fn a_skip_is_told_and_may_be_forbidden() -> Result<(), String> {
    if std::env::var_os("IREKO_TEST_INNER").is_some() {
        need!(root);
        need!(unprivileged);
        return Err("one cannot be both".to_owned());
    }
    let _alone = alone();
    let name = "a_skip_is_told_and_may_be_forbidden";
    let (passed, skips) = skipping(name, "kvm,bwrap");
    assert!(passed && skips.starts_with(&format!("machine::{name}\t")), "{skips:?}");
    assert_eq!(skips.lines().count(), 1);
    let (passed, skips) = skipping(name, "kvm, root,unprivileged");
    assert!(!passed && skips.is_empty(), "{skips:?}");
    Ok(())
}

#[test]
fn needs_are_found_out_without_traces() {
    use testkit::Need;
    let _alone = alone();
    let before = Census::take().without(&SHARED);
    let all = [
        Need::userns(),
        Need::cgroup(),
        Need::overlay(),
        Need::newuidmap(),
        Need::kvm(),
        Need::landlock(),
        Need::memfd_noexec(),
        Need::bwrap(),
    ];
    let after = Census::settled(&before, Duration::from_secs(5));
    assert_eq!(Census::diff(&before, &after), Vec::<String>::new(), "{all:?}");
    println!("{all:#?}");
}

#[test]
fn the_floor_can_be_built_and_is_built_once() -> Result<(), String> {
    need!(gcc);
    let _alone = alone();
    let built = testkit::floor()?;
    let status = Command::new(&built.r#true).status().expect("it starts");
    assert_eq!(status.code(), Some(0));
    let made = |path: &std::path::Path| path.metadata().and_then(|of| of.modified()).ok();
    let first = made(&built.floor);
    assert_eq!(made(&testkit::floor()?.floor), first);
    Ok(())
}
