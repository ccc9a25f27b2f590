//! What a shared namespace costs of the tree.

use crate::kit::{host, in_root, lines, open_for_writing, refused, said, value};
use ireko::namespaces::Namespaces;
use ireko::{Container, ErrorKind, Mount, Rootfs, Stage};
use std::fs;
use testkit::{need, payload, rootfs};

/// The host's /sys, read-only all the way down, and masked.
fn net() {
    let builder = host().share(Namespaces::NET);
    let verbs = ["interfaces", "mounts", "list /sys/firmware", "list /sys/fs/cgroup", "report"];
    let [interfaces, mounts, firmware, groups, report] = said(&builder, verbs);
    let mut here: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    here.sort();
    let there: Vec<_> =
        interfaces.lines().map(|line| line.strip_prefix("interface=").unwrap()).collect();
    assert_eq!(there, here);
    assert_eq!(value(&report, "ns.net"), Some(own("net").as_str()));
    assert_eq!(firmware, "");
    let sys: Vec<_> = lines(&mounts);
    let sys: Vec<_> = sys.iter().filter(|line| line.point.starts_with("/sys")).collect();
    for line in &sys {
        assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|word| line.has(word)), "{line:?}");
    }
    assert_eq!(sys.iter().filter(|line| line.point == "/sys").count(), 1);
    // As many below as there are here.
    assert_eq!(groups.is_empty(), fs::read_dir("/sys/fs/cgroup").unwrap().next().is_none());
}

fn own(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn root_m7_r16_shared_net_shows_the_hosts_sysfs_read_only() {
    need!(root);
    net();
    // Also to the host's own root, on what it could write here.
    let mut verbs = vec![open_for_writing("/sys/kernel/profiling")];
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in table.lines().filter(|line| line.contains(" - cgroup")) {
        let point = line.split(' ').nth(4).unwrap();
        for file in ["cgroup.procs", "release_agent", "notify_on_release"] {
            let path = format!("{point}/{file}");
            if fs::exists(&path).unwrap() {
                verbs.push(open_for_writing(&path));
            }
        }
    }
    let words: Vec<&str> = verbs.iter().map(String::as_str).collect();
    let builder = host().share(Namespaces::NET | Namespaces::USER);
    let output = builder.args(crate::kit::words(&words)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("errno=EROFS(30)\n").count(), verbs.len(), "{text}");
}

#[test]
fn unpriv_m7_r16_shared_net_shows_the_hosts_sysfs_read_only() {
    need!(unprivileged, userns);
    net();
}

/// The host's /proc, masked.
fn pid() {
    let builder = host().share(Namespaces::PID);
    let plan = builder.clone().arg("pause").plan().unwrap();
    let verbs = [
        "report",
        "read /proc/keys",
        "read /proc/timer_list",
        "list /proc/acpi",
        "mounts",
        &open_for_writing("/proc/sysrq-trigger"),
        &open_for_writing("/proc/sys/kernel/core_pattern"),
        &format!("list /proc/{}/task", std::process::id()),
    ];
    let [report, keys, timers, acpi, mounts, sysrq, pattern, task] = said(&builder, verbs);
    assert_eq!(value(&report, "ns.pid"), Some(own("pid").as_str()));
    // Its number is the one it has here.
    let container = plan.spawn().unwrap();
    assert!(fs::exists(format!("/proc/{}", container.pid())).unwrap());
    container.kill().unwrap();
    container.wait().unwrap();
    assert!(value(&report, "pid").unwrap().parse::<u32>().unwrap() > 1);
    assert!(task.contains("entry="), "it sees the host's processes: {task}");
    assert_eq!([keys, timers], ["ok 0 bytes"; 2]);
    assert!(acpi.is_empty() || acpi == "error 2 ENOENT", "{acpi}");
    let trigger = fs::exists("/proc/sysrq-trigger").unwrap();
    for (open, there) in [(sysrq, trigger), (pattern, true)] {
        let denied = ["errno=EROFS(30)", "errno=EACCES(13)"].contains(&open.as_str());
        assert!(denied || !there, "{open}");
    }
    let proc: Vec<_> = lines(&mounts);
    let read_only = |point: &str| proc.iter().any(|line| line.point == point && line.has("ro"));
    assert!(read_only("/proc/sys") && (read_only("/proc/sysrq-trigger") || !trigger), "{mounts}");
}

#[test]
fn root_shared_pid_shows_the_hosts_proc_masked() {
    need!(root);
    pid();
}

#[test]
fn unpriv_shared_pid_shows_the_hosts_proc_masked() {
    need!(unprivileged, userns);
    pid();
}

fn others() {
    // ipc: no queues of its own.
    let verbs = ["mounts", "list /dev/mqueue", "report", "mq /ireko-test"];
    let [mounts, list, report, queue] = said(&host().share(Namespaces::IPC), verbs);
    assert!(!lines(&mounts).iter().any(|line| line.kind == "mqueue"), "{mounts}");
    assert_eq!(list, "");
    assert_eq!(value(&report, "ns.ipc"), Some(own("ipc").as_str()));
    if queue == "ok" {
        let _ = said(&host().share(Namespaces::IPC), ["mq-remove /ireko-test"]);
    }
    let [mounts] = said(&host(), ["mounts"]);
    let queues = lines(&mounts);
    assert!(queues.iter().any(|line| line.kind == "mqueue" && line.point == "/dev/mqueue"));
    // cgroup: no cgroup file system that could be written to.
    let verbs = ["mounts", "list /sys/fs/cgroup", "report"];
    let [mounts, _, report] = said(&host().share(Namespaces::CGROUP), verbs);
    for line in lines(&mounts).iter().filter(|line| line.kind.starts_with("cgroup")) {
        assert!(line.has("ro"), "{line:?}");
    }
    assert_eq!(value(&report, "ns.cgroup"), Some(own("cgroup").as_str()));
    // uts: a host name is somebody else's.
    let shared = host().share(Namespaces::UTS);
    for named in [shared.clone().hostname("x"), shared.clone().domainname("x")] {
        let error = named.plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config));
        assert!(error.remedy().unwrap().contains(".uts_ns()"), "{error}");
    }
    assert_eq!(value(&said(&shared, ["report"])[0], "ns.uts"), Some(own("uts").as_str()));
    // mount: nothing may be mounted.
    let root = rootfs();
    let shared = || Container::builder().share(Namespaces::MOUNT).command(payload());
    for asked in [
        shared().rootfs(root.path()),
        shared().rootfs(Rootfs::host()),
        shared().mount(Mount::tmpfs("/mnt/x")),
        shared().expose("/usr"),
    ] {
        let error = refused(&asked);
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config));
        assert!(error.remedy().unwrap().contains("share(Namespaces::MOUNT)"), "{error}");
    }
    let [report] = said(&shared(), ["report"]);
    assert_eq!(value(&report, "ns.mnt"), Some(own("mnt").as_str()));
    // A root of its own does not need the others.
    let builder = in_root(root.path()).share(Namespaces::UTS | Namespaces::IPC);
    assert_eq!(said(&builder, ["echo hi"]), ["hi"]);
}

#[test]
fn root_shared_ipc_cgroup_uts_and_mount() {
    need!(root);
    others();
}

#[test]
fn unpriv_shared_ipc_cgroup_uts_and_mount() {
    need!(unprivileged, userns);
    others();
}
