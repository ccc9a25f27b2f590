//! Limits of time, which bite though nobody waits: one thread for all of a process.

use crate::handle::Live;
use crate::status::Clock;
use ireko_sys::PerProcess;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Cpu time is looked at this often at the most, and at least.
const SOONEST: Duration = Duration::from_millis(2);
const LATEST: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Timers {
    due: Mutex<Due>,
    changed: Condvar,
    started: std::sync::OnceLock<()>,
}

#[derive(Default)]
struct Due {
    /// By when they are due, and a count that tells those of one instant apart.
    timers: BTreeMap<(Instant, u64), Timer>,
    count: u64,
}

struct Timer {
    live: Weak<Live>,
    /// `None`: wall time, and it is now.
    cpu: Option<Duration>,
}

static TIMERS: PerProcess<Timers> = PerProcess::new();

/// A limit of time of a container that has not ended; taken back when dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    count: u64,
    process: u32,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // In a fork of the program it is not ours.
        if self.process == std::process::id() {
            let timers = TIMERS.get(Timers::default);
            let mut due = timers.due.lock().unwrap_or_else(PoisonError::into_inner);
            due.timers.retain(|(_, count), _| *count != self.count);
        }
    }
}

/// Ends it at this instant.
pub(crate) fn wall(live: &Arc<Live>, at: Instant) -> Pending {
    add(at, Timer { live: Arc::downgrade(live), cpu: None })
}

/// Ends it when what is inside has used so much cpu time.
pub(crate) fn cpu(live: &Arc<Live>, limit: Duration) -> Pending {
    let at = Instant::now() + pause(limit);
    add(at, Timer { live: Arc::downgrade(live), cpu: Some(limit) })
}

/// No sooner can so much be used on every core at once.
fn pause(left: Duration) -> Duration {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    (left / cores).clamp(SOONEST, LATEST)
}

fn add(at: Instant, timer: Timer) -> Pending {
    let timers = TIMERS.get(Timers::default);
    timers.started.get_or_init(|| {
        // Without the thread, no limit: a start that wants one then never returns from
        // here, but a process that cannot have a thread could not have started either.
        let _ = std::thread::Builder::new()
            .name("ireko-timer".into())
            .stack_size(64 << 10)
            .spawn(move || serve(timers));
    });
    let mut due = timers.due.lock().unwrap_or_else(PoisonError::into_inner);
    due.count += 1;
    let count = due.count;
    due.timers.insert((at, count), timer);
    timers.changed.notify_one();
    Pending { count, process: std::process::id() }
}

fn serve(timers: &Timers) {
    // SAFETY: the kernel's mask is 8 bytes. No handler of the host program runs here.
    unsafe {
        let all = u64::MAX;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0, 8);
    }
    let mut due = timers.due.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let now = Instant::now();
        let Some((&(at, count), _)) = due.timers.first_key_value() else {
            due = timers.changed.wait(due).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        if at > now {
            due = timers
                .changed
                .wait_timeout(due, at - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            continue;
        }
        let Some(timer) = due.timers.remove(&(at, count)) else { continue };
        drop(due);
        let again = bite(&timer);
        due = timers.due.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pause) = again {
            due.timers.insert((Instant::now() + pause, count), timer);
        }
    }
}

/// Does what is due; when to look again.
fn bite(timer: &Timer) -> Option<Duration> {
    let live = timer.live.upgrade()?;
    if live.has_ended() {
        return None;
    }
    let Some(limit) = timer.cpu else {
        live.time_out(Clock::Wall);
        return None;
    };
    let used = live.cpu_time()?;
    if used >= limit {
        live.time_out(Clock::Cpu);
        return None;
    }
    Some(pause(limit - used))
}
