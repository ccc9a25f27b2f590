//! How a program ends, and what is told of it.

use crate::common::{LONG, bare, both, confined, output, printed, soon, text, token, with_token};
use ireko::{Cause, Clock, Container, ErrorKind, Signal, Stage, Stdio};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};
use testkit::{need, within};

#[test]
fn unpriv_w9_codes_and_signals_are_two_things() {
    need!(unprivileged, userns);
    for (name, builder) in both([]) {
        let run = |words: &[&str]| output(&builder.clone().args(words)).status;
        let status = run(&["segv"]);
        let segv = Signal::try_from(libc::SIGSEGV).unwrap();
        if name == "bare" {
            assert_eq!((status.code(), status.signal()), (None, Some(segv)), "{name}");
            assert_eq!(status.cause(), Cause::Signaled(segv), "{name}");
            assert_eq!(status.to_string(), "signal: 11 (SIGSEGV)", "{name}");
        }
        // What a shell would call the same is a code here, and stays one.
        let status = run(&["exit", "139"]);
        assert_eq!((status.code(), status.signal()), (Some(139), None), "{name}");
        assert_eq!(status.cause(), Cause::Exited(139), "{name}");
        assert_eq!(status.to_string(), "exit status: 139", "{name}");
        let status = run(&["exit", "137"]);
        assert_eq!((status.code(), status.cause()), (Some(137), Cause::Exited(137)), "{name}");
        assert_eq!(status.oom(), None, "{name}");
    }
    // The first process of a pid namespace ends by a signal only when somebody outside, or a
    // fault of its own, brings it.
    let container = confined(["pause"]).spawn().unwrap();
    container.signal(Signal::KILL).unwrap();
    let status = container.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (None, Some(Signal::KILL)));
    assert_eq!(status.cause(), Cause::Signaled(Signal::KILL));
}

#[test]
fn unpriv_timeout_bites_though_nobody_waits() {
    need!(unprivileged, userns);
    for (name, builder) in both(["seq", "echo"]) {
        let token = token();
        let builder = builder.args([token.as_str(), ",", "sleep", "60"]).stdout(Stdio::Null);
        let began = Instant::now();
        let container = builder.timeout(Duration::from_millis(300)).spawn().unwrap();
        let runs = soon(Duration::from_millis(250), || !with_token(&token).is_empty());
        assert!(runs, "{name}");
        assert!(soon(Duration::from_secs(10), || with_token(&token).is_empty()), "{name}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300), "{name}: {took:?}");
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
        let status = container.wait_timeout(LONG).unwrap().unwrap();
        assert_eq!(status.cause(), Cause::TimedOut(Clock::Wall), "{name}");
        assert_eq!(status.signal(), Some(Signal::KILL), "{name}");
        assert_eq!(status.to_string(), "signal: 9 (SIGKILL), timeout", "{name}");
    }
    // One that ends in time keeps its cause, and is not bothered later.
    let container = confined(["exit", "4"]).timeout(Duration::from_millis(400)).spawn().unwrap();
    assert_eq!(container.wait().unwrap().cause(), Cause::Exited(4));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(container.wait().unwrap().cause(), Cause::Exited(4));
    // The shorter of two, begun last, is the first.
    let long = confined(["sleep", "60"]).timeout(Duration::from_secs(30)).spawn().unwrap();
    let short = confined(["sleep", "60"]).timeout(Duration::from_millis(100)).spawn().unwrap();
    assert!(short.wait_timeout(Duration::from_secs(10)).unwrap().is_some());
    assert!(long.try_wait().unwrap().is_none());
}

#[test]
fn root_timeout_takes_all_that_is_inside() {
    need!(root, cgroup);
    // Without a pid namespace it is the group that tells who is inside.
    let token = token();
    let builder = bare(["seq", "echo", &token, ",", "tree", "2", "3", "60"]).pids_limit(64);
    let builder = builder.stdout(Stdio::Null).timeout(Duration::from_millis(400));
    let container = builder.spawn().unwrap();
    assert!(soon(Duration::from_secs(5), || with_token(&token).len() == 13));
    assert!(soon(Duration::from_secs(10), || with_token(&token).is_empty()));
    assert_eq!(container.wait().unwrap().cause(), Cause::TimedOut(Clock::Wall));
}

#[test]
fn root_cpu_time_limit() {
    need!(root, cgroup);
    for (name, builder) in both(["spin", "60", "2"]) {
        let limit = Duration::from_millis(300);
        let container = builder.cpu_time_limit(limit).spawn().unwrap();
        let status = within(LONG, move || container.wait().unwrap());
        assert_eq!(status.cause(), Cause::TimedOut(Clock::Cpu), "{name}");
        let used = status.usage().cpu();
        assert!(used >= limit && used < limit * 4, "{name}: {used:?}");
    }
    // Time that is not used does not count.
    let container = confined(["sleep", "0.8"]).cpu_time_limit(Duration::from_millis(300));
    assert_eq!(container.status().unwrap().cause(), Cause::Exited(0));
}

/// A container of whose program is known that it is ready.
#[track_caller]
fn ready(builder: ireko::Builder) -> Container {
    let container = builder.stdout(Stdio::Piped).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(container.take_stdout().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    container
}

#[test]
fn unpriv_stop_asks_first() {
    need!(unprivileged, userns);
    for (name, builder) in both(["signal-wait", "TERM"]) {
        let container = ready(builder);
        let status = container.stop(Duration::from_secs(20)).unwrap();
        assert_eq!((status.code(), status.signal()), (Some(42), None), "{name}");
        assert_eq!(status.cause(), Cause::Stopped { killed: false }, "{name}");
        assert_eq!(status.to_string(), "exit status: 42, stopped", "{name}");
        // Once more changes nothing.
        assert_eq!(container.stop(Duration::ZERO).unwrap(), status, "{name}");
    }
    for (name, builder) in both(["signal-wait", "USR2"]) {
        let status =
            ready(builder.stop_signal(Signal::USR2)).stop(Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(42), "{name}");
    }
}

#[test]
fn unpriv_stop_kills_what_does_not_listen() {
    need!(unprivileged, userns);
    for (name, builder) in both(["ignore-term", "60"]) {
        let container = ready(builder);
        let began = Instant::now();
        let status = container.stop(Duration::from_millis(300)).unwrap();
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
        assert_eq!(status.signal(), Some(Signal::KILL), "{name}");
        assert_eq!(status.cause(), Cause::Stopped { killed: true }, "{name}");
    }
    // The first process of a pid namespace is deaf to signals that it has no handler for.
    let container = confined(["pause"]).spawn().unwrap();
    let status = container.stop(Duration::from_millis(100)).unwrap();
    assert_eq!(status.cause(), Cause::Stopped { killed: true });
    // One that has ended by itself keeps its cause.
    let container = confined(["exit", "3"]).spawn().unwrap();
    assert!(container.wait_timeout(LONG).unwrap().is_some());
    assert_eq!(container.stop(Duration::ZERO).unwrap().cause(), Cause::Exited(3));
}

#[test]
fn unpriv_kill_and_signal() {
    need!(unprivileged, userns);
    for (name, builder) in both(["signal-wait", "USR1"]) {
        let container = ready(builder.clone());
        container.signal(Signal::USR1).unwrap();
        let status = container.wait().unwrap();
        // A signal by itself is no stop.
        assert_eq!((status.code(), status.cause()), (Some(42), Cause::Exited(42)), "{name}");
        let error = container.signal(Signal::USR1).unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::NotFound, Stage::Running), "{name}");
        // Nothing happens to one that has ended.
        container.kill().unwrap();
        assert_eq!(container.wait().unwrap(), status, "{name}");

        let container = ready(builder);
        container.kill().unwrap();
        let status = container.wait().unwrap();
        assert_eq!(status.cause(), Cause::Stopped { killed: true }, "{name}");
        assert_eq!(status.signal(), Some(Signal::KILL), "{name}");
        assert_eq!(status.to_string(), "signal: 9 (SIGKILL), killed", "{name}");
    }
}

#[test]
fn unpriv_try_wait_and_wait_timeout() {
    need!(unprivileged, userns);
    for (name, builder) in both(["signal-wait", "TERM"]) {
        let container = ready(builder);
        assert!(container.try_wait().unwrap().is_none(), "{name}");
        let began = Instant::now();
        assert!(container.wait_timeout(Duration::from_millis(80)).unwrap().is_none(), "{name}");
        assert!(began.elapsed() >= Duration::from_millis(80), "{name}");
        // Neither has killed it.
        assert!(container.try_wait().unwrap().is_none(), "{name}");
        container.signal(Signal::TERM).unwrap();
        let status = container.wait_timeout(LONG).unwrap().unwrap();
        assert_eq!(status.code(), Some(42), "{name}");
        assert_eq!(container.try_wait().unwrap(), Some(status), "{name}");
    }
}

#[test]
fn unpriv_usage_is_told() {
    need!(unprivileged, userns);
    // More than this process has: else it is not told.
    for (name, builder) in both(["seq", "spin", "0.3", ",", "memhog", "200"]) {
        let usage = output(&builder).status.usage().clone();
        assert!(usage.wall >= Duration::from_millis(290), "{name}: {usage:?}");
        assert!(usage.cpu() >= Duration::from_millis(100), "{name}: {usage:?}");
        assert!(usage.cpu() <= usage.wall * 2, "{name}: {usage:?}");
        let rss = usage.max_rss.unwrap().as_bytes();
        assert!((200 << 20..240 << 20).contains(&rss), "{name}: {usage:?}");
    }
}

#[test]
fn unpriv_a_program_that_is_killed_while_it_writes() {
    need!(unprivileged, userns);
    let container = confined(["flood", "100000000"]).stdout(Stdio::Piped).spawn().unwrap();
    container.kill().unwrap();
    let output = within(LONG, move || container.wait_with_output().unwrap());
    assert_eq!(output.status.cause(), Cause::Stopped { killed: true });
    assert!(output.stdout.len() < 100_000_000);
    assert_eq!(printed(&confined(["echo", "next"])), "next\n");
    assert_eq!(text(b"x"), "x");
}
