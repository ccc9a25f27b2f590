//! Ending everything in a group, on both versions.

use crate::fs;
use crate::{ErrorKind, Result, text, tree};
use ireko_sys::{Errno, Failure, Pidfd, Signal};
use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Kills what is in these directories, one group's in several hierarchies, and
/// returns when they are empty of living processes.
pub(crate) fn kill(dirs: &[BorrowedFd<'_>], within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    // v2, Linux 5.14: no fork escapes it.
    let by_kernel = |dir: &BorrowedFd<'_>| fs::write(*dir, c"cgroup.kill", b"1").is_ok();
    let (killed, by_hand): (Vec<_>, Vec<_>) = dirs.iter().copied().partition(by_kernel);
    let held = if by_hand.is_empty() { None } else { Some(Held::new(&by_hand)) };
    let mut pause = Duration::from_micros(50);
    loop {
        let alive = match &held {
            Some(held) => held.round(),
            None => false,
        };
        let alive = alive || killed.iter().any(|dir| populated(*dir));
        if !alive {
            return Ok(());
        }
        if Instant::now() > deadline {
            let who = dirs.iter().flat_map(|dir| tree::pids(*dir)).next();
            let who = who.map_or("a process".to_owned(), |pid| format!("process {pid}"));
            let why = format!("{who} has not ended: it may be in uninterruptible sleep");
            return Err(Failure::ours(ErrorKind::TimedOut, "kill what is in a group", why).into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Whether anything lives in a v2 group or below it.
pub(crate) fn populated(dir: BorrowedFd<'_>) -> bool {
    match fs::read(dir, c"cgroup.events") {
        Ok(text) => text::keyed(&text, "populated") != Some(0),
        // Removed.
        Err(_) => false,
    }
}

/// Groups without `cgroup.kill`: forks are forbidden and, where there is a freezer,
/// everybody stops, so that none is missed.
struct Held<'a> {
    dirs: &'a [BorrowedFd<'a>],
    pids_max: Vec<(BorrowedFd<'a>, String)>,
}

impl<'a> Held<'a> {
    fn new(dirs: &'a [BorrowedFd<'a>]) -> Self {
        let mut pids_max = Vec::new();
        for dir in dirs {
            if let Ok(old) = fs::read(*dir, c"pids.max")
                && fs::write(*dir, c"pids.max", b"0").is_ok()
            {
                pids_max.push((*dir, old));
            }
        }
        Self { dirs, pids_max }
    }

    /// Kills whom it finds; whether anybody was found.
    fn round(&self) -> bool {
        let found = self.pids();
        if found.is_empty() {
            return false;
        }
        self.freezer("FROZEN", b"1");
        // Opened, then listed again: a number that was given to another process in
        // between is either not listed, or is in the group as well.
        let opened: Vec<_> = self.pids().into_iter().map(|pid| (pid, Pidfd::open(pid))).collect();
        let still: HashSet<u32> = self.pids().into_iter().collect();
        for (pid, process) in opened {
            if let Ok(process) = process
                && still.contains(&pid)
            {
                let _ = process.signal(Signal::KILL);
            }
        }
        // v1 delivers no signal to the frozen.
        self.freezer("THAWED", b"0");
        true
    }

    fn pids(&self) -> Vec<u32> {
        self.dirs.iter().flat_map(|dir| tree::pids(*dir)).collect()
    }

    fn freezer(&self, v1: &str, v2: &[u8]) {
        for dir in self.dirs {
            if fs::write(*dir, c"freezer.state", v1.as_bytes()) == Err(Errno::ENOENT) {
                let _ = fs::write(*dir, c"cgroup.freeze", v2);
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for (dir, old) in &self.pids_max {
            let _ = fs::write(*dir, c"pids.max", old.trim().as_bytes());
        }
    }
}
