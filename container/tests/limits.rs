//! Limits, by what they do to programs, and what is told about it.

#[path = "security/common.rs"]
mod common;

use common::{LONG, bare, both, confined, printed, text};
use ireko::cgroups::{Cpu, Limits, OomScope, Parent, Weight};
use ireko::{
    Cause, Clock, Container, ErrorKind, Extent, Feature, Id, Policy, Reason, Signal, Size, Stage,
    Stdio,
};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::{alone, need, within};

/// Enough for the payload, not for a program that wants more.
const SMALL: Size = Size::mib(16);

/// Everything of this name in any cgroup hierarchy.
fn groups_named(name: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == *name {
                    found.push(entry.path());
                }
                walk(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), name, &mut found);
    found
}

fn started(builder: ireko::Builder) -> Container {
    let container = builder.stdout(Stdio::Piped).spawn().unwrap();
    let mut line = String::new();
    let pipe = container.take_stdout().unwrap();
    BufReader::new(pipe).read_line(&mut line).unwrap();
    container
}

#[test]
fn root_oom_in_a_grandchild_is_told() {
    need!(root, userns, cgroup);
    let output = confined(["oomchild", "256"]).memory_limit(SMALL).output().unwrap();
    let status = &output.status;
    assert_eq!(output.stdout, b"child=signal 9\n", "{}", both(&output));
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    assert_eq!(status.cause(), Cause::Exited(0));
    assert_eq!(status.oom(), Some(OomScope::Group));
    assert!(status.usage().oom_kills >= Some(1), "{:?}", status.usage());
    // The same program with room for it.
    let output = confined(["oomchild", "8"]).memory_limit(Size::mib(64)).output().unwrap();
    assert_eq!(output.stdout, b"child=exit 0\n");
    assert_eq!((output.status.oom(), output.status.cause()), (None, Cause::Exited(0)));
}

#[test]
fn root_oom_of_the_first_process_is_the_cause() {
    need!(root, userns, cgroup);
    for builder in [confined(["memhog", "256"]), bare(["memhog", "256"])] {
        let status = builder.memory_limit(SMALL).output().unwrap().status;
        assert_eq!(status.cause(), Cause::OutOfMemory, "{status}");
        assert_eq!((status.signal(), status.code()), (Some(Signal::KILL), None));
        assert_eq!(status.oom(), Some(OomScope::Group));
        assert_eq!(status.to_string(), "signal: 9 (SIGKILL), out of memory");
        let usage = status.usage();
        assert!(usage.oom_kills >= Some(1), "{usage:?}");
        let peak = usage.memory_peak.unwrap();
        assert!(peak <= SMALL && peak >= Size::mib(8), "{peak}");
    }
}

/// The kernel's own count says so, never the signal or the number 137.
#[test]
fn root_sigkill_by_somebody_is_not_oom() {
    need!(root, userns, cgroup);
    let limited = |words: [&str; 2]| bare(words).memory_limit(SMALL);
    let status = limited(["exit", "137"]).output().unwrap().status;
    assert_eq!((status.cause(), status.oom()), (Cause::Exited(137), None));
    let status = limited(["kill", "KILL"]).output().unwrap().status;
    assert_eq!((status.cause(), status.oom()), (Cause::Signaled(Signal::KILL), None));
    let container = confined(["pause"]).memory_limit(SMALL).spawn().unwrap();
    container.signal(Signal::KILL).unwrap();
    let status = container.wait().unwrap();
    assert_eq!((status.cause(), status.oom()), (Cause::Signaled(Signal::KILL), None));
    assert_eq!(status.usage().oom_kills, Some(0));
    let container = confined(["pause"]).memory_limit(SMALL).spawn().unwrap();
    container.kill().unwrap();
    let status = container.wait().unwrap();
    assert_eq!((status.cause(), status.oom()), (Cause::Stopped { killed: true }, None));
}

/// A program that allocates in its first instructions never gets more than its limit.
#[test]
fn root_memory_limit_is_in_force_before_the_first_instruction() {
    need!(root, userns, cgroup);
    within(LONG, || {
        let plan = confined(["memhog", "64"]).memory_limit(SMALL).plan().unwrap();
        for turn in 0..200 {
            let status = plan.status().unwrap();
            assert_eq!(status.cause(), Cause::OutOfMemory, "turn {turn}: {status}");
            let peak = status.usage().memory_peak.unwrap();
            assert!(peak <= SMALL, "turn {turn}: {peak}");
        }
    });
}

/// No swap to escape to, unless it was given.
#[test]
fn root_memory_limit_brings_no_swap() {
    need!(root, userns, cgroup);
    let output = confined(["true"]).memory_limit(SMALL).output().unwrap();
    let item = output.enforcement.get(Feature::SwapLimit).unwrap();
    assert_eq!(item.asked, Policy::Preferred);
    if item.got == Extent::Full {
        assert_eq!(item.value.as_deref(), Some("0 B"), "{item}");
    }
    let limits = Limits::new().memory_max(SMALL).swap_max(Size::mib(8));
    let output = confined(["true"]).limits(limits).prefer(Feature::SwapLimit).output().unwrap();
    let item = output.enforcement.get(Feature::SwapLimit).unwrap();
    if item.got == Extent::Full {
        assert_eq!(item.value.as_deref(), Some("8 MiB"), "{item}");
    }
    let plan = confined(["true"]).memory_limit(SMALL).plan().unwrap().to_string();
    let v2 = plan.contains("memory.swap.max = 0");
    assert!(v2 || plan.contains("memory.memsw.limit_in_bytes = 16777216"), "{plan}");
}

/// The quota is held: a busy program gets its share of the time, and is told to have
/// waited for the rest.
#[test]
fn root_cpu_limit_throttles() {
    need!(root, userns, cgroup);
    let _alone = alone();
    let busy = || confined(["spin", "1", "2"]);
    let status = busy().cpu_limit(Cpu::cores(0.2)).status().unwrap();
    let usage = status.usage();
    // 0.2 of a second, and what was begun with.
    assert!(usage.cpu() < Duration::from_millis(450), "{usage:?}");
    assert!(usage.throttled.unwrap() > Duration::from_millis(200), "{usage:?}");
    // The clock starts when the caller learns of the exec, a moment late.
    assert!(usage.wall >= Duration::from_millis(900), "{usage:?}");
    let free = busy().status().unwrap();
    assert!(free.usage().cpu() > usage.cpu(), "{free:?}");
}

#[test]
fn root_cpu_weight_shares_the_cpu() {
    need!(root, userns, cgroup);
    let _alone = alone();
    let light: Weight = 10.try_into().unwrap();
    let heavy: Weight = 1000.try_into().unwrap();
    let busy = |weight| {
        let builder = confined(["spin", "1.5", "2"]).cpu_weight(weight);
        let container = builder.spawn().unwrap();
        let item = container.enforcement().get(Feature::CpuWeight).unwrap().clone();
        assert_eq!((item.asked, item.got), (Policy::Required, Extent::Full), "{item}");
        container
    };
    let (light, heavy) = (busy(light), busy(heavy));
    let cpu = |container: &Container| container.wait().unwrap().usage().cpu();
    let (light, heavy) = (cpu(&light), cpu(&heavy));
    assert!(heavy > light * 3, "{light:?} and {heavy:?}");
}

#[test]
fn root_pids_limit_refuses_and_counts() {
    need!(root, userns, cgroup);
    for builder in [confined(["forkbomb", "64"]), bare(["forkbomb", "64"])] {
        let output = builder.pids_limit(8).output().unwrap();
        assert_eq!(text(&output.stdout), "forked=7\nerrno=EAGAIN\n");
        let usage = output.status.usage();
        assert!(usage.pids_refused >= Some(1), "{usage:?}");
        assert!(usage.pids_peak.is_none_or(|peak| peak == 8), "{usage:?}");
        let item = output.enforcement.get(Feature::PidsLimit).unwrap();
        assert_eq!(item.value.as_deref(), Some("8"), "{item}");
    }
    let output = confined(["threads", "64"]).pids_limit(8).output().unwrap();
    assert_eq!(text(&output.stdout), "started=7\nerrno=EAGAIN\n");
    // One is enough for a program that is alone: nothing of ours takes a place.
    assert_eq!(printed(&confined(["forkbomb", "1"]).pids_limit(1)), "forked=0\nerrno=EAGAIN\n");
    // The preset's own.
    let output = confined(["forkbomb", "1100"]).output().unwrap();
    assert_eq!(text(&output.stdout), "forked=1023\nerrno=EAGAIN\n");
}

/// A limit is of one container, whatever other processes of the same user there are.
#[test]
fn root_pids_limit_counts_this_container_alone() {
    need!(root, userns, cgroup);
    let all: Vec<Container> =
        (0..3).map(|_| started(confined(["seq", "tree", "1", "5", "30"]).pids_limit(7))).collect();
    for container in &all {
        assert!(container.try_wait().unwrap().is_none());
    }
}

#[test]
fn root_memory_below_1_mib_is_invalid() {
    need!(root, userns, cgroup);
    for size in [Size::bytes(0), Size::kib(4), Size::kib(1023)] {
        let error = confined(["true"]).memory_limit(size).plan().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Cgroup), "{error}");
    }
}

/// A limit in which not even the start has room is an error that says so; nothing hangs,
/// and nothing is left.
#[test]
fn root_memory_too_small_for_the_start_is_a_typed_error() {
    need!(root, userns, cgroup);
    let _alone = alone();
    within(LONG, || {
        // What is handed over at exec counts too.
        let large = "x".repeat(100 << 10);
        let mut errors = 0;
        for kib in (1024..=3072).step_by(256) {
            for arguments in [0, 15] {
                let id: Id = format!("small-{kib}-{arguments}").parse().unwrap();
                let builder = confined(["true"])
                    .args(std::iter::repeat_n(&large, arguments))
                    .memory_limit(Size::kib(kib))
                    .id(id.clone());
                match builder.status() {
                    Ok(status) if status.success() => {}
                    Ok(status) => assert_eq!(status.cause(), Cause::OutOfMemory, "{kib}: {status}"),
                    Err(error) => {
                        errors += 1;
                        let seen = (error.kind(), error.stage());
                        assert_eq!(seen, (ErrorKind::Exhausted, Stage::Cgroup), "{kib}: {error}");
                        assert!(error.remedy().unwrap().contains("memory_limit"), "{error}");
                    }
                }
                assert_eq!(groups_named(&format!("ireko-{id}")), Vec::<PathBuf>::new());
            }
        }
        println!("{errors} errors");
    });
}

/// A host where an ordinary user may not make groups: limits that were asked for are an
/// error with what to do, unless they were only preferred.
#[test]
fn unpriv_limits_without_delegation() {
    need!(unprivileged, userns);
    let builder = || confined(["true"]).memory_limit(Size::mib(64));
    if Parent::detect().is_ok() {
        // Delegated: then it is in force.
        let output = builder().output().unwrap();
        assert_eq!(output.enforcement.get(Feature::MemoryLimit).unwrap().got, Extent::Full);
        return;
    }
    for error in [
        builder().spawn().unwrap_err(),
        confined(["true"]).pids_limit(9).spawn().unwrap_err(),
        confined(["true"]).cpu_limit(Cpu::cores(0.5)).spawn().unwrap_err(),
        bare(["true"]).memory_limit(Size::mib(64)).spawn().unwrap_err(),
    ] {
        assert_eq!(error.stage(), Stage::Cgroup, "{error}");
        assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported), "{error}");
        assert!(error.remedy().is_some_and(|remedy| remedy.len() > 20), "{error}");
    }
    // Preferred, it starts without, and says so: in the handle and in the output.
    let output = builder().prefer(Feature::MemoryLimit).output().unwrap();
    assert!(output.status.success());
    assert!(!output.enforcement.is_full());
    let item = output.enforcement.get(Feature::MemoryLimit).unwrap();
    assert_eq!((item.asked, item.got), (Policy::Preferred, Extent::Absent), "{item}");
    assert!(matches!(&item.why, Some(Reason::NotDelegated { remedy }) if !remedy.is_empty()));
    let container = builder().prefer(Feature::MemoryLimit).spawn().unwrap();
    assert_eq!(container.enforcement().get(Feature::MemoryLimit), Some(item));
    // What the preset brings is preferred from the start.
    let output = confined(["true"]).output().unwrap();
    let item = output.enforcement.get(Feature::PidsLimit).unwrap();
    assert_eq!((item.asked, item.got), (Policy::Preferred, Extent::Absent), "{item}");
    assert!(output.enforcement.to_string().contains("no cgroup to put it in"));
    assert_eq!(output.status.oom(), None);
}

/// What is told is what was read back.
#[test]
fn root_enforcement_has_the_values_in_force() {
    need!(root, userns, cgroup);
    let builder =
        confined(["pause"]).memory_limit(Size::mib(48)).cpu_limit(Cpu::cores(0.5)).pids_limit(33);
    let container = builder.spawn().unwrap();
    let enforcement = container.enforcement();
    for (feature, value) in [
        (Feature::MemoryLimit, "48 MiB"),
        (Feature::CpuLimit, "0.5 cpu"),
        (Feature::PidsLimit, "33"),
    ] {
        let item = enforcement.get(feature).unwrap();
        assert_eq!((item.asked, item.got), (Policy::Required, Extent::Full), "{item}");
        assert_eq!(item.value.as_deref(), Some(value), "{item}");
    }
    // And the kernel says the same.
    let name = format!("ireko-{}", container.id());
    let files = ["memory.max", "memory.limit_in_bytes"].map(|file| {
        let read = |dir: &PathBuf| std::fs::read_to_string(dir.join(file)).ok();
        groups_named(&name).iter().find_map(read)
    });
    let limit = files.into_iter().flatten().next().unwrap();
    assert_eq!(limit.trim(), "50331648");
    drop(container);
    // Memory comes in pages: what is not whole is not told as if it were.
    let odd = Size::bytes(SMALL.as_bytes() + 1);
    let output = confined(["true"]).memory_limit(odd).output().unwrap();
    let item = output.enforcement.get(Feature::MemoryLimit).unwrap();
    assert_eq!(item.value.as_deref(), Some("16 MiB"), "{item}");
}

/// Where several things ended it, the first of the documented order counts.
#[test]
fn root_causes_have_an_order() {
    need!(root, userns, cgroup);
    let soon = Duration::from_millis(200);
    within(LONG, move || {
        // Stopped before the time is up, by whatever it then ends.
        let container = started(confined(["ignore-term", "30"]).timeout(soon));
        let status = container.stop(Duration::from_secs(5)).unwrap();
        assert_eq!(status.cause(), Cause::Stopped { killed: true }, "{status}");
        // A signal that is heard needs no kill.
        let container = started(confined(["signal-wait", "TERM"]));
        let status = container.stop(Duration::from_secs(5)).unwrap();
        assert_eq!((status.cause(), status.code()), (Cause::Stopped { killed: false }, Some(42)));
        // The time was up before: then that is it, whoever stops it later.
        let container = confined(["sleep", "30"]).timeout(soon).spawn().unwrap();
        std::thread::sleep(soon * 3);
        let status = container.stop(Duration::from_secs(5)).unwrap();
        assert_eq!(status.cause(), Cause::TimedOut(Clock::Wall), "{status}");
        // Out of memory below, and the time is up: the run ended for the time.
        let words = ["seq", "oomchild", "256", ",", "sleep", "30"];
        let builder = confined(words).memory_limit(SMALL).timeout(soon * 5);
        let status = builder.output().unwrap().status;
        assert_eq!(status.cause(), Cause::TimedOut(Clock::Wall), "{status}");
        assert_eq!(status.oom(), Some(OomScope::Group));
        // Ended by itself in time: then the limits that it kept are none of it.
        let status = confined(["exit", "3"]).timeout(LONG).cpu_time_limit(LONG).status().unwrap();
        assert_eq!(status.cause(), Cause::Exited(3));
        let container = confined(["exit", "4"]).spawn().unwrap();
        container.wait().unwrap();
        container.kill().unwrap();
        let status = container.stop(soon).unwrap();
        assert_eq!(status.cause(), Cause::Exited(4));
    });
}

#[test]
fn root_cpu_time_limit_bites_whoever_uses_it() {
    need!(root, userns, cgroup);
    within(LONG, || {
        let limit = Duration::from_millis(300);
        for words in [["spin", "30", "1"], ["spin", "30", "3"]] {
            let before = Instant::now();
            let output = confined(words).cpu_time_limit(limit).output().unwrap();
            assert_eq!(output.status.cause(), Cause::TimedOut(Clock::Cpu), "{}", output.status);
            let used = output.status.usage().cpu();
            assert!(used >= limit && used < limit * 4, "{used:?}");
            assert!(before.elapsed() < Duration::from_secs(15));
        }
        // Sleeping costs nothing.
        let status = confined(["sleep", "0.5"]).cpu_time_limit(limit).status().unwrap();
        assert_eq!(status.cause(), Cause::Exited(0), "{status}");
    });
}

#[test]
fn root_usage_tells_what_was_used() {
    need!(root, userns, cgroup);
    let limited = |words: [&str; 3]| confined(words).memory_limit(Size::mib(128)).pids_limit(64);
    let status = limited(["memhog", "40", "0.2"]).output().unwrap().status;
    let usage = status.usage();
    let peak = usage.memory_peak.unwrap();
    assert!(peak >= Size::mib(40) && peak < Size::mib(60), "{peak}");
    assert!(usage.wall >= Duration::from_millis(150), "{usage:?}");
    assert_eq!((usage.oom_kills, usage.pids_refused), (Some(0), Some(0)));
    let status = limited(["spin", "0.3", "1"]).output().unwrap().status;
    let used = status.usage().cpu();
    assert!(used >= Duration::from_millis(80), "{used:?}");
    assert!(used <= status.usage().wall * 2, "{:?}", status.usage());
}

/// The largest resident set is the program's, or not told: never that of the caller, with
/// whose memory a start begins.
#[test]
fn root_largest_resident_set_is_not_the_callers() {
    need!(root, userns);
    let own = vec![1u8; 256 << 20];
    for builder in [confined(["memhog", "8"]), bare(["memhog", "8"])] {
        assert_eq!(builder.output().unwrap().status.usage().max_rss, None);
    }
    drop(own);
    let status = confined(["memhog", "400"]).output().unwrap().status;
    let largest = status.usage().max_rss.unwrap();
    assert!(largest >= Size::mib(400) && largest < Size::mib(420), "{largest}");
}

/// The group is gone when the handle is, whatever is still inside.
#[test]
fn root_groups_are_gone_after_drop() {
    need!(root, userns, cgroup);
    let tree = |builder: ireko::Builder| builder.memory_limit(Size::mib(64)).pids_limit(50);
    for builder in [
        confined(["tree", "2", "3", "60"]),
        bare(["tree", "2", "3", "60"]),
        confined(["tree", "2", "3", "60"]).share(ireko::namespaces::Namespaces::PID),
    ] {
        let container = started(tree(builder));
        let name = format!("ireko-{}", container.id());
        let groups = groups_named(&name);
        assert!(!groups.is_empty());
        let processes = || -> Vec<String> {
            let procs = std::fs::read_to_string(groups[0].join("cgroup.procs")).unwrap();
            procs.lines().map(str::to_owned).collect()
        };
        let end = Instant::now() + Duration::from_secs(5);
        while processes().len() < 13 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let inside = processes();
        assert_eq!(inside.len(), 13, "{inside:?}");
        drop(container);
        assert_eq!(groups_named(&name), Vec::<PathBuf>::new());
        for pid in inside {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(state.is_empty() || state.contains(") Z "), "{state}");
        }
    }
    // One that has ended by itself, too; and so after an error.
    let container = confined(["true"]).pids_limit(9).spawn().unwrap();
    let name = format!("ireko-{}", container.id());
    container.wait().unwrap();
    drop(container);
    assert_eq!(groups_named(&name), Vec::<PathBuf>::new());
    let id: Id = "never-started".parse().unwrap();
    let missing = confined(["true"]).command("/no/such").id(id).pids_limit(9);
    missing.spawn().unwrap_err();
    assert_eq!(groups_named("ireko-never-started"), Vec::<PathBuf>::new());
}

/// Never beside the caller's own group: that would be a way out of its limits.
#[test]
fn root_groups_are_below_the_callers_own() {
    need!(root, userns, cgroup);
    let container = confined(["pause"])
        .memory_limit(Size::mib(64))
        .cpu_limit(Cpu::cores(1.0))
        .pids_limit(9)
        .spawn()
        .unwrap();
    let read = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let (own, inside) = (read("self"), read(&container.pid().to_string()));
    let name = format!("ireko-{}", container.id());
    let mut below = 0;
    for (own, inside) in own.lines().zip(inside.lines()) {
        let path = |line: &str| line.splitn(3, ':').nth(2).unwrap().to_owned();
        if inside.contains("ireko-") {
            let wanted = format!("{}/{name}", path(own).trim_end_matches('/'));
            assert_eq!(path(inside), wanted, "{inside}");
            below += 1;
        } else {
            assert_eq!(own, inside);
        }
    }
    assert!(below > 0, "{inside}");
}

/// A name is one container's at a time.
#[test]
fn root_an_id_given_twice_is_a_conflict() {
    need!(root, userns, cgroup);
    let id: Id = "given-twice".parse().unwrap();
    let builder = confined(["pause"]).pids_limit(9).id(id.clone());
    let first = builder.spawn().unwrap();
    assert_eq!(first.id(), &id);
    let error = builder.spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // The first lives, and its group with it.
    assert!(first.try_wait().unwrap().is_none());
    assert!(!groups_named("ireko-given-twice").is_empty());
    drop(first);
    drop(builder.spawn().unwrap());
}

/// The parent that was named is the one that is used.
#[test]
fn root_limits_go_where_the_parent_says() {
    need!(root, userns, cgroup);
    let parent = Parent::detect().unwrap();
    let container = confined(["pause"]).pids_limit(9).cgroup_parent(&parent).spawn().unwrap();
    let groups = groups_named(&format!("ireko-{}", container.id()));
    let places: Vec<PathBuf> = parent.paths().map(Path::to_owned).collect();
    for group in &groups {
        let above = group.parent().unwrap();
        let same = |place: &PathBuf| place.canonicalize().ok() == above.canonicalize().ok();
        assert!(places.iter().any(same), "{group:?} below {places:?}");
    }
    assert!(!groups.is_empty());
}
