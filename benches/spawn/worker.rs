//! The side that starts containers with `ireko`, or other programs: line in, numbers out.

use crate::peers;
use ireko::cgroups::Cpu;
use ireko::namespaces::Namespaces;
use ireko::{Builder, Container, Plan, Size};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// `worker ROOTFS HEAP [PEER PROGRAM [BUNDLE]]`: answers until its input ends.
pub(crate) fn serve(words: &[String]) -> ExitCode {
    let [root, heap, peer @ ..] = words else { return ExitCode::FAILURE };
    if peer.first().is_some_and(|name| name == "crun") {
        peers::hide_unified();
    }
    let mut worker = Worker::new(Path::new(root), peer);
    touch(heap.parse().unwrap_or(0));
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let answer = worker.answer(&line).unwrap_or_else(|error| format!("error {error}"));
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Memory that a copying start would have to copy: small pages, each of them written to.
fn touch(mib: usize) {
    let size = mib << 20;
    if size == 0 {
        return;
    }
    // SAFETY: a new mapping, written to within its length, and kept until the end.
    unsafe {
        let (read_write, private) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let heap = libc::mmap(std::ptr::null_mut(), size, read_write, private, -1, 0);
        assert_ne!(heap, libc::MAP_FAILED, "no memory");
        libc::madvise(heap, size, libc::MADV_NOHUGEPAGE);
        for page in (0..size).step_by(4096) {
            heap.cast::<u8>().add(page).write_volatile(1);
        }
    }
}

struct Worker {
    root: PathBuf,
    /// Planned when first asked for.
    plans: Vec<(&'static str, Plan)>,
    peer: Option<peers::Peer>,
}

impl Worker {
    fn new(root: &Path, peer: &[String]) -> Self {
        Self { root: root.to_owned(), plans: Vec::new(), peer: peers::Peer::new(root, peer) }
    }

    fn answer(&mut self, line: &str) -> Result<String, String> {
        if let Some(words) = line.strip_prefix("threads ") {
            return self.threads(words);
        }
        let taken = match line {
            "bare" => self.spawn("bare"),
            "six" => self.spawn("six"),
            "full" => self.spawn("full"),
            "user-full" => self.spawn("user-full"),
            "full-anew" => {
                let builder = self.builder("full");
                let begin = Instant::now();
                builder.plan().map_err(text).and_then(|plan| once(&plan))?;
                Ok(begin.elapsed())
            }
            "command" => {
                let mut command = Command::new(self.root.join("bin/true"));
                time(|| peers::succeed(&mut command))
            }
            _ => {
                let peer = self.peer.as_ref().ok_or("no such row")?;
                let mut command = peer.command()?;
                time(|| peers::succeed(&mut command))
            }
        };
        taken.map(|taken| taken.as_nanos().to_string())
    }

    fn builder(&self, row: &str) -> Builder {
        let six = Namespaces::PID
            | Namespaces::MOUNT
            | Namespaces::NET
            | Namespaces::IPC
            | Namespaces::UTS
            | Namespaces::CGROUP;
        let bare = Container::bare().command(self.root.join("bin/true"));
        match row {
            "bare" => bare,
            "six" => bare.unshare(six),
            "full" => self
                .builder("user-full")
                .memory_limit(Size::mib(64))
                .cpu_limit(Cpu::cores(1.0))
                .pids_limit(64),
            _ => Container::builder().rootfs(self.root.as_path()).command("/bin/true"),
        }
    }

    fn plan(&mut self, row: &'static str) -> Result<&Plan, String> {
        let known = self.plans.iter().position(|(name, _)| *name == row);
        let at = match known {
            Some(at) => at,
            None => {
                let plan = self.builder(row).plan().map_err(text)?;
                self.plans.push((row, plan));
                self.plans.len() - 1
            }
        };
        Ok(&self.plans[at].1)
    }

    fn spawn(&mut self, row: &'static str) -> Result<Duration, String> {
        let plan = self.plan(row)?;
        time(|| once(plan))
    }

    /// Starts from so many threads for so long: starts a second, and how many failed.
    fn threads(&mut self, words: &str) -> Result<String, String> {
        let (threads, seconds) = words.split_once(' ').ok_or("threads N SECONDS")?;
        let threads: usize = threads.parse().map_err(|_| "not a number")?;
        let seconds: f64 = seconds.parse().map_err(|_| "not a number")?;
        let plan = self.plan("full")?;
        once(plan)?;
        let (stop, started, failed) =
            (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let count = match once(plan) {
                            Ok(()) => &started,
                            Err(error) => {
                                eprintln!("# failed: {error}");
                                &failed
                            }
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::thread::sleep(Duration::from_secs_f64(seconds));
            stop.store(true, Ordering::Relaxed);
        });
        let rate = started.into_inner() as f64 / begin.elapsed().as_secs_f64();
        Ok(format!("{rate} {}", failed.into_inner()))
    }
}

/// Starts one, waits for it, and has it cleaned up.
fn once(plan: &Plan) -> Result<(), String> {
    let container = plan.spawn().map_err(text)?;
    let status = container.wait().map_err(text)?;
    drop(container);
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

fn time(what: impl FnOnce() -> Result<(), String>) -> Result<Duration, String> {
    let begin = Instant::now();
    what()?;
    Ok(begin.elapsed())
}

fn text(error: ireko::Error) -> String {
    match error.remedy() {
        Some(remedy) => format!("{error}; {remedy}"),
        None => error.to_string(),
    }
}
