//! The examples, run as anybody would run them.

use std::process::{Command, Output, Stdio};
use testkit::{Need, example, need};

fn run(name: &str, args: &[&str]) -> (Output, String) {
    let mut command = Command::new(example(name));
    let output = command.args(args).stdin(Stdio::null()).output().expect("the example starts");
    let stdout = String::from_utf8(output.stdout.clone()).expect("text");
    (output, stdout)
}

/// The words of the line that begins with these.
fn line<'t>(text: &'t str, begins: &str) -> Vec<&'t str> {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| line.starts_with(begins));
    let line = line.unwrap_or_else(|| panic!("no line begins with {begins:?} in\n{text}"));
    line[begins.len()..].split_whitespace().collect()
}

/// What does not depend on limits.
fn ran(output: &Output, stdout: &str) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"", "{output:?}");
    // The shell's own number is that of the first process.
    assert!(stdout.contains("which printed\n    hi\n    1\nexit status: 0; "), "{stdout}");
    for kind in ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"] {
        assert_eq!(line(stdout, &format!("namespaces {kind} ")), ["required", "full"]);
    }
    for feature in ["no new privileges", "capabilities", "system call filter", "masked paths"] {
        assert_eq!(line(stdout, feature), ["required", "full"]);
    }
}

#[test]
fn root_quickstart() {
    need!(root, cgroup);
    let (output, stdout) = run("quickstart", &[]);
    ran(&output, &stdout);
    assert_eq!(line(&stdout, "memory limit"), ["required", "full", "64", "MiB"]);
    assert_eq!(line(&stdout, "pids limit"), ["preferred", "full", "1024"]);
    assert!(stdout.contains(" KiB of memory"), "{stdout}");
    assert!(!stdout.contains("without"), "{stdout}");
}

#[test]
fn unpriv_quickstart() {
    need!(unprivileged, userns);
    let (output, stdout) = run("quickstart", &[]);
    as_a_user(&output, &stdout);
}

/// Root of a user namespace, as in a rootless container of another engine: its ids are few.
#[test]
fn unpriv_quickstart_as_root_of_a_user_namespace() {
    need!(unprivileged, userns);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--"]).arg(example("quickstart"));
    let output = command.stdin(Stdio::null()).output().expect("unshare(1)");
    as_a_user(&output, &String::from_utf8(output.stdout.clone()).expect("text"));
}

fn as_a_user(output: &Output, stdout: &str) {
    ran(output, stdout);
    if Need::cgroup().missing().is_none() {
        assert_eq!(line(stdout, "memory limit"), ["required", "full", "64", "MiB"]);
        return;
    }
    // Reason, remedy, and that it went on, in this order.
    let order = ["no memory limit: ", "to have it: ", "going on without it", "ran /bin/sh"];
    let found: Vec<_> = order.iter().map(|text| stdout.find(text).expect(text)).collect();
    assert!(found.is_sorted(), "{found:?} in\n{stdout}");
    assert!(!line(stdout, "to have it: ").is_empty());
    assert_eq!(line(stdout, "memory limit  ")[..2], ["preferred", "absent"]);
    assert!(stdout.ends_with("\nit ran without a memory limit\n"), "{stdout}");
}

fn explained() {
    let (output, stdout) = run("explain", &["/bin/echo", "a b"]);
    assert!(output.status.success(), "{output:?}");
    let numbers: Vec<usize> = stdout
        .lines()
        .map(|line| line.split_whitespace().next().expect("a number").parse().expect("a number"))
        .collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len()), "{stdout}");
    assert!(numbers.len() > 80, "{stdout}");
    let mut lines = stdout.lines().map(|line| line.split_once(' ').map_or("", |(_, l)| l.trim()));
    let last = stdout.lines().last().expect("a line");
    assert!(last.ends_with(r#" exec     execute /bin/echo "a b""#), "{last}");
    assert!(lines.any(|line| line.contains("set the host name to inside")), "{stdout}");
}

#[test]
fn root_explain() {
    need!(root, cgroup);
    explained();
    let (_, stdout) = run("explain", &[]);
    let memory = |line: &str| line.ends_with(" = 67108864") && line.contains("cgroup   memory.");
    assert!(stdout.lines().any(memory), "{stdout}");
    assert!(stdout.contains("map ids 0 to 65535 to a range of our own"), "{stdout}");
}

#[test]
fn unpriv_explain() {
    need!(unprivileged, userns);
    explained();
    let (_, stdout) = run("explain", &[]);
    // SAFETY: geteuid takes nothing and cannot fail.
    let uid = unsafe { libc::geteuid() };
    assert!(stdout.contains(&format!("map user ids: 0 is {uid} outside, 1 of them")), "{stdout}");
}

fn unshared() {
    let script = "echo $$; id -u; cd /proc; echo [0-9]*; echo left; exit 7";
    let (output, stdout) = run("unshare", &["-c", script]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    // Its own number, root, the only process to be seen.
    assert_eq!(stdout, "1\n0\n1\nleft\n");
}

#[test]
fn root_unshare() {
    need!(root, userns);
    unshared();
}

#[test]
fn unpriv_unshare() {
    need!(unprivileged, userns);
    unshared();
}
