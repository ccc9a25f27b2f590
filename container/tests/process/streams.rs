//! Standard streams.

use crate::again;
use crate::common::{LONG, bare, both, confined, output, play, plays, printed, soon, text};
use crate::common::{value, values};
use ireko::{Cause, Clock, Container, Size, Stdio};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use testkit::{TempDir, need, payload, within};

const DAEMON: Duration = Duration::from_secs(8);

#[test]
fn unpriv_i1_output_returns_when_the_program_returns() {
    need!(unprivileged, userns);
    returns_in_time();
}

#[test]
fn unpriv_output_returns_when_the_program_returns() {
    need!(unprivileged, userns);
    returns_in_time();
}

/// A program leaves an orphan that holds both pipes. Its own output is complete, though
/// most of it is still in the pipes when it ends.
fn returns_in_time() {
    let seconds = DAEMON.as_secs().to_string();
    let words = ["seq", "echo", "first", ",", "daemon", &seconds, ",", "flood", "50000", "err"];
    for (name, builder) in both(words) {
        let began = Instant::now();
        let output = output(&builder.args([",", "err", "last", ",", "exit", "7"]));
        let took = began.elapsed();
        assert!(took < DAEMON / 2, "{name}: {took:?}");
        assert_eq!(output.status.code(), Some(7), "{name}");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let daemon: u32 = value(&out, "daemon").parse().unwrap();
        let begin = format!("first\ndaemon={daemon}\n");
        assert!(out.starts_with(&begin), "{name}: {:?}", &out[..40]);
        assert_eq!(out.len(), begin.len() + 50_000, "{name}");
        assert!(err.ends_with("xlast\n"), "{name}: {:?}", &err[err.len() - 40..]);
        assert_eq!(err.len(), 50_000 + "last\n".len(), "{name}");
        assert!(!output.truncated, "{name}");
        if name == "bare" {
            // Without a pid namespace it lives on, with the pipes: that is why this is tested.
            let holds = std::fs::read_link(format!("/proc/{daemon}/fd/1"));
            assert!(holds.is_ok_and(|link| link.to_string_lossy().starts_with("pipe:")), "{name}");
            // SAFETY: an orphan of our own payload, alive a moment ago.
            unsafe { libc::kill(daemon as i32, libc::SIGKILL) };
        }
    }
}

#[test]
fn unpriv_i1_an_orphan_that_goes_on_writing_does_not_hold_us_up() {
    need!(unprivileged, userns);
    let script = "(i=0; while [ $i -lt 100000 ]; do echo noise; i=$((i+1)); done) & echo mine";
    for builder in [Container::builder(), Container::bare()] {
        let builder = builder.command("/bin/sh").args(["-c", script]);
        let output = within(LONG, move || output(&builder));
        assert!(text(&output.stdout).contains("mine\n"));
        assert!(output.status.success());
    }
}

#[test]
fn unpriv_i2_ten_mebibytes_on_both_pipes() {
    need!(unprivileged, userns);
    let size = 10 << 20;
    for (name, builder) in both(["flood", "10485760", "err"]) {
        let output = within(LONG, move || output(&builder));
        assert!(output.status.success(), "{name}: {}", output.status);
        assert_eq!((output.stdout.len(), output.stderr.len()), (size, size), "{name}");
        assert!(!output.truncated, "{name}");
        let fine = |bytes: &[u8]| bytes.iter().all(|b| matches!(b, b'x' | b'\n'));
        assert!(fine(&output.stdout) && fine(&output.stderr), "{name}");
    }
}

#[test]
fn unpriv_i2_output_limit() {
    need!(unprivileged, userns);
    for (name, builder) in both(["flood", "1000000", "err"]) {
        // The rest is read and dropped: the program comes to its end.
        let cut = output(&builder.clone().output_limit(Size::bytes(1000)));
        assert_eq!((cut.stdout.len(), cut.stderr.len()), (1000, 1000), "{name}");
        assert!(cut.truncated && cut.status.success(), "{name}");
        let whole = output(&builder.clone().output_limit(Size::bytes(1_000_000)));
        assert_eq!((whole.stdout.len(), whole.truncated), (1_000_000, false), "{name}");
        let none = output(&builder.output_limit(Size::bytes(0)));
        assert_eq!((none.stdout.len(), none.truncated), (0, true), "{name}");
    }
    let nothing = output(&confined(["true"]).output_limit(Size::bytes(0)));
    assert!(!nothing.truncated);
}

#[test]
fn unpriv_i3_we_keep_no_end_of_a_pipe() {
    need!(unprivileged, userns);
    for (name, builder) in both(["cat"]) {
        let plan = builder.stdin(Stdio::Piped).stdout(Stdio::Piped).plan().unwrap();
        within(LONG, move || {
            let container = plan.spawn().unwrap();
            let mut stdin = container.take_stdin().unwrap();
            let mut stdout = container.take_stdout().unwrap();
            assert!(
                container.take_stdin().is_none() && container.take_stderr().is_none(),
                "{name}"
            );
            stdin.write_all(b"through").unwrap();
            drop(stdin);
            // It comes to its end only when nobody else holds the writer.
            let mut got = String::new();
            stdout.read_to_string(&mut got).unwrap();
            assert_eq!(got, "through", "{name}");
            assert!(container.wait().unwrap().success(), "{name}");
            // The plan is still there, and has not kept them either.
        });
    }
    // A pipe of the caller's: who holds the value holds the file, and nobody else does.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let got = within(LONG, move || {
        let builder = confined(["echo", "x"]).stdout(writer);
        builder.status().unwrap();
        drop(builder);
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        got
    });
    assert_eq!(got, "x\n");
}

#[test]
fn unpriv_i3_a_container_holds_no_pipe_of_another() {
    need!(unprivileged, userns);
    // While one runs, another's stdin must come to its end: no start passes on what a start
    // beside it has open.
    let others: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let run = || confined(["pause"]).stdin(Stdio::Piped).stdout(Stdio::Piped).spawn();
                (0..5).map(|_| run().unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    let readers: Vec<_> = (0..10)
        .map(|_| bare(["eof"]).stdin(Stdio::Piped).stdout(Stdio::Piped).spawn().unwrap())
        .collect();
    let others: Vec<_> = others.into_iter().flat_map(|other| other.join().unwrap()).collect();
    assert_eq!(others.len(), 20);
    for reader in readers {
        let output = within(LONG, move || reader.wait_with_output().unwrap());
        assert_eq!(text(&output.stdout), "eof=0\n");
    }
}

#[test]
fn unpriv_i4_stdin_is_null_for_output() {
    need!(unprivileged, userns);
    if plays("with stdin") {
        for (name, builder) in both(["seq", "eof", ",", "fds"]) {
            let got = within(LONG, move || printed(&builder));
            assert!(got.starts_with("eof=0\n"), "{name}: {got}");
            assert_eq!(values(&got, "fd")[0], "0 /dev/null", "{name}");
        }
        // For spawn it is the caller's.
        let file = TempDir::new();
        let out = std::fs::File::create(file.join("out")).unwrap();
        assert!(confined(["cat"]).stdout(out).status().unwrap().success());
        assert_eq!(std::fs::read_to_string(file.join("out")).unwrap(), "of the caller");
        return;
    }
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"of the caller").unwrap();
    drop(writer);
    let mut command = again!("with stdin");
    command.stdin(reader);
    play(command);
}

#[test]
fn unpriv_streams_null_piped_and_files() {
    need!(unprivileged, userns);
    let directory = TempDir::new();
    std::fs::write(directory.join("in"), "from a file").unwrap();
    for (name, builder) in both(["seq", "cat", ",", "err", "to stderr", ",", "fds"]) {
        let input = std::fs::File::open(directory.join("in")).unwrap();
        let mut out = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(directory.join("out"))
            .unwrap();
        let run = builder.clone().stdin(input).stdout(out.try_clone().unwrap()).stderr(Stdio::Null);
        let output = output(&run);
        assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0), "{name}");
        let mut got = String::new();
        out.rewind().unwrap();
        out.read_to_string(&mut got).unwrap();
        assert!(got.starts_with("from a file"), "{name}: {got}");
        let got = got.replace("from a file", "from a file\n");
        let fds = values(&got, "fd");
        assert!(fds[0].ends_with("/in") && fds[1].ends_with("/out"), "{name}: {fds:?}");
        assert_eq!((fds[2], fds.len()), ("2 /dev/null", 3), "{name}");
    }
    // Both into one file, one beside the other.
    let file = std::fs::File::create(directory.join("both")).unwrap();
    let builder = confined(["seq", "echo", "a", ",", "err", "b", ",", "echo", "c"]);
    builder.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    assert_eq!(std::fs::read_to_string(directory.join("both")).unwrap(), "a\nb\nc\n");
}

#[test]
fn unpriv_a_plan_is_used_again_with_other_streams() {
    need!(unprivileged, userns);
    let directory = TempDir::new();
    for (name, builder) in both(["cat"]) {
        let plan = builder.stdin(Stdio::Null).plan().unwrap();
        for n in 0..5 {
            let text = format!("input {n}");
            std::fs::write(directory.join("in"), &text).unwrap();
            let input = std::fs::File::open(directory.join("in")).unwrap();
            let output = plan.clone().stdin(input).output().unwrap();
            assert_eq!(crate::common::text(&output.stdout), text, "{name}");
            let err = plan.clone().stdout(Stdio::Null).stderr(Stdio::Piped).output().unwrap();
            assert_eq!((err.stdout.len(), err.stderr.len()), (0, 0), "{name}");
        }
        assert_eq!(plan.output().unwrap().stdout, b"", "{name}");
    }
}

#[test]
fn unpriv_a_timeout_keeps_what_came_until_then() {
    need!(unprivileged, userns);
    let words = ["seq", "flood", "200000", ",", "err", "and this", ",", "sleep", "60", ",", "echo"];
    for (name, builder) in both(words) {
        let builder = builder.timeout(Duration::from_millis(700));
        let output = within(LONG, move || output(&builder));
        assert_eq!(output.status.cause(), Cause::TimedOut(Clock::Wall), "{name}");
        assert_eq!(output.stdout.len(), 200_000, "{name}");
        assert_eq!(text(&output.stderr), "and this\n", "{name}");
        let wall = output.status.usage().wall;
        assert!(wall >= Duration::from_millis(690) && wall < Duration::from_secs(10), "{wall:?}");
    }
}

#[test]
fn unpriv_p9_closed_standard_streams() {
    need!(unprivileged, userns);
    if plays("closed") {
        closed();
        return;
    }
    play(again!("closed"));
}

/// With 0, 1 and 2 closed, whatever we open comes to lie there.
fn closed() {
    // SAFETY: numbers; the copies are above all that could be closed here.
    let copies = [0, 1, 2].map(|fd| unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 100) });
    let result = std::panic::catch_unwind(|| {
        // Ours have no low number.
        let mut pipes: Vec<_> = (0..8).map(|_| std::io::pipe().unwrap()).collect();
        for missing in
            [[true, true, true], [true, false, false], [false, true, false], [false, true, true]]
        {
            for fd in 0..3 {
                if missing[fd] {
                    // SAFETY: this process is there for that.
                    unsafe { libc::close(fd as i32) };
                } else {
                    // SAFETY: as above.
                    unsafe { libc::dup2(copies[fd], fd as i32) };
                }
            }
            for (name, builder) in both(["seq", "eof", ",", "err", "error", ",", "fds"]) {
                let output = output(&builder.clone().pass_fd(3, null()));
                let got = text(&output.stdout);
                assert!(got.starts_with("eof=0\n"), "{name} {missing:?}: {got}");
                assert_eq!(text(&output.stderr), "error\n", "{name} {missing:?}");
                let fds = values(&got, "fd");
                assert_eq!((fds[0], fds[3]), ("0 /dev/null", "3 /dev/null"), "{name} {missing:?}");
                assert!(fds[1].starts_with("1 pipe:") && fds[2].starts_with("2 pipe:"), "{got}");
                assert_eq!(fds.len(), 4, "{name} {missing:?}: {got}");
                // Inherited, a missing one is /dev/null inside, as with std.
                let (mut reader, writer) = pipes.pop().unwrap();
                let plan = builder.args([",", "exit", "5"]).plan().unwrap();
                let status = plan.clone().stdout(writer).stderr(Stdio::Inherit).status().unwrap();
                drop(plan);
                assert_eq!(status.code(), Some(5), "{name} {missing:?}");
                let mut got = String::new();
                reader.read_to_string(&mut got).unwrap();
                let fds = values(&got, "fd");
                assert_eq!(fds.len(), 3, "{name} {missing:?}: {got}");
                assert_eq!(fds[2] == "2 /dev/null", missing[2], "{name} {missing:?}: {got}");
                // What was missing is missing still.
                for fd in 0..3 {
                    // SAFETY: a number; nothing is changed.
                    let open = unsafe { libc::fcntl(fd as i32, libc::F_GETFD) } >= 0;
                    assert_eq!(open, !missing[fd], "{name} {missing:?} {fd}");
                }
            }
        }
    });
    let restore = || {
        for (fd, copy) in copies.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { libc::dup2(copy, fd as i32) };
        }
    };
    restore();
    let result = result.and_then(|()| std::panic::catch_unwind(exchanged));
    restore();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Each stream comes from where another is put.
fn exchanged() {
    // Made while the low numbers are taken.
    let mut pipes: Vec<_> = (0..6).map(|_| std::io::pipe().unwrap()).collect();
    for (name, builder) in both(["seq", "cat", ",", "echo", "out", ",", "err", "err"]) {
        let three: Vec<_> = pipes.drain(..3).collect();
        let [mut input, mut out, mut err] = <[_; 3]>::try_from(three).unwrap();
        input.1.write_all(b"in ").unwrap();
        // SAFETY: all of these are open; the copies belong to nobody else, since what was
        // there is of this process, which is there for that.
        let at = |fd: i32, source: i32| unsafe {
            assert_eq!(libc::dup2(source, fd), fd);
            <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
        };
        let first = at(0, err.1.as_raw_fd());
        let second = at(1, input.0.as_raw_fd());
        let third = at(2, out.1.as_raw_fd());
        drop((input, out.1, err.1));
        let plan = builder.stdin(second).stdout(third).stderr(first).plan().unwrap();
        let status = plan.status().unwrap();
        drop(plan);
        assert!(status.success(), "{name}");
        for (pipe, expected) in [(&mut out.0, "in out\n"), (&mut err.0, "err\n")] {
            let mut got = String::new();
            pipe.read_to_string(&mut got).unwrap();
            assert_eq!(got, expected, "{name}");
        }
    }
}

fn null() -> OwnedFd {
    let file = std::fs::File::open("/dev/null").unwrap();
    // Above the numbers that may be closed meanwhile.
    // SAFETY: an open file; the copy is new and nobody else's.
    unsafe {
        let copy = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 50);
        std::os::fd::FromRawFd::from_raw_fd(copy)
    }
}

#[test]
fn unpriv_wait_with_output_gives_what_was_not_taken() {
    need!(unprivileged, userns);
    let builder = confined(["seq", "echo", "out", ",", "err", "err", ",", "eof"]);
    let plan =
        builder.stdin(Stdio::Piped).stdout(Stdio::Piped).stderr(Stdio::Piped).plan().unwrap();
    let taken = within(LONG, move || {
        // It closes stdin itself, or this would never end.
        let whole = plan.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(text(&whole.stdout), "out\neof=0\n");
        let part = plan.spawn().unwrap();
        let mut out = part.take_stdout().unwrap();
        drop(part.take_stdin());
        let rest = part.wait_with_output().unwrap();
        let mut got = String::new();
        out.read_to_string(&mut got).unwrap();
        (got, rest)
    });
    assert_eq!(taken.0, "out\neof=0\n");
    assert_eq!((text(&taken.1.stdout), text(&taken.1.stderr)), ("".into(), "err\n".into()));
    assert!(payload().is_file() && soon(Duration::ZERO, || true));
}
