//! What an ordinary user can mount, in a user and a mount namespace of its own.

use ireko_mounts::{Attributes, Detached, ErrorKind, Filesystem, MountTable, Size};
use std::os::unix::process::CommandExt;
use std::process::Command;
use testkit::need;

/// Says that this process is in such namespaces: they can be entered by a process alone.
const INSIDE: &str = "IREKO_TEST_INSIDE";

#[test]
fn unpriv_mounts() {
    if std::env::var_os(INSIDE).is_some() {
        return in_a_user_namespace();
    }
    need!(userns);
    let unshare = |program: &std::path::Path| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--"]).arg(program);
        if nix::unistd::geteuid().is_root() {
            command.uid(1234).gid(1234);
        }
        command
    };
    let program = std::env::current_exe().unwrap();
    let output = unshare(&program)
        .args(["--exact", "unpriv_mounts", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

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
