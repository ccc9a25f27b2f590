//! Namespaces, by what is seen on both sides.

use crate::common::{Report, bare, confined, in_root, own_namespace, said, text};
use ireko::namespaces::{Namespaces, NetNs};
use ireko::{Builder, Container, Stdio};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;
use testkit::{alone, need, payload, rootfs};

/// What the payload prints on the host.
fn outside(words: &[&str]) -> String {
    let output = Command::new(payload()).args(words).output().unwrap();
    text(&output.stdout).trim_end().to_owned()
}

/// A container that prints, and then waits; and its lines up to one that begins so.
fn running(builder: Builder, last: &str) -> (Container, Vec<String>) {
    let container = builder.stdin(Stdio::Null).stdout(Stdio::Piped).spawn().unwrap();
    let mut lines: Vec<String> = Vec::new();
    for line in BufReader::new(container.take_stdout().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().starts_with(last) {
            return (container, lines);
        }
    }
    panic!("it ended: {:?}, {lines:?}", container.wait());
}

fn number(text: &str, key: &str) -> i128 {
    Report::parse(text).get(key).parse().unwrap()
}

#[test]
fn root_namespaces_by_effect() {
    need!(root, userns);
    let _alone = alone();
    names();
    system_v_and_posix_queues();
    processes();
    mounts();
    cgroups();
    network();
    ids();
    clocks();
}

fn names() {
    let host = || {
        let report = Report::parse(&outside(&["report"]));
        [report.get("hostname"), report.get("domainname")].map(str::to_owned)
    };
    let before = host();
    let words = ["seq", "report", ",", "pause"];
    let builder = confined(words).hostname("the-inside").domainname("the.domain");
    let (container, lines) = running(builder, "env.PATH");
    let report = Report::parse(&lines.join("\n"));
    assert_eq!([report.get("hostname"), report.get("domainname")], ["the-inside", "the.domain"]);
    assert_eq!(host(), before);
    drop(container);
    // By default it is its id's start, never the host's.
    let (container, lines) = running(confined(["seq", "report", ",", "pause"]), "env.PATH");
    let report = Report::parse(&lines.join("\n"));
    assert!(container.id().as_str().starts_with(report.get("hostname")), "{report:?}");
    drop(container);
    // Shared, it is the host's.
    let shared = Report::of(&confined(["report"]).share(Namespaces::UTS));
    assert_eq!(shared.get("hostname"), before[0]);
}

fn system_v_and_posix_queues() {
    const KEY: &str = "0x6972656b";
    const OTHER: &str = "0x6972656c";
    let queue = format!("/ireko-test-{}", std::process::id());
    outside(&["ipc-remove", KEY]);
    assert_eq!(outside(&["ipc-put", KEY]), "shm=ok\nsem=ok");
    assert_eq!(outside(&["mq", &queue]), "ok");
    let looks = ["seq", "ipc-get", KEY, ",", "mq-get", &queue];
    let none = "shm=ENOENT\nsem=ENOENT\nerror 2 ENOENT";
    let inside = said(&confined(looks));
    let shared = said(&bare(looks));
    let makes = ["seq", "ipc-put", OTHER, ",", "mq", "/other", ",", "pause"];
    let (container, made) = running(confined(makes), "ok");
    let seen = outside(&["seq", "ipc-get", OTHER, ",", "mq-get", "/other"]);
    drop(container);
    outside(&["ipc-remove", KEY]);
    outside(&["mq-remove", &queue]);
    assert_eq!(inside, none);
    assert_eq!(made, ["shm=ok", "sem=ok", "ok"]);
    assert_eq!(seen, none);
    // It is the namespace: without one they are found.
    assert_eq!(shared, "shm=ok\nsem=ok\nok");
}

fn processes() {
    let own = std::process::id().to_string();
    let answer = said(&confined(["seq", "syscall", "62", &own, "0", ",", "list", "/proc"]));
    assert_eq!(answer.lines().next(), Some("errno=ESRCH(3)"));
    let numbers: Vec<&str> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("entry="))
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .collect();
    assert_eq!(numbers, ["1"]);
    // From outside it has a number of the host's, and 1 in its own.
    let container = confined(["pause"]).spawn().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:\t")).unwrap();
    assert_eq!(numbers, format!("{}\t1", container.pid()));
    // Shared, it sees the host's.
    let shared = said(&confined(["syscall", "62", &own, "0"]).share(Namespaces::PID));
    assert_eq!(shared, "errno=EPERM(1)");
}

fn mounts() {
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let words = ["seq", "mounts", ",", "echo", "done", ",", "pause"];
    let builder = confined(words).mount(ireko::Mount::tmpfs("/mnt/only-inside"));
    let (container, lines) = running(builder, "done");
    assert!(lines.iter().any(|line| line.contains(" /mnt/only-inside ")), "{lines:?}");
    let during = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(before, during);
    // Nothing crosses in either direction.
    let theirs = std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
    assert!(!theirs.contains(" shared:") && !theirs.contains(" master:"), "{theirs}");
    assert!(!theirs.lines().any(|line| before.contains(line)), "{theirs}");
}

fn cgroups() {
    let (container, lines) = running(confined(["seq", "report", ",", "pause"]), "env.PATH");
    let inside = Report::parse(&lines.join("\n"));
    let outside = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let name = format!("/ireko-{}", container.id());
    let ours: Vec<&str> = outside.lines().filter(|line| line.ends_with(&name)).collect();
    if !ours.is_empty() {
        assert!(inside.all("cgroup").iter().all(|line| !line.contains("ireko-")), "{inside:?}");
    }
    drop(container);
    let shared = Report::of(&confined(["report"]).share(Namespaces::CGROUP));
    assert_eq!(shared.get("ns.cgroup"), own_namespace("cgroup"));
    assert_ne!(inside.get("ns.cgroup"), own_namespace("cgroup"));
}

fn network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let words = ["seq", "interfaces", ",", "connect-tcp", &at];
    assert_eq!(said(&confined(words)), "interface=lo\nerror 111 ECONNREFUSED");
    assert_eq!(said(&confined(["connect-tcp", &at]).share(Namespaces::NET)), "ok");
    // Its own loopback works, and is not the host's.
    let (container, lines) = running(confined(["listen-tcp", "127.0.0.1:0"]), "ready");
    let port = lines[0].strip_prefix("ready ").unwrap();
    let answer = outside(&["connect-tcp", &format!("127.0.0.1:{port}")]);
    assert!(answer.starts_with("error"), "{answer}");
    // From inside it is up; only root may go there.
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        let net = NetNs::try_from(container.namespace(Namespaces::NET).unwrap()).unwrap();
        let at = format!("127.0.0.1:{port}");
        assert!(net.run(|| std::net::TcpStream::connect(at).is_ok()).unwrap());
        assert!(container.wait().unwrap().success());
    }
}

fn ids() {
    let root = rootfs();
    let words = ["seq", "report", ",", "pause"];
    let (container, lines) = running(in_root(&root, words).user((1000, 1000)), "env.PATH");
    let inside = Report::parse(&lines.join("\n"));
    assert_eq!([inside.get("uid"), inside.get("gid")], ["1000", "1000"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    for key in ["Uid:\t", "Gid:\t"] {
        let ids = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let id: u32 = ids.split('\t').next().unwrap().parse().unwrap();
        assert_eq!((id - 1000) % 65536, 0, "{ids}");
        assert!(id >= 1_879_048_192, "{ids}");
    }
}

fn clocks() {
    const DAY: i128 = 86_400_000_000_000;
    const SLACK: i128 = 5_000_000_000;
    let builder = confined(["clock"]).monotonic_offset(86_400).boottime_offset(2 * 86_400);
    let inside = said(&builder);
    let host = outside(&["clock"]);
    for (clock, offset) in [("monotonic", DAY), ("boottime", 2 * DAY), ("realtime", 0)] {
        let ahead = number(&inside, clock) - number(&host, clock);
        assert!((ahead - offset).abs() < SLACK, "{clock} is ahead by {ahead}");
    }
    let plain = said(&confined(["clock"]));
    assert!((number(&plain, "monotonic") - number(&host, "monotonic")).abs() < SLACK);
}

#[test]
fn unpriv_namespaces_by_effect() {
    need!(unprivileged, userns);
    let report = Report::of(&confined(["report"]).hostname("inside"));
    for kind in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        assert_ne!(report.get(&format!("ns.{kind}")), own_namespace(kind));
    }
    assert_eq!(
        [report.get("pid"), report.get("lo"), report.get("hostname")],
        ["1", "up", "inside"]
    );
    network();
    mounts();
    clocks();
}

/// No network but its own loopback, and none of the host's sockets without a file.
fn own_network_and_ipc() {
    let name = format!("ireko-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let at = format!("@{name}");
    assert_eq!(said(&confined(["connect", &at])), "error 111 ECONNREFUSED");
    // It is the namespace that keeps them apart.
    assert_eq!(outside(&["connect", &at]), "ok");
    assert_eq!(said(&confined(["connect", &at]).share(Namespaces::NET)), "ok");
    assert_eq!(said(&confined(["interfaces"])), "interface=lo");
    let far = said(&confined(["connect-tcp", "192.0.2.1:9"]));
    assert_eq!(far, "error 101 ENETUNREACH");
    let report = Report::of(&confined(["report"]));
    assert_ne!(report.get("ns.ipc"), own_namespace("ipc"));
    // Its queues are its own too.
    assert_eq!(said(&confined(["list", "/dev/mqueue"])), "");
}

#[test]
fn root_r15_network_and_ipc_are_its_own() {
    need!(root, userns);
    let _alone = alone();
    own_network_and_ipc();
}

#[test]
fn unpriv_r15_network_and_ipc_are_its_own() {
    need!(unprivileged, userns);
    own_network_and_ipc();
}

/// Limits cannot be lifted from inside: nothing of the cgroup file systems can be written,
/// not by root, not where `/sys` is the host's.
fn cgroupfs_is_not_writable(own_user: bool) {
    let files: Vec<String> = std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
        .collect();
    let shapes = [
        Namespaces::empty(),
        Namespaces::NET,
        Namespaces::NET | Namespaces::CGROUP,
        Namespaces::NET | Namespaces::USER,
    ];
    for shared in shapes {
        if own_user && shared.contains(Namespaces::USER) {
            continue;
        }
        let builder = |words: &[&str]| confined([]).args(words).share(shared);
        for place in &files {
            let group = format!("{place}/made-inside");
            let made = said(&builder(&["mkdir", &group]));
            assert!(made.starts_with("error"), "{shared}: mkdir {group}: {made}");
            for file in
                ["cgroup.procs", "release_agent", "notify_on_release", "cgroup.subtree_control"]
            {
                let file = format!("{place}/{file}");
                let answer = said(&builder(&["append", &file, "1"]));
                let refused = ["error 2 ENOENT", "error 30 EROFS", "error 13 EACCES"];
                assert!(refused.contains(&answer.as_str()), "{shared}: {file}: {answer}");
            }
        }
        let report = Report::of(&builder(&["report"]));
        for line in report.all("mount").into_iter().filter(|line| line.contains(" - cgroup")) {
            assert!(line.split(' ').nth(5).unwrap().split(',').any(|one| one == "ro"), "{line}");
        }
    }
    // Nor can another be mounted.
    for kind in ["cgroup", "cgroup2"] {
        let mount = said(&confined(["mount", "none", "/tmp", kind, "0"]));
        assert_eq!(mount, "error 1 EPERM");
    }
}

#[test]
fn root_r16_cgroupfs_is_not_writable() {
    need!(root, userns);
    cgroupfs_is_not_writable(false);
}

#[test]
fn unpriv_r16_cgroupfs_is_not_writable() {
    need!(unprivileged, userns);
    cgroupfs_is_not_writable(true);
}
