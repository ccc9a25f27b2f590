//! Killing, freezing and removing, whatever is inside. Needs root or delegation.

mod common;

use common::{add, again, go, inside, line, name, parent, part, said, shell};
use ireko_cgroups::{
    Cgroup, Controllers, ErrorKind, Hierarchy, Limits, OomScope, Parent, Size, Template,
};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

/// The same group on v1 alone and, on a hybrid host, with the v2 directory.
fn both(parent: &Parent, extra: Controllers, what: &str) -> Vec<Cgroup> {
    let preferred = Limits::new().memory_max(Size::mib(64)).pids_max(64);
    let plain = Template::new(parent, &Limits::new()).unwrap().prefer(&preferred).unwrap();
    let mut groups = vec![plain.clone().create(&name(&format!("{what}-a"))).unwrap()];
    let more = plain.v2_dir(true).also(extra).unwrap();
    groups.push(more.create(&name(&format!("{what}-b"))).unwrap());
    groups
}

#[test]
fn root_kill_reaches_everybody() {
    let Some(parent) = parent() else { return };
    for group in both(&parent, Controllers::empty(), "kill") {
        assert!(!group.is_populated());
        let script = "(setsid sh -c 'while :; do sleep 0.01 & done' &) ; echo in; sleep 100";
        let mut child = shell(&group, script);
        assert_eq!(line(&mut child), "in");
        std::thread::sleep(Duration::from_millis(50));
        assert!(group.is_populated());
        group.kill().unwrap();
        assert!(!group.is_populated());
        assert_eq!(group.processes(), []);
        assert!(!child.wait().unwrap().success());
        // It can be used again, with the limits it had.
        assert_eq!(group.enforced().unwrap().adjusted(), []);
        assert!(shell(&group, "true").wait().unwrap().success());
    }
}

#[test]
fn root_drop_ends_what_is_in_nested_groups() {
    let Some(parent) = parent() else { return };
    for group in both(&parent, Controllers::empty(), "nested") {
        let paths = group.paths();
        let mut deep = paths[0].clone();
        for _ in 0..40 {
            deep.push("n");
            std::fs::create_dir(&deep).unwrap();
        }
        let script = format!("echo $$ > {}/cgroup.procs && echo in && read x", deep.display());
        let mut child = shell(&group, &script);
        assert_eq!(line(&mut child), "in");
        drop(group);
        assert!(!child.wait().unwrap().success());
        assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
    }
}

#[test]
fn root_freeze_stops_and_thaw_lets_go() {
    let Some(parent) = parent() else { return };
    for group in both(&parent, Controllers::FREEZER, "freeze").into_iter().skip(1) {
        let mut child = shell(&group, "while read x; do echo said; done");
        go(&mut child);
        assert_eq!(line(&mut child), "said");
        group.freeze(Duration::from_secs(5)).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap();
        let frozen = stat();
        group.thaw().unwrap();
        go(&mut child);
        assert_eq!(line(&mut child), "said", "{frozen}");
        group.freeze(Duration::from_secs(5)).unwrap();
        let start = Instant::now();
        drop(group);
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(!child.wait().unwrap().success());
    }
}

#[test]
fn root_freeze_needs_a_freezer() {
    let Some(parent) = parent() else { return };
    if parent.hierarchy() == Hierarchy::V2 {
        testkit::skip!("any v2 group can freeze");
    }
    let group = Template::new(&parent, &Limits::new().pids_max(8)).unwrap();
    let group = group.create(&name("nofreeze")).unwrap();
    let error = group.freeze(Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.remedy().unwrap().contains("FREEZER"), "{error}");
}

#[test]
fn root_add_moves_a_running_process() {
    let Some(parent) = parent() else { return };
    let group = both(&parent, Controllers::empty(), "add").remove(0);
    let mut child = Command::new("sleep").arg("100").spawn().unwrap();
    add(&group, &child);
    assert_eq!(group.processes(), [child.id()]);
    drop(group);
    assert!(!child.wait().unwrap().success());
    let group = both(&parent, Controllers::empty(), "add2").remove(0);
    let gone = ireko_cgroups::Pidfd::open(std::process::id()).unwrap();
    drop(gone);
    let mut child = Command::new("true").spawn().unwrap();
    let process = ireko_cgroups::Pidfd::open(child.id()).unwrap();
    child.wait().unwrap();
    assert_eq!(group.add(&process).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn root_fds_are_clear_of_the_low_numbers_and_closed_on_exec() {
    let Some(parent) = parent() else { return };
    for group in both(&parent, Controllers::empty(), "fds") {
        let dir = group.dir().map(|fd| fd.as_raw_fd());
        for fd in group.join_fds().map(|fd| fd.as_raw_fd()).chain(dir) {
            assert!(fd >= 10, "{fd}");
            // SAFETY: F_GETFD reads the flags of a fd that is open.
            assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
        }
    }
}

/// A part of the next test: a program that is itself in a limited group.
#[test]
fn root_part_nested_program() {
    let Some(name) = part() else { return };
    let parent = Parent::detect().unwrap();
    let group = Template::new(&parent, &Limits::new().memory_max(Size::mib(256))).unwrap();
    let group = group.create(&name).unwrap();
    println!("path: {}", group.paths()[0].display());
    let hog = "a=0123456789abcdef; while :; do a=$a$a; done";
    // The kernel takes the largest: not the test program.
    let status = shell(&group, hog).wait().unwrap();
    println!("status: {status}");
    println!("scope: {:?}", group.oom().unwrap());
}

#[test]
fn root_groups_are_below_the_callers_own_and_its_limit_is_told_from_theirs() {
    let Some(parent) = parent() else { return };
    if parent.hierarchy() == Hierarchy::V2 {
        // There the nested program's own group holds it, so that it must first make room.
        testkit::skip!("on v2 a program in a group without a subgroup makes none");
    }
    let outer = Template::new(&parent, &Limits::new().memory_max(Size::mib(48))).unwrap();
    let outer = outer.create(&name("around")).unwrap();
    let mut command = again("root_part_nested_program", "inner");
    let mut child = inside(&outer, &mut command).spawn().unwrap();
    let path = said(&mut child, "path: ");
    let below = outer.paths()[0].join("ireko-inner");
    assert_eq!(path, below.display().to_string());
    assert!(said(&mut child, "status: ").contains("9"));
    assert_eq!(said(&mut child, "scope: "), format!("{:?}", Some(OomScope::Ancestor)));
    assert!(child.wait().unwrap().success());
    assert!(!below.exists());
}

/// Not a benchmark: the work must stay that of the bare calls.
#[test]
fn root_a_group_costs_little_more_than_its_directories() {
    let Some(parent) = parent() else { return };
    let limits = Limits::new().memory_max(Size::mib(64)).pids_max(32);
    let limits = Limits::new().cpu_weight(ireko_cgroups::Weight::DEFAULT).or(&limits);
    let template = Template::new(&parent, &Limits::new()).unwrap().prefer(&limits).unwrap();
    let places: Vec<_> = template.places().map(|p| p.join(name("bare"))).collect();
    let best = |mut run: Box<dyn FnMut(usize) + '_>| {
        let one = |n| {
            let start = Instant::now();
            run(n);
            start.elapsed()
        };
        (0..100).map(one).min().unwrap()
    };
    let bare = best(Box::new(|_| {
        places.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        places.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    }));
    let ours = best(Box::new(|n| drop(template.create(&name(&format!("cost-{n}"))).unwrap())));
    println!("bare {bare:?}, ours {ours:?}, {} hierarchies", places.len());
    assert!(ours < bare * 3 + Duration::from_micros(300), "bare {bare:?}, ours {ours:?}");
}

/// On a hybrid host the v2 tree would do both: a raw file brings the v1 hierarchies in.
#[test]
fn root_v1_freezer_and_cpuacct() {
    let Some(parent) = parent() else { return };
    let limits = Limits::new().raw("freezer.state", "THAWED").raw("cpuacct.usage", "0");
    let template = match Template::new(&parent, &limits) {
        Ok(template) => template,
        Err(error) => testkit::skip!("{error}"),
    };
    let group = template.create(&name("v1")).unwrap();
    assert!(group.dir().is_none());
    let script =
        "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; while read x; do echo $x; done";
    let mut child = shell(&group, &format!("sh -c 'read x' & {script}"));
    go(&mut child);
    assert_eq!(line(&mut child), "");
    assert!(group.stats().unwrap().cpu_user > Some(Duration::from_millis(1)));
    group.freeze(Duration::from_secs(5)).unwrap();
    let used = group.stats().unwrap().cpu();
    go(&mut child);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(group.stats().unwrap().cpu(), used);
    group.thaw().unwrap();
    assert_eq!(line(&mut child), "");
    // The frozen must die as well.
    group.freeze(Duration::from_secs(5)).unwrap();
    group.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(group.processes(), []);
}
