//! Running one test binary.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::summary::Summary;

/// How long one binary may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);
/// How long to listen after its end, to what its children may still hold open.
const GRACE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(10);

/// Runs the command, shows what it prints, and sums up.
pub(crate) fn run(name: &str, command: &mut Command, limit: Duration) -> Summary {
    let deadline = Instant::now() + limit;
    // A group of its own, to be killed as a whole.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Summary::failure(format!("{name}: cannot be started: {error}")),
    };
    let (send, lines) = channel();
    if let Some(stdout) = child.stdout.take() {
        spawn(move || forward(stdout, &send));
    }
    let mut summary = Summary::default();
    let (mut results, mut ended, mut silent) = (0, None, false);
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => {
                println!("{line}");
                results += usize::from(summary.take_line(name, &line).is_some());
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                silent = true;
                sleep(TICK);
            }
        }
        if ended.is_none() {
            ended = child.try_wait().ok().flatten().map(|status| (status, Instant::now()));
        }
        match ended {
            Some((status, at)) if silent || at.elapsed() > GRACE => {
                kill_group(child.id());
                let unexplained = !status.success() && summary.failed == 0;
                if results == 0 || unexplained {
                    let how = describe(status);
                    summary.add(Summary::failure(format!("{name}: {how}, and no such result")));
                }
                return summary;
            }
            None if Instant::now() > deadline => {
                kill_group(child.id());
                let _ = child.wait();
                let seconds = limit.as_secs();
                summary.add(Summary::failure(format!("{name}: stopped after {seconds} s")));
                return summary;
            }
            _ => {}
        }
    }
}

/// Sends every line, whatever bytes it has.
fn forward(from: impl Read, to: &Sender<String>) {
    for line in BufReader::new(from).split(b'\n') {
        let Ok(line) = line else { return };
        if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
    }
}

fn kill_group(leader: u32) {
    // The shell's own: no call of the C library is needed for this alone.
    let kill = format!("kill -KILL -{leader}");
    let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Summary {
        run("sh", Command::new("sh").args(["-c", script]), limit)
    }

    const GOOD: &str = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured'";

    #[test]
    fn the_sums_are_the_binarys() {
        assert_eq!(sh(GOOD, LIMIT).line(), "2 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn an_end_without_a_result_is_a_failure() {
        let summary = sh("echo 'test a ... ok'; kill -ABRT $$", LIMIT);
        assert_eq!(summary.failures, ["sh: killed by signal 6, and no such result"]);
        assert_eq!(sh("exit 0", LIMIT).line(), "0 passed, 1 failed, 0 skipped");
        assert_eq!(sh(&format!("{GOOD}; exit 3"), LIMIT).line(), "2 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn what_hangs_is_stopped() {
        let begin = Instant::now();
        let summary = sh("sleep 60; true", Duration::from_millis(200));
        assert_eq!(summary.failures, ["sh: stopped after 0 s"]);
        assert!(begin.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn an_orphan_with_our_pipe_does_not_hold_us() {
        let begin = Instant::now();
        let summary = sh(&format!("setsid sleep 10 & {GOOD}"), LIMIT);
        assert_eq!(summary.line(), "2 passed, 0 failed, 0 skipped");
        assert!(begin.elapsed() < Duration::from_secs(8));
    }
}
