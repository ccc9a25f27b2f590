//! What an ordinary user can mount, in a user and a mount namespace of its own.

use ireko_mounts::{Attributes, Detached, ErrorKind, Filesystem, MountTable, Size};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn skip(why: &str) {
    let required = std::env::var("IREKO_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == "userns"), "userns is required to run: {why}");
    println!("SKIP unpriv_mounts: {why}");
}

/// Runs the test below in such namespaces: they can be entered by a process alone.
#[test]
fn unpriv_mounts() {
    let unshare = |program: &std::path::Path| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--"]).arg(program);
        if nix::unistd::geteuid().is_root() {
            command.uid(1234).gid(1234);
        }
        command
    };
    let program = std::env::current_exe().unwrap();
    match unshare(&program).arg("--list").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip(String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return skip(&format!("unshare: {error}")),
    }
    let output =
        unshare(&program).args(["--ignored", "--exact", "in_a_user_namespace"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "runs in the namespaces that unpriv_mounts makes"]
fn in_a_user_namespace() {
    let temp = std::env::temp_dir().canonicalize().unwrap();
    let place = Detached::tmpfs(Size::mib(1)).unwrap().attach(&temp).unwrap();
    let at = temp.join("at");
    std::fs::create_dir(&at).unwrap();

    // The mounts below it were made outside: they may not be uncovered.
    let error = Detached::bind("/").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.remedy().unwrap().contains("recursively"), "{error}");

    let all = Attributes::RDONLY | Attributes::NOSUID;
    let copy = Detached::bind_recursive("/").unwrap().with(all).unwrap().attach(&at).unwrap();
    let table = MountTable::of_caller().unwrap();
    assert!(table.below(&at).count() > 1);
    assert!(table.below(&at).all(|entry| entry.attributes().contains(all)), "{table:?}");
    copy.unmount().unwrap();
    assert_eq!(MountTable::of_caller().unwrap().below(&at).count(), 0);

    // Id maps are for who rules the filesystem, a new proc for who rules the processes.
    let own = std::fs::File::open("/proc/self/ns/user").unwrap();
    let error = Detached::bind_recursive("/usr").unwrap().idmapped(own).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let error = Filesystem::new("proc").mount().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.remedy().is_some());
    place.unmount().unwrap();
}
