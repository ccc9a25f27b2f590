//! What the tests share. A test that cannot run is counted as skipped.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its own part")]

use ireko_cgroups::{Cgroup, Parent, Pidfd};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
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
            testkit::skip!("{error}")
        }
    }
}

/// A name that no other test has.
pub fn name(what: &str) -> String {
    format!("test-{what}-{}", std::process::id())
}

/// A shell that is in the group before it does anything: between fork and exec it
/// writes itself into each hierarchy, as a child of a container would.
pub fn shell(group: &Cgroup, script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    inside(group, &mut command).spawn().unwrap()
}

/// The program starts in the group.
pub fn inside<'c>(group: &Cgroup, command: &'c mut Command) -> &'c mut Command {
    let mut fds: Vec<OwnedFd> =
        group.join_fds().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    fds.extend(group.open_procs().unwrap());
    let join = move || {
        for fd in &fds {
            // SAFETY: an open fd and one byte of static memory.
            if unsafe { libc::write(fd.as_raw_fd(), c"0".as_ptr().cast(), 1) } != 1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: what runs after the fork makes write calls and nothing else.
    unsafe { command.pre_exec(join) }
}

/// This test program again, running one test that is a part of another's.
pub fn again(test: &str, argument: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("IREKO_TEST_PART", argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// What [`again`] was given, in the program that it started.
pub fn part() -> Option<String> {
    std::env::var("IREKO_TEST_PART").ok()
}

/// The line that starts with this word, among what the test harness says.
pub fn said(child: &mut Child, word: &str) -> String {
    loop {
        let line = line(child);
        // The harness writes "test NAME ... " before what the test says.
        if let Some(at) = line.find(word) {
            return line[at + word.len()..].trim().to_owned();
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended: {line}");
    }
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
