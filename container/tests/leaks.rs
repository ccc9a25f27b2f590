//! What is left when containers have ended, and when the program that started them was
//! killed. A binary of its own, so that nothing runs beside what is counted.

#[path = "process/common.rs"]
mod common;

use common::{LONG, bare, confined, groups_with, pids, play, plays, random, soon, stat, text};
use ireko::namespaces::{IdMaps, Namespaces, NetNs, NsFd, Spawn};
use ireko::{Builder, Container, ErrorKind, Id, Mount, Rootfs, Size, Stdio};
use std::io::{Read, Write};
use std::process::{Child, Stdio as StdStdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::{Census, TempDir, alone, need, payload, rootfs, within};

/// Every process that comes from one of ours comes to us when its parent is gone: so what
/// is left of a killed program can be told from what others run.
fn adopt() {
    // SAFETY: a flag of this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Our children, and theirs, that are alive; those that have ended are waited for.
fn descendants() -> Vec<u32> {
    let own = std::process::id();
    let all: Vec<(u32, char, u32)> = pids()
        .into_iter()
        .filter_map(|pid| stat(pid).map(|(state, of)| (pid, state, of)))
        .collect();
    let mut found = vec![own];
    let mut at = 0;
    while at < found.len() {
        let of = found[at];
        found.extend(all.iter().filter(|(_, _, parent)| *parent == of).map(|(pid, ..)| *pid));
        at += 1;
    }
    found.remove(0);
    found.retain(|pid| {
        let state = all.iter().find(|(known, ..)| known == pid).map(|(_, state, _)| *state);
        if state == Some('Z') {
            // SAFETY: no place for a status is given; it waits for nobody who lives.
            unsafe { libc::waitpid(*pid as i32, std::ptr::null_mut(), libc::WNOHANG) };
        }
        state != Some('Z') && state != Some('X')
    });
    found
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A name with a mark that no other process's containers have.
fn marked(mark: &str) -> Id {
    format!("{mark}-{}", COUNT.fetch_add(1, Ordering::Relaxed)).parse().unwrap()
}

fn mark() -> String {
    format!("m{:x}x{:x}", std::process::id(), random() & 0xff_ffff)
}

// ------------------------------------------------------------------------------------------

/// Everything that a start can be, and ways in which it fails.
fn all_sorts(root: &testkit::Rootfs, net: &NsFd) -> Vec<(&'static str, Builder, bool)> {
    let inside = |words: &[&str]| {
        Container::builder().rootfs(root.path()).command("/bin/payload").args(words)
    };
    let foreign = IdMaps::range(0..70_000);
    vec![
        ("confined", confined(["echo", "x"]), true),
        ("limits", confined(["true"]).memory_limit(Size::mib(32)).pids_limit(20), true),
        ("a root", inside(&["true"]).user("user").mount(Mount::tmpfs("/mnt")), true),
        (
            "ephemeral",
            inside(&["write", "/etc/x"])
                .rootfs(Rootfs::directory(root.path()).ephemeral(Size::mib(1))),
            true,
        ),
        ("bare", bare(["true"]), true),
        ("bare, namespaces", bare(["true"]).unshare(Namespaces::all()), true),
        ("joined", confined(["true"]).share(Namespaces::USER).join(net), true),
        ("ipc", confined(["seq", "ipc-put", "77", ",", "mq", "/left"]), true),
        ("orphans", confined(["daemon", "60"]), true),
        ("timed out", confined(["pause"]).timeout(Duration::from_millis(10)), true),
        ("no program", confined([]).command("/not/there"), false),
        ("bare, no program", bare([]).command("/not/there").pids_limit(5), false),
        ("no directory", confined(["true"]).current_dir("/not/there").pids_limit(5), false),
        ("no mount point", inside(&["true"]).mount(Mount::tmpfs("/etc/passwd")), false),
        ("too long", confined([]).arg("x".repeat(200 << 10)), false),
        ("ids of nobody", confined(["true"]).id_maps(foreign), true),
        ("no plan", confined(["true"]).hostname(""), false),
    ]
}

#[test]
fn root_nothing_leaks_in_1000() {
    need!(root, cgroup, overlay);
    let _alone = alone();
    adopt();
    let root = rootfs();
    let net: NsFd = NetNs::create().unwrap().into();
    let mark = mark();
    let sorts = all_sorts(&root, &net);
    let run = |n: usize| {
        let (name, builder, starts) = &sorts[n % sorts.len()];
        let builder = builder.clone().id(marked(&mark));
        let builder = builder.stdin(Stdio::Null).stdout(Stdio::Piped).stderr(Stdio::Piped);
        match n / sorts.len() % 3 {
            // Waited for, looked at and killed, and dropped while it runs.
            0 => match builder.output() {
                Ok(_) => assert!(starts, "{name}"),
                Err(error) => assert!(!starts, "{name}: {error}"),
            },
            1 => {
                let Ok(container) = builder.spawn() else { return assert!(!starts, "{name}") };
                let _ = container.namespace(Namespaces::MOUNT);
                container.kill().unwrap();
                container.wait().unwrap();
            }
            _ => match builder.spawn() {
                Ok(container) => drop(container),
                Err(error) => assert!(!starts, "{name}: {error}"),
            },
        }
    };
    // What is kept for the next start stays: threads of ours, the helper, ranges of ids.
    let threads = |count: usize, spawns: usize| {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= spawns {
                            break;
                        }
                        run(n);
                    }
                });
            }
        });
    };
    threads(4, sorts.len() * 6);
    assert!(soon(Duration::from_secs(10), || descendants().is_empty()), "{:?}", descendants());
    // Of the machine's processes only ours are counted, of its groups those with our mark.
    let left_out = ["process", "namespace", "cgroup", "interface"];
    let before = Census::take().without(&left_out);
    let usage = resident();
    threads(4, 1000);
    let mut new = Vec::new();
    soon(Duration::from_secs(10), || {
        let after = Census::take().without(&left_out);
        assert_eq!(Census::diff(&after, &before), [""; 0]);
        // User namespaces are kept for a while, one for each range of ids that was used: which
        // ranges these are depends on who else runs containers, how many there are does not.
        let kept = |line: &String| line.starts_with("fd: ") && line.contains(" user:[");
        let namespaces = after.of("fd").iter().filter(|fd| fd.contains(" user:[")).count();
        new = Census::diff(&before, &after);
        new.retain(|line| !kept(line) || namespaces > 64);
        new.is_empty()
    });
    assert_eq!(new, [""; 0]);
    assert!(soon(Duration::from_secs(10), || descendants().is_empty()), "{:?}", descendants());
    assert_eq!(groups_with(&mark), [""; 0]);
    assert!(resident() < usage + (8 << 20), "{usage} → {}", resident());
    // Without a pid namespace orphans come to us, killed: theirs is the group.
    for _ in 0..20 {
        let builder = bare(["daemon", "60"]).pids_limit(20).id(marked(&mark));
        assert!(builder.output().unwrap().status.success());
    }
    assert_eq!(groups_with(&mark), [""; 0]);
    assert!(soon(Duration::from_secs(10), || descendants().is_empty()), "{:?}", descendants());
    // Their users' ranges are free again: the first one is taken once more.
    let got = text(&confined(["report"]).output().unwrap().stdout);
    let first = common::values(&got, "uid_map")[0].to_owned();
    let again = text(&confined(["report"]).output().unwrap().stdout);
    assert_eq!(common::values(&again, "uid_map")[0], first);
}

/// Bytes of memory of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// The kernel's own count of namespaces: a limit far below the number of starts, which no
/// start may find used up.
#[test]
fn root_w6_namespaces_are_given_back() {
    need!(root, userns);
    if plays("few") {
        for kind in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"] {
            std::fs::write(format!("/proc/sys/user/max_{kind}_namespaces"), "60").unwrap();
        }
        let maps = IdMaps::caller_as_root();
        let plan = confined(["true"]).id_maps(maps).stdin(Stdio::Null).plan().unwrap();
        let mut waited = 0;
        for n in 0..600 {
            // The kernel takes network namespaces down a little later, many at a time.
            let end = Instant::now() + Duration::from_secs(10);
            loop {
                match plan.status() {
                    Ok(status) => break assert!(status.success(), "{n}: {status}"),
                    Err(error) if error.kind() == ErrorKind::Exhausted && Instant::now() < end => {
                        waited += 1;
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    Err(error) => panic!("{n}: {error}"),
                }
            }
        }
        assert!(waited < 500, "{waited}");
        return;
    }
    let _alone = alone();
    let command = again!("few");
    let kinds = Namespaces::USER | Namespaces::PID | Namespaces::MOUNT;
    let mut spawn = Spawn::new(command.get_program()).namespaces(kinds).mount_proc();
    spawn = spawn.id_maps(IdMaps::caller_as_root()).args(command.get_args());
    for (key, value) in command.get_envs() {
        spawn = spawn.env(key, value.unwrap_or_default());
    }
    let output = within(LONG, move || spawn.output().unwrap());
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

// ------------------------------------------------------------------------------------------

/// The program that is killed: it starts containers without end, keeps some, and says when
/// the first of those that have a group runs.
fn victim() {
    let mark = std::env::var("MARK").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3usize {
            let mark = &mark;
            scope.spawn(move || {
                let mut kept = std::collections::VecDeque::new();
                for n in 0.. {
                    let builder = match (thread + n) % 7 {
                        0 => confined(["pause"]).memory_limit(Size::mib(32)).pids_limit(16),
                        1 => confined(["daemon", "100"]).memory_limit(Size::mib(32)).pids_limit(16),
                        2 => bare(["pause"]).unshare(Namespaces::all() - Namespaces::USER),
                        3 => bare(["pause"]),
                        // Its first process gains capabilities by exec.
                        4 => bare(["pause"]).id_maps(IdMaps::range(500_000..500_010)),
                        5 => confined(["pause"]).share(Namespaces::USER),
                        _ => confined(["pause"]).pids_limit(16).user((1000, 1000)),
                    };
                    let builder = builder.id(marked(mark)).stdout(Stdio::Null);
                    kept.push_back(builder.spawn().unwrap());
                    if kept.len() > 3 {
                        kept.pop_front();
                    }
                    if (thread, n) == (0, 0) {
                        std::io::stdout().write_all(b"started\n").unwrap();
                    }
                }
            });
        }
    });
}

/// Starts the program and waits until its first container runs.
fn begin(mut command: std::process::Command, mark: &str) -> Child {
    let mut child = command.env("MARK", mark).stdout(StdStdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    let mut byte = [0u8; 1];
    while !text(&said).contains("started\n") {
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{}", text(&said));
        said.push(byte[0]);
    }
    child
}

const ROUNDS: usize = 100;

#[test]
fn root_sigkill_of_the_caller_leaves_nothing() {
    need!(root, cgroup);
    if plays("victim") {
        return victim();
    }
    let _alone = alone();
    adopt();
    let mut last: Option<String> = None;
    let mut marks = Vec::new();
    let mut with_groups = 0;
    for round in 0..ROUNDS {
        let mark = mark();
        let mut child = begin(again!("victim"), &mark);
        // Its start has collected what the last one left.
        if let Some(last) = &last {
            assert_eq!(groups_with(last), [""; 0], "round {round}");
        }
        let pause = Duration::from_micros(random() % 25_000);
        std::thread::sleep(pause);
        child.kill().unwrap();
        child.wait().unwrap();
        let end = Instant::now() + Duration::from_millis(200);
        let mut left = descendants();
        while !left.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            left = descendants();
        }
        assert!(left.is_empty(), "round {round}, after {pause:?}: {:#?}", described(&left));
        with_groups += usize::from(!groups_with(&mark).is_empty());
        last = Some(mark.clone());
        marks.push(mark);
    }
    // A group outlives a killed program; what is asked is that it does not stay.
    assert!(with_groups > ROUNDS / 2, "{with_groups}");
    Container::gc().unwrap();
    for mark in &marks {
        assert_eq!(groups_with(mark), [""; 0]);
    }
    // There is nothing more to collect of ours, and ranges of ids are free.
    let output = confined(["report"]).output().unwrap();
    assert!(output.status.success());
}

fn described(pids: &[u32]) -> Vec<String> {
    let read = |pid: &u32, name: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        text(&bytes).replace('\0', " ")
    };
    pids.iter()
        .map(|pid| {
            format!(
                "{pid} {} {} {}",
                read(pid, "cmdline"),
                read(pid, "wchan"),
                read(pid, "syscall")
            )
        })
        .collect()
}

#[test]
fn root_gc_leaves_the_living_alone() {
    need!(root, cgroup);
    let _alone = alone();
    let mark = mark();
    let container = confined(["pause"]).pids_limit(9).id(marked(&mark)).spawn().unwrap();
    let groups = groups_with(&mark);
    assert!(!groups.is_empty());
    // Ours, and another program's.
    let others = self::mark();
    let mut other = begin(again_victim(), &others);
    Container::gc().unwrap();
    assert!(container.try_wait().unwrap().is_none());
    assert!(!groups_with(&others).is_empty());
    for group in &groups {
        assert!(std::path::Path::new(group).exists(), "{group}");
    }
    drop(container);
    other.kill().unwrap();
    other.wait().unwrap();
    adopt();
    assert!(soon(Duration::from_secs(2), || descendants().is_empty()));
    Container::gc().unwrap();
    assert_eq!(groups_with(&mark), [""; 0]);
    assert_eq!(groups_with(&others), [""; 0]);
}

fn again_victim() -> std::process::Command {
    common::again("leaks::root_sigkill_of_the_caller_leaves_nothing::here", "victim")
}

#[test]
fn unpriv_sigkill_of_the_caller_leaves_nothing() {
    need!(unprivileged, userns);
    if plays("victim") {
        let _kept: Vec<_> = (0..200)
            .map(|n| {
                let builder = match n % 3 {
                    0 => bare(["pause"]),
                    1 => bare(["pause"]).user_ns().pid_ns(),
                    _ => confined(["pause"]),
                };
                let container = builder.stdout(Stdio::Null).spawn().unwrap();
                if n == 0 {
                    std::io::stdout().write_all(b"started\n").unwrap();
                }
                container
            })
            .collect();
        return;
    }
    let _alone = alone();
    adopt();
    for round in 0..20 {
        let mut child = begin(again!("victim"), "");
        std::thread::sleep(Duration::from_micros(random() % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = soon(Duration::from_millis(200), || descendants().is_empty());
        assert!(gone, "round {round}: {:#?}", described(&descendants()));
    }
}

#[test]
fn unpriv_nothing_leaks() {
    need!(unprivileged, userns);
    if !plays("counted") {
        let _alone = alone();
        play(again!("counted"));
        return;
    }
    adopt();
    let directory = TempDir::public();
    let sorts = [
        confined(["echo", "x"]),
        bare(["true"]),
        bare(["true"]).user_ns().pid_ns(),
        confined(["daemon", "60"]),
        confined([]).command("/not/there"),
        confined(["true"]).current_dir("/not/there"),
        confined(["true"]).expose_writable(directory.path()),
        confined(["pause"]).timeout(Duration::from_millis(5)),
    ];
    let run = |count: usize| {
        for n in 0..count {
            let _ = sorts[n % sorts.len()].output();
        }
    };
    run(sorts.len() * 2);
    let left_out = ["process", "namespace", "cgroup", "interface"];
    let before = Census::take().without(&left_out);
    run(200);
    let after = Census::settled(&before, Duration::from_secs(5));
    assert_eq!(Census::diff(&before, &after), [""; 0]);
    assert!(soon(Duration::from_secs(5), || descendants().is_empty()));
    assert!(payload().is_file());
}
