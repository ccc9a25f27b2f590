//! What an ordinary user's tests find.

use std::process::{Command, Stdio};
use testkit::{TempDir, need, payload, rootfs};

fn run(args: &[&str]) -> Vec<String> {
    let mut command = Command::new(payload());
    let output = command.args(args).stdin(Stdio::null()).output().expect("it starts");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn unpriv_no_power_is_left() {
    need!(unprivileged);
    let report = run(&["report"]);
    assert!(report.contains(&"CapEff=0000000000000000".to_owned()), "{report:#?}");
    assert!(report.contains(&"CapPrm=0000000000000000".to_owned()), "{report:#?}");
    assert!(report.contains(&"dumpable=1".to_owned()), "{report:#?}");
    assert!(!report.contains(&"uid=0".to_owned()), "{report:#?}");
    assert_eq!(run(&["read", "/proc/1/environ"]), ["error 13 EACCES"]);
}

#[test]
fn unpriv_directories_and_roots_can_be_made() {
    need!(unprivileged);
    let root = rootfs();
    let status = Command::new(root.join("bin/true")).status().expect("it starts");
    assert_eq!(status.code(), Some(0));
    let path = TempDir::new().path().to_owned();
    assert!(!path.exists());
}

#[test]
fn unpriv_a_user_namespace() {
    need!(unprivileged, userns);
    // CLONE_NEWUSER | CLONE_NEWUTS
    let said = run(&["seq", "unshare", "0x14000000", ",", "sethostname", "inside", ",", "caps"]);
    assert_eq!(said[..2], ["ok", "ok"], "{said:?}");
    assert!(!said.contains(&"CapEff=0000000000000000".to_owned()), "{said:?}");
}
