//! Limits bite, are read back, and verdicts are the kernel's. Needs root or delegation.

mod common;

use common::{go, line, name, parent, shell};
use ireko_cgroups::{
    Cgroup, Controllers, Cpu, ErrorKind, Hierarchy, Limits, OomScope, Parent, Size, Template,
    Value, Weight,
};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// Grows until it is killed: a shell variable that doubles.
const HOG: &str = "a=0123456789abcdef; while :; do a=$a$a; done";

fn memory(parent: &Parent, size: Size, what: &str) -> Option<Cgroup> {
    let limits = Limits::new().memory_max(size);
    let template = match Template::new(parent, &limits) {
        Ok(template) => template.prefer(&Limits::new().swap_max(Size::bytes(0))).unwrap(),
        Err(error) => {
            testkit::skip!("{error}");
        }
    };
    Some(template.create(&name(what)).unwrap())
}

#[test]
fn root_all_limits_are_taken_as_asked() {
    let Some(parent) = parent() else { return };
    let limits = Limits::new()
        .memory_max(Size::mib(64))
        .cpu_max(Cpu::cores(0.5))
        .cpu_weight(Weight::try_from(200).unwrap())
        .pids_max(32);
    if !parent.controllers().contains(limits.controllers()) {
        testkit::skip!("controllers: {}", parent.controllers());
    }
    let group = Template::new(&parent, &limits).unwrap().create(&name("all")).unwrap();
    let enforced = group.enforced().unwrap();
    assert_eq!(enforced.adjusted(), []);
    let held: Vec<_> = enforced.held().collect();
    assert_eq!(held.len(), 4);
    assert!(held.contains(&("pids.max", Value::Count(32))), "{held:?}");
    assert!(held.contains(&("cpu.max", Value::Cpu(Cpu::cores(0.5)))), "{held:?}");
    let paths = group.paths();
    let expected = if parent.hierarchy() == Hierarchy::V2 { 1 } else { paths.len() };
    assert_eq!(paths.len(), expected);
    drop(group);
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
}

#[test]
fn root_what_was_rounded_is_told() {
    let Some(parent) = parent() else { return };
    let Some(group) = memory(&parent, Size::bytes((16 << 20) + 5), "round") else { return };
    let enforced = group.enforced().unwrap();
    let adjusted = enforced.adjusted();
    assert_eq!(adjusted[0].name, "memory.max");
    assert_eq!(adjusted[0].got, Some(Value::Size(Size::mib(16))));
}

#[test]
fn root_oom_of_a_child() {
    let Some(parent) = parent() else { return };
    let Some(group) = memory(&parent, Size::mib(16), "oom") else { return };
    assert_eq!(group.oom().unwrap(), None);
    let status = shell(&group, HOG).wait().unwrap();
    assert_eq!(status.signal(), Some(9));
    assert_eq!(group.oom().unwrap(), Some(OomScope::Group));
    let stats = group.stats().unwrap();
    assert_eq!(stats.oom_kills, Some(1));
    if let Some(peak) = stats.memory_peak {
        assert!(peak > Size::mib(8) && peak <= Size::mib(16), "{peak}");
    }
}

#[test]
fn root_oom_of_a_grandchild() {
    let Some(parent) = parent() else { return };
    let Some(group) = memory(&parent, Size::mib(16), "oom2") else { return };
    let status = shell(&group, &format!("sh -c '{HOG}'; exit 3")).wait().unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(group.oom().unwrap(), Some(OomScope::Group));
}

#[test]
fn root_oom_in_a_group_that_the_payload_made() {
    let Some(parent) = parent() else { return };
    let Some(group) = memory(&parent, Size::mib(16), "oom3") else { return };
    let nested = group.paths()[0].join("nested");
    std::fs::create_dir(&nested).unwrap();
    let script = format!("echo $$ > {}/cgroup.procs; {HOG}", nested.display());
    let status = common::shell(&group, &format!("sh -c '{script}'; exit 3")).wait().unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(group.stats().unwrap().oom_kills, Some(1));
    assert_eq!(group.oom().unwrap(), Some(OomScope::Group));
}

#[test]
fn root_oom_by_the_limit_of_a_group_around_it() {
    let Some(parent) = parent() else { return };
    let Some(outer) = memory(&parent, Size::mib(16), "outer") else { return };
    // A group in a group, as a nested program would make it.
    let inner_path = outer.paths()[0].join("inner");
    std::fs::create_dir(&inner_path).unwrap();
    let script = format!("echo $$ > {}/cgroup.procs; {HOG}", inner_path.display());
    let status = shell(&outer, &format!("sh -c '{script}'; exit 3")).wait().unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(outer.oom().unwrap(), Some(OomScope::Group));
}

#[test]
fn root_a_kill_of_ours_is_no_oom() {
    let Some(parent) = parent() else { return };
    let Some(group) = memory(&parent, Size::mib(16), "kill") else { return };
    let mut child = shell(&group, "echo in; read x");
    assert_eq!(line(&mut child), "in");
    group.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(group.oom().unwrap(), None);
    assert_eq!(group.stats().unwrap().oom_kills, Some(0));
}

#[test]
fn root_pids_limit_refuses_and_counts() {
    let Some(parent) = parent() else { return };
    let template = match Template::new(&parent, &Limits::new().pids_max(3)) {
        Ok(template) => template,
        Err(error) => testkit::skip!("{error}"),
    };
    let group = template.create(&name("pids")).unwrap();
    assert_eq!(group.stats().unwrap().pids_refused, Some(0));
    let script = "sleep 9 & sleep 9 & sleep 9 & sleep 9 & echo unreached";
    let mut child = shell(&group, &format!("exec 2>&1; {script}"));
    let said = line(&mut child);
    assert!(said.contains("fork"), "{said}");
    assert_ne!(child.wait().unwrap().code(), Some(0));
    let stats = group.stats().unwrap();
    assert!(stats.pids_refused >= Some(1), "{stats:?}");
    assert_eq!(stats.pids, Some(2));
    if stats.pids_peak.is_some() {
        assert_eq!(stats.pids_peak, Some(3));
    }
    group.kill().unwrap();
    // Counted until somebody has reaped them.
    common::wait_until("nothing is left", || group.stats().unwrap().pids == Some(0));
}

#[test]
fn root_cpu_quota_throttles_and_time_is_counted() {
    let Some(parent) = parent() else { return };
    let limits = Limits::new().cpu_max(Cpu::cores(0.1));
    let template = Template::new(&parent, &limits).and_then(|t| t.also(Controllers::CPUACCT));
    let template = match template {
        Ok(template) => template,
        Err(error) => testkit::skip!("{error}"),
    };
    let group = template.create(&name("cpu")).unwrap();
    let before = group.stats().unwrap();
    let mut child = shell(&group, "echo in; while :; do :; done");
    assert_eq!(line(&mut child), "in");
    std::thread::sleep(Duration::from_millis(500));
    group.kill().unwrap();
    child.wait().unwrap();
    let used = group.stats().unwrap().since(&before);
    assert!(used.throttled > Some(Duration::from_millis(100)), "{used:?}");
    let cpu = used.cpu().unwrap();
    assert!(cpu > Duration::from_millis(10) && cpu < Duration::from_millis(250), "{used:?}");
}

#[test]
fn root_apply_is_all_or_none() {
    let Some(parent) = parent() else { return };
    let first = Limits::new().memory_max(Size::mib(64)).pids_max(8);
    let template = match Template::new(&parent, &first) {
        Ok(template) => template,
        Err(error) => testkit::skip!("{error}"),
    };
    let group = template.create(&name("apply")).unwrap();
    // Memory is written first, and the last value is one that the kernel refuses.
    let refused = Limits::new().memory_max(Size::mib(32)).raw("pids.max", "nonsense");
    assert_eq!(group.apply(&refused).unwrap_err().kind(), ErrorKind::Invalid);
    let held = |group: &Cgroup| group.enforced().unwrap().held().collect::<Vec<_>>();
    assert!(held(&group).contains(&("memory.max", Value::Size(Size::mib(64)))));
    let enforced = group.apply(&Limits::new().memory_max(Size::mib(128)).pids_max(9)).unwrap();
    assert_eq!(enforced.adjusted(), []);
    assert!(held(&group).contains(&("memory.max", Value::Size(Size::mib(128)))));
    assert!(held(&group).contains(&("pids.max", Value::Count(9))));
}

#[test]
fn root_swap_stays_the_same_when_memory_changes() {
    let Some(parent) = parent() else { return };
    let limits = Limits::new().memory_max(Size::mib(64)).swap_max(Size::mib(16));
    let template = match Template::new(&parent, &limits) {
        Ok(template) => template,
        Err(error) => testkit::skip!("{error}"),
    };
    let group = template.create(&name("swap")).unwrap();
    for size in [Size::mib(128), Size::mib(32)] {
        let enforced = group.apply(&Limits::new().memory_max(size)).unwrap();
        assert_eq!(enforced.adjusted(), [], "{size}");
        let held: Vec<_> = group.enforced().unwrap().held().collect();
        assert!(held.contains(&("memory.max", Value::Size(size))), "{held:?}");
        assert!(held.contains(&("memory.swap.max", Value::Size(Size::mib(16)))), "{held:?}");
    }
}

#[test]
fn root_memory_in_use_cannot_be_taken() {
    let Some(parent) = parent() else { return };
    let Some(group) = memory(&parent, Size::mib(64), "inuse") else { return };
    let grow = "a=0123456789abcdef; i=0; while [ $i -lt 20 ]; do a=$a$a; i=$((i+1)); done";
    let mut child = shell(&group, &format!("{grow}; echo full; read x"));
    assert_eq!(line(&mut child), "full");
    let refused = group.apply(&Limits::new().memory_max(Size::mib(2))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert_eq!(group.oom().unwrap(), None);
    go(&mut child);
    assert!(child.wait().unwrap().success());
}

#[test]
fn root_preferred_limits_are_skipped_and_told() {
    let Some(parent) = parent() else { return };
    let base = match Template::new(&parent, &Limits::new().memory_max(Size::mib(32))) {
        Ok(template) => template,
        Err(error) => testkit::skip!("{error}"),
    };
    let preset = Limits::new().oom_group(true).pids_max(1024).memory_max(Size::mib(1));
    let template = base.prefer(&preset).unwrap();
    assert_eq!(template.limits().memory(), Some(Size::mib(32)));
    assert_eq!(template.limits().pids(), Some(1024));
    if parent.hierarchy() == Hierarchy::V2 {
        assert_eq!(template.skipped().len(), 0);
    } else {
        assert_eq!(template.skipped()[0].name, "memory.oom.group");
        let required = Template::new(&parent, &Limits::new().oom_group(true)).unwrap_err();
        assert_eq!(required.kind(), ErrorKind::Unsupported);
        assert!(required.remedy().is_some());
    }
    drop(template.create(&name("prefer")).unwrap());
}
