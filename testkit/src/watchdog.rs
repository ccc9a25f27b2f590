//! A test that hangs fails instead.

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

use crate::proc;

/// Runs the closure in a thread and returns what it returns.
///
/// # Panics
/// As the closure does; and when it takes longer than `limit`, saying what the threads and the
/// children of this process wait for. The thread is left behind then.
#[track_caller]
pub fn within<T, F>(limit: Duration, run: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (send, receive) = channel();
    let name = std::thread::current().name().unwrap_or("within").to_owned();
    let thread = Builder::new().name(name).spawn(move || {
        let value = run();
        // Nobody listens any more when it was too late.
        let _ = send.send(value);
    });
    let thread = thread.expect("a thread to watch");
    match receive.recv_timeout(limit) {
        Ok(value) => {
            let _ = thread.join();
            value
        }
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => resume_unwind(panic),
            Ok(()) => unreachable!("the value is sent before the thread ends"),
        },
        Err(RecvTimeoutError::Timeout) => {
            panic!("stuck for {limit:?}\n{}", waiting().join("\n"))
        }
    }
}

/// What our threads and our children wait for.
fn waiting() -> Vec<String> {
    let own = std::process::id();
    let mut lines: Vec<String> = proc::threads(own)
        .into_iter()
        .map(|(tid, name)| format!("thread {tid} {name}: {}", waits(&format!("{own}/task/{tid}"))))
        .collect();
    lines.extend(proc::processes().into_iter().filter(|one| one.parent == own).map(|one| {
        format!("child {} {} ({}): {}", one.pid, one.comm, one.state, waits(&one.pid.to_string()))
    }));
    lines
}

fn waits(of: &str) -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{of}/{name}"));
    let channel = read("wchan").unwrap_or_default();
    let call = read("syscall").unwrap_or_default();
    format!("{} syscall {}", channel.trim(), call.split(' ').next().unwrap_or("?").trim())
}
