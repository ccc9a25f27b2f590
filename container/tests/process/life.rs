//! Lives of containers: threads, handles, orphans, other parts of the host program.

use crate::again;
use crate::common::{LONG, bare, both, confined, output, play, plays, printed, soon, stat, text};
use crate::common::{token, value, with_token};
use ireko::{Cause, Container, ErrorKind, Signal, Stdio};
use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::{Need, TempDir, alone, need, within};

#[test]
fn root_a_thread_that_ends_takes_nothing_with_it() {
    need!(root, cgroup);
    lives_on(|| {
        vec![confined(["pause"]).pids_limit(10), bare(["pause"]), bare(["pause"]).pid_ns()]
    });
}

#[test]
fn unpriv_a_thread_that_ends_takes_nothing_with_it() {
    need!(unprivileged, userns);
    lives_on(|| vec![confined(["pause"]), bare(["pause"]), bare(["pause"]).user_ns().pid_ns()]);
}

/// Starts from many threads that end at once; the kernel's PDEATHSIG is the thread's.
fn lives_on(builders: fn() -> Vec<ireko::Builder>) {
    let kinds = builders().len();
    let threads: Vec<_> = (0..8 * kinds)
        .map(|n| std::thread::spawn(move || builders()[n % kinds].spawn().unwrap()))
        .collect();
    let containers: Vec<Container> =
        threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    std::thread::sleep(Duration::from_millis(300));
    for (index, container) in containers.iter().enumerate() {
        let ended = container.try_wait().unwrap();
        assert!(ended.is_none(), "{index}: {ended:?}");
    }
    // Starts from here use the same threads of ours, which must still be there.
    assert_eq!(printed(&confined(["echo", "well"])), "well\n");
    for container in &containers {
        assert!(container.try_wait().unwrap().is_none());
        container.kill().unwrap();
        assert_eq!(container.wait().unwrap().cause(), Cause::Stopped { killed: true });
    }
}

#[test]
fn unpriv_p11_a_daemon_ends_with_its_container() {
    need!(unprivileged, userns);
    let words = |token: &str| {
        let words = ["seq", "echo", token, ",", "daemon", "100", ",", "daemon", "100"];
        words.map(str::to_owned)
    };
    // When the program ends.
    let one = token();
    let output = output(&confined([]).args(words(&one)));
    assert_eq!(crate::common::values(&text(&output.stdout), "daemon").len(), 2);
    assert!(with_token(&one).is_empty(), "{:?}", with_token(&one));
    // When the handle is dropped, or it is killed, or it takes too long.
    let long = |token: &str, limit: u64| {
        let builder = confined([]).args(words(token)).args([",", "pause"]).stdout(Stdio::Null);
        let container = builder.timeout(Duration::from_secs(limit)).spawn().unwrap();
        assert!(soon(Duration::from_secs(5), || with_token(token).len() == 3));
        container
    };
    let two = token();
    drop(long(&two, 100));
    assert!(with_token(&two).is_empty());
    let three = token();
    let container = long(&three, 100);
    container.kill().unwrap();
    container.wait().unwrap();
    assert!(with_token(&three).is_empty());
    let four = token();
    long(&four, 1).wait().unwrap();
    assert!(with_token(&four).is_empty());
}

#[test]
fn root_p11_a_daemon_ends_with_its_group() {
    need!(root, cgroup);
    // Without a pid namespace, by the group it cannot leave.
    let long = |token: &str| {
        let words =
            ["seq", "echo", token, ",", "daemon", "100", ",", "daemon", "100", ",", "pause"];
        let container = bare(words).pids_limit(64).stdout(Stdio::Null).spawn().unwrap();
        assert!(soon(Duration::from_secs(5), || with_token(token).len() == 3));
        container
    };
    let one = token();
    drop(long(&one));
    assert!(with_token(&one).is_empty());
    let two = token();
    let container = long(&two);
    container.kill().unwrap();
    container.wait().unwrap();
    assert!(soon(Duration::from_secs(2), || with_token(&two).is_empty()));
    let three = token();
    let container = long(&three);
    let status = container.stop(Duration::from_millis(100)).unwrap();
    assert_eq!(status.signal(), Some(Signal::TERM));
    drop(container);
    assert!(with_token(&three).is_empty());
}

#[test]
fn unpriv_drop_kills_and_waits() {
    need!(unprivileged, userns);
    for (name, builder) in both(["ignore-term", "100"]) {
        let container = builder.stdout(Stdio::Null).spawn().unwrap();
        let pid = container.pid();
        assert!(stat(pid).is_some(), "{name}");
        let began = Instant::now();
        drop(container);
        // Waited for: neither alive nor a zombie.
        assert_eq!(stat(pid), None, "{name}");
        assert!(began.elapsed() < Duration::from_secs(5), "{name}");
    }
}

#[test]
fn root_drop_removes_the_groups() {
    need!(root, cgroup);
    for (name, builder) in both(["pause"]) {
        let container = builder.pids_limit(9).spawn().unwrap();
        let id = container.id().to_string();
        assert!(!crate::common::groups_with(&id).is_empty(), "{name}");
        drop(container);
        assert_eq!(crate::common::groups_with(&id), [""; 0], "{name}");
    }
    // And after an end of its own they go when the status has been asked for.
    let container = confined(["true"]).pids_limit(9).spawn().unwrap();
    let id = container.id().to_string();
    container.wait().unwrap();
    assert_eq!(crate::common::groups_with(&id), [""; 0]);
}

#[test]
fn root_a_bare_start_that_ends_at_once_was_in_its_group() {
    need!(root, cgroup);
    // It may be gone before anybody has looked where it is.
    for n in 0..100 {
        let builder = bare(["exit", "6"]).pids_limit(5);
        let status = builder.status().unwrap_or_else(|error| panic!("{n}: {error}"));
        assert_eq!(status.code(), Some(6));
        assert!(status.usage().pids_peak.is_none_or(|peak| peak == 1), "{status:?}");
    }
}

#[test]
fn unpriv_many_wait_and_one_kills() {
    need!(unprivileged, userns);
    for (name, builder) in both(["pause"]) {
        let container = Arc::new(builder.spawn().unwrap());
        let waits: Vec<_> = (0..12)
            .map(|n| {
                let container = container.clone();
                std::thread::spawn(move || match n % 3 {
                    0 => container.wait().unwrap(),
                    1 => container.wait_timeout(LONG).unwrap().unwrap(),
                    _ => loop {
                        if let Some(status) = container.try_wait().unwrap() {
                            return status;
                        }
                        std::thread::sleep(Duration::from_millis(1));
                    },
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        assert!(waits.iter().all(|wait| !wait.is_finished()), "{name}");
        container.kill().unwrap();
        let all = within(LONG, move || {
            waits.into_iter().map(|wait| wait.join().unwrap()).collect::<Vec<_>>()
        });
        for status in &all {
            assert_eq!(status.cause(), Cause::Stopped { killed: true }, "{name}");
            assert_eq!(status, &all[0], "{name}");
        }
    }
}

#[test]
fn unpriv_one_waits_for_output_while_another_stops() {
    need!(unprivileged, userns);
    let builder = confined(["seq", "echo", "begun", ",", "signal-wait", "TERM"]);
    let container = Arc::new(builder.stdout(Stdio::Piped).spawn().unwrap());
    let reader = container.clone();
    let output = std::thread::spawn(move || reader.wait_with_output().unwrap());
    std::thread::sleep(Duration::from_millis(300));
    let status = container.stop(Duration::from_secs(20)).unwrap();
    assert_eq!(status.cause(), Cause::Stopped { killed: false });
    let output = within(LONG, move || output.join().unwrap());
    assert_eq!(text(&output.stdout), "begun\nready\n");
    assert_eq!(output.status, status);
}

#[test]
fn unpriv_its_descriptor_can_be_polled() {
    need!(unprivileged, userns);
    for (name, builder) in both(["signal-wait", "TERM"]) {
        let container = builder.stdout(Stdio::Piped).spawn().unwrap();
        let mut ready = [0u8; 6];
        std::io::Read::read_exact(&mut container.take_stdout().unwrap(), &mut ready).unwrap();
        let poll = |limit: i32| {
            let fd = container.as_fd().as_raw_fd();
            let mut fd = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd on this stack.
            unsafe { libc::poll(&raw mut fd, 1, limit) }
        };
        assert_eq!(container.as_fd().as_raw_fd(), container.as_raw_fd());
        assert_eq!(poll(0), 0, "{name}");
        container.signal(Signal::TERM).unwrap();
        assert_eq!(poll(20_000), 1, "{name}");
        // It stays so, before and after the status is taken.
        assert_eq!(container.try_wait().unwrap().unwrap().code(), Some(42), "{name}");
        assert_eq!(poll(0), 1, "{name}");
    }
}

#[test]
fn unpriv_one_plan_from_8_threads() {
    need!(unprivileged, userns);
    one_plan(confined(["seq", "cat", ",", "report", ",", "exit", "9"]));
    one_plan(bare(["seq", "cat", ",", "report", ",", "exit", "9"]));
}

#[test]
fn root_one_plan_from_8_threads() {
    need!(root, cgroup);
    one_plan(confined(["seq", "cat", ",", "report", ",", "exit", "9"]).pids_limit(50));
}

fn one_plan(builder: ireko::Builder) {
    const RUNS: usize = 12;
    let plan = builder.plan().unwrap();
    let seen: Vec<_> = (0..8)
        .map(|thread| {
            let plan = plan.clone();
            std::thread::spawn(move || {
                let directory = TempDir::new();
                let mut seen = Vec::new();
                for run in 0..RUNS {
                    let said = format!("thread {thread} run {run}\n");
                    std::fs::write(directory.join("in"), &said).unwrap();
                    let input = std::fs::File::open(directory.join("in")).unwrap();
                    let plan = plan.clone().stdin(input).stdout(Stdio::Piped).stderr(Stdio::Piped);
                    let container = plan.spawn().unwrap();
                    seen.push(container.id().to_string());
                    let output = container.wait_with_output().unwrap();
                    let got = text(&output.stdout);
                    // Its own input, its own status, the whole report, and nothing else.
                    assert!(got.starts_with(&said), "{got}");
                    assert_eq!(got.matches("thread ").count(), 1, "{got}");
                    assert_eq!(value(&got, "argv.1"), "seq");
                    assert_eq!(output.status.code(), Some(9));
                    assert_eq!(output.stderr, b"");
                }
                seen
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 8 * RUNS);
}

/// Whether the kernel keeps a status for whoever holds the pidfd: Linux 6.15.
fn keeps_statuses() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

#[test]
fn root_waitpid_minus_one_steals_nothing() {
    need!(root, cgroup);
    for role in ["thief", "deaf"] {
        if plays(role) {
            steal(role == "thief", || confined([]).pids_limit(20));
            return;
        }
    }
    play(again!("thief"));
    play(again!("deaf"));
}

#[test]
fn unpriv_waitpid_minus_one_steals_nothing() {
    need!(unprivileged, userns);
    for role in ["thief", "deaf"] {
        if plays(role) {
            steal(role == "thief", || confined([]));
            return;
        }
    }
    play(again!("thief"));
    play(again!("deaf"));
}

/// Statuses under a thread that waits for any child, or with SIGCHLD ignored.
fn steal(thief: bool, confined: fn() -> ireko::Builder) {
    static STOLEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    if thief {
        std::thread::spawn(|| {
            while !OVER.load(Ordering::Relaxed) {
                // SAFETY: no place for a status is given.
                match unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } {
                    n if n > 0 => drop(STOLEN.fetch_add(1, Ordering::Relaxed)),
                    _ => std::thread::yield_now(),
                }
            }
        });
    } else {
        // SAFETY: this process is there for that.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    let mut lost = 0;
    for n in 0..60 {
        for (name, builder) in [("confined", confined()), ("bare", bare([]))] {
            let code = (n * 3) % 200;
            let builder = builder.args(["seq", "echo", "said", ",", "exit", &code.to_string()]);
            match within(Duration::from_secs(20), move || builder.output()) {
                Ok(output) => {
                    assert_eq!(output.status.cause(), Cause::Exited(code), "{name}");
                    assert_eq!(text(&output.stdout), "said\n", "{name}");
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Lost, "{name}: {error}");
                    assert!(error.remedy().is_some(), "{name}");
                    lost += 1;
                }
            }
        }
        // What ends by a signal, and what never came to a program.
        if n % 10 == 0 {
            let container = self::confined(["pause"]).spawn().unwrap();
            container.kill().unwrap();
            match within(Duration::from_secs(20), move || container.wait()) {
                Ok(status) => assert_eq!(status.signal(), Some(Signal::KILL)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Lost),
            }
            let error = self::confined(["true"]).current_dir("/not/there").output().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            let error = Container::bare().command("/not/there").output().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
    OVER.store(true, Ordering::Relaxed);
    if keeps_statuses() {
        assert_eq!(lost, 0);
    }
    // The thief had something to take.
    assert!(!thief || STOLEN.load(Ordering::Relaxed) > 10, "{STOLEN:?}");
}

#[test]
fn unpriv_the_caller_may_have_no_children_to_wait_for() {
    need!(unprivileged, userns);
    let _alone = alone();
    assert!(Need::userns().missing().is_none());
    if plays("childless") {
        printed(&confined(["true"]));
        // All that was started has been waited for: nothing is left to a host that looks.
        // SAFETY: no place for a status is given.
        let answer = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        assert_eq!(answer, -1);
        return;
    }
    play(again!("childless"));
}

#[test]
fn unpriv_a_fork_of_the_host_starts_its_own() {
    need!(unprivileged, userns);
    if plays("forks") {
        printed(&confined(["true"]));
        printed(&bare(["true"]));
        // SAFETY: this process is there for that. The child uses nothing that a thread of ours
        // could have locked in the middle: all of them are idle.
        match unsafe { libc::fork() } {
            0 => {
                let ran = std::panic::catch_unwind(|| {
                    assert_eq!(printed(&confined(["echo", "child"])), "child\n");
                    assert_eq!(printed(&bare(["echo", "child"])), "child\n");
                    let builder = confined(["pause"]).timeout(Duration::from_millis(100));
                    assert!(matches!(builder.status().unwrap().cause(), Cause::TimedOut(_)));
                });
                // SAFETY: ends without what belongs to the parent.
                unsafe { libc::_exit(if ran.is_ok() { 0 } else { 1 }) }
            }
            child => {
                let mut status = -1;
                let done = soon(Duration::from_secs(20), || {
                    // SAFETY: our child, a place for its status.
                    unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) == child }
                });
                // SAFETY: it is our child still when it has not been waited for.
                let _ = done || unsafe { libc::kill(child, libc::SIGKILL) } == 0;
                assert!(done && status == 0, "{done} {status}");
            }
        }
        assert_eq!(printed(&confined(["echo", "parent"])), "parent\n");
        return;
    }
    play(again!("forks"));
}
