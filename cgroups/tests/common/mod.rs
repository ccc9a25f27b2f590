//! What the tests share. A test that cannot run says `SKIP(reason)` and returns.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its own part")]

use ireko_cgroups::{Cgroup, Parent, Pidfd};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The place for groups, if this is root and there is one.
pub fn parent() -> Option<Parent> {
    match Parent::detect() {
        Ok(parent) => Some(parent),
        Err(error) => {
            let required = std::env::var("IREKO_REQUIRE").unwrap_or_default();
            let names = ["root", "cgroup"];
            assert!(!required.split(',').any(|r| names.contains(&r)), "{error}");
            println!("SKIP({error})");
            None
        }
    }
}

/// A name that no other test has.
pub fn name(what: &str) -> String {
    format!("test-{what}-{}", std::process::id())
}

/// A shell that is in the group before it does anything: it writes itself into each
/// hierarchy, as a child of a container would.
pub fn shell(group: &Cgroup, script: &str) -> Child {
    let procs = group.open_procs().unwrap();
    let mut fds: Vec<BorrowedFd<'_>> = group.join_fds().collect();
    if let Some(procs) = &procs {
        fds.push(std::os::fd::AsFd::as_fd(procs));
    }
    let paths: Vec<String> = fds
        .iter()
        .map(|fd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()))
        .collect();
    let joins: String = paths.iter().map(|path| format!("echo 0 > {path} && ")).collect();
    Command::new("sh")
        .args(["-c", &format!("{joins} {{ {script}\n}}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Moves a started program in.
pub fn add(group: &Cgroup, child: &Child) {
    group.add(&Pidfd::open(child.id()).unwrap()).unwrap();
}

/// A line of what a child says.
pub fn line(child: &mut Child) -> String {
    let mut line = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    let mut byte = [0u8];
    while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Lets a child that reads go on.
pub fn go(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
