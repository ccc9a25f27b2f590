use crate::groups::Groups;
use crate::ids::Claim;
use crate::plan::Inner;
use crate::status::{Cause, Clock};
use crate::timers::{self, Pending};
use crate::{Enforcement, Error, ExitStatus, Id, Output, Preset, Result, Signal, Size, Stage};
use ireko_cgroups::OomScope;
use ireko_namespaces::start::{Pipes, Started};
use ireko_namespaces::{Namespaces, NsFd};
use ireko_sys::{ErrorKind, Pidfd, Reaped};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A container: live from `spawn()` on, its exit kept once it has ended.
///
/// Any number of threads may use it at once: one waits, another stops it.
/// Dropping it kills everything inside, waits, and removes what was made for it: in
/// async code drop it where blocking is allowed. When this program is killed its
/// containers end with it.
///
/// As an fd it is the pidfd, readable when the first process has ended: epoll, mio and
/// tokio's `AsyncFd` take it, or an `Arc` of it.
#[derive(Debug)]
#[must_use = "dropping it kills it"]
pub struct Container {
    live: Arc<Live>,
    pipes: Pipes,
    enforcement: Enforcement,
    stop_signal: Signal,
    output_limit: Size,
}

/// What a timer may need of a container that nobody waits for.
#[derive(Debug)]
pub(crate) struct Live {
    id: Id,
    pid: u32,
    pidfd: Pidfd,
    began: Instant,
    pid_ns: bool,
    /// Who ended it, see the constants below.
    ended_by: AtomicU8,
    rest: Mutex<Rest>,
}

#[derive(Debug)]
struct Rest {
    timers: Vec<Pending>,
    groups: Option<Groups>,
    claim: Option<Claim>,
    status: Option<ExitStatus>,
}

const NOBODY: u8 = 0;
const STOP: u8 = 1;
const KILL: u8 = 2;
const WALL: u8 = 3;
const CPU: u8 = 4;

impl Live {
    pub(crate) fn new(
        inner: &Inner,
        id: Id,
        started: Started,
        began: Instant,
        groups: Option<Groups>,
        claim: Option<Claim>,
    ) -> Arc<Self> {
        let live = Arc::new(Self {
            id,
            pid: started.pid,
            pidfd: started.pidfd,
            began,
            pid_ns: inner.blueprint.shape.has(Namespaces::PID),
            ended_by: AtomicU8::new(NOBODY),
            rest: Mutex::new(Rest { timers: Vec::new(), groups, claim, status: None }),
        });
        // One that is past all time is none.
        let end = inner.config.timeout.and_then(|timeout| began.checked_add(timeout));
        let wall = end.map(|end| timers::wall(&live, end));
        let cpu = inner.config.cpu_time.map(|limit| timers::cpu(&live, limit));
        live.rest().timers.extend(wall.into_iter().chain(cpu));
        live
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A limit of time passed: all is killed, unless it has ended.
    pub(crate) fn time_out(&self, clock: Clock) {
        let by = if clock == Clock::Wall { WALL } else { CPU };
        self.end(by);
    }

    /// The cpu time of everything inside, where it is counted.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let rest = self.rest();
        rest.groups.as_ref().and_then(Groups::cpu_time)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.pidfd.poll(Some(Duration::ZERO)).unwrap_or(true)
    }

    /// SIGKILL to everything inside. The first to say why is the one who is told of.
    fn end(&self, by: u8) {
        if self.has_ended() {
            return;
        }
        let _ = self.ended_by.compare_exchange(NOBODY, by, Ordering::AcqRel, Ordering::Acquire);
        // With a pid namespace the kernel takes the others along.
        let _ = self.pidfd.signal(Signal::KILL);
        if !self.pid_ns {
            let rest = self.rest();
            if let Some(groups) = &rest.groups {
                groups.kill();
            }
        }
    }

    /// The status, when the first process has ended; taken and kept by the first to ask.
    fn finish(&self) -> Result<Option<ExitStatus>> {
        let mut rest = self.rest();
        if let Some(status) = &rest.status {
            return Ok(Some(status.clone()));
        }
        let Some(reaped) = self.pidfd.try_wait()? else { return Ok(None) };
        let wall = self.began.elapsed();
        // Usage and verdict first: they go with the groups.
        let (mut usage, oom) = rest.groups.as_ref().map_or_else(Default::default, Groups::verdict);
        usage.wall = wall;
        if usage.cpu().is_zero() {
            usage.cpu_user = reaped.cpu_user;
            usage.cpu_system = reaped.cpu_system;
        }
        usage.max_rss = (reaped.max_rss > own_rss()).then(|| Size::bytes(reaped.max_rss));
        let by = self.ended_by.load(Ordering::Acquire);
        let status = ExitStatus { raw: reaped.status, cause: cause(by, &reaped, oom), oom, usage };
        if self.pid_ns {
            // Nobody is left inside.
            rest.groups = None;
            rest.claim = None;
        }
        rest.status = Some(status.clone());
        let timers = std::mem::take(&mut rest.timers);
        drop(rest);
        drop(timers);
        Ok(Some(status))
    }
}

/// The most that this program itself had. A child that shares its memory up to exec is
/// said to have had as much.
fn own_rss() -> u64 {
    let own = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    own.map_or(0, |own| u64::try_from(own.max_rss()).unwrap_or(0) << 10)
}

fn cause(by: u8, reaped: &Reaped, oom: Option<OomScope>) -> Cause {
    use std::os::unix::process::ExitStatusExt;
    let signal = reaped.status.signal().and_then(|n| Signal::try_from(n).ok());
    let killed = signal == Some(Signal::KILL);
    match by {
        // A limit of time may have come before the end of the grace.
        STOP => return Cause::Stopped { killed },
        KILL => return Cause::Stopped { killed: true },
        WALL if killed => return Cause::TimedOut(Clock::Wall),
        CPU if killed => return Cause::TimedOut(Clock::Cpu),
        _ => {}
    }
    match signal {
        Some(Signal::KILL) if oom.is_some() => Cause::OutOfMemory,
        Some(Signal::SYS) => Cause::ForbiddenSyscall,
        Some(signal) => Cause::Signaled(signal),
        None => Cause::Exited(reaped.status.code().unwrap_or(-1)),
    }
}

impl Container {
    /// A container confined as [`Preset::Standard`], with the host's own system tree
    /// read-only as its root. Needs no privilege, image or network. Linux 5.12.
    pub fn builder() -> crate::Builder {
        crate::Builder::new(Some(Preset::default()))
    }

    /// A process as `std::process::Command` would start it: nothing is isolated or
    /// limited until asked for.
    pub fn bare() -> crate::Builder {
        crate::Builder::new(None)
    }

    pub(crate) fn new(
        live: Arc<Live>,
        pipes: Pipes,
        enforcement: Enforcement,
        inner: &Inner,
    ) -> Self {
        Self {
            live,
            pipes,
            enforcement,
            stop_signal: inner.config.stop_signal.unwrap_or(Signal::TERM),
            output_limit: inner.config.output_limit.unwrap_or(Size::mib(64)),
        }
    }

    /// Removes what killed programs of this user left behind; tells how much.
    ///
    /// # Errors
    /// `Denied` where groups cannot be looked at.
    pub fn gc() -> Result<usize> {
        crate::groups::gc()
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.live.id
    }

    /// The number of its first process, in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.live.pid
    }

    /// Waits for its end. Any number of threads may wait; all get the same answer.
    ///
    /// # Errors
    /// `Lost` when another part of the program took the status and the kernel cannot
    /// tell it any more (before 6.15).
    pub fn wait(&self) -> Result<ExitStatus> {
        loop {
            self.live.pidfd.poll(None)?;
            if let Some(status) = self.live.finish()? {
                return Ok(status);
            }
        }
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.live.finish()
    }

    /// Waits this long; `None` when it still runs then. Kills nothing.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.live.pidfd.poll(Some(timeout))?;
        self.live.finish()
    }

    /// Closes its stdin, reads both pipes and waits: for the program, not for what it
    /// left behind with the pipes open. [`output_limit`](crate::Builder::output_limit)
    /// holds.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_with_output(&self) -> Result<Output> {
        drop(self.take_stdin());
        let limit = usize::try_from(self.output_limit.as_bytes()).unwrap_or(usize::MAX);
        let drained = crate::output::drain(
            self.take_stdout(),
            self.take_stderr(),
            self.live.pidfd.as_fd(),
            limit,
        )?;
        Ok(Output {
            status: self.wait()?,
            stdout: drained.stdout,
            stderr: drained.stderr,
            truncated: drained.truncated,
            enforcement: self.enforcement.clone(),
        })
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// `NotFound` when it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(self.live.pidfd.signal(signal)?)
    }

    /// The stop signal, and after `grace` SIGKILL to everything inside. The status
    /// says which of them it took. One that has ended by itself keeps its cause.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn stop(&self, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let by = &self.live.ended_by;
        let _ = by.compare_exchange(NOBODY, STOP, Ordering::AcqRel, Ordering::Acquire);
        match self.live.pidfd.signal(self.stop_signal) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        let _ = by.compare_exchange(STOP, KILL, Ordering::AcqRel, Ordering::Acquire);
        self.live.end(KILL);
        self.wait()
    }

    /// SIGKILL to everything inside, whatever forks meanwhile. Nothing happens to one
    /// that has ended.
    ///
    /// # Errors
    /// None today; kept for hosts where the kernel may refuse.
    pub fn kill(&self) -> Result<()> {
        self.live.end(KILL);
        Ok(())
    }

    /// What is in force, and what was not to be had.
    #[must_use]
    pub fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// One of its namespaces.
    ///
    /// # Errors
    /// `Invalid` for several kinds at once; `NotFound` when it has ended.
    pub fn namespace(&self, kind: Namespaces) -> Result<NsFd> {
        NsFd::of_process(&self.live.pidfd, kind).map_err(|e| Error::from(e).at(Stage::Running))
    }

    /// The pipe to its stdin, once, when that was [`Stdio::Piped`](crate::Stdio::Piped).
    #[must_use]
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        self.pipes.take_stdin()
    }

    /// The pipe from its stdout, once.
    #[must_use]
    pub fn take_stdout(&self) -> Option<PipeReader> {
        self.pipes.take_stdout()
    }

    /// The pipe from its stderr, once.
    #[must_use]
    pub fn take_stderr(&self) -> Option<PipeReader> {
        self.pipes.take_stderr()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.live.end(KILL);
        // It is killed, so it ends; one in an uninterruptible wait is left to the kernel
        // rather than waited for for ever.
        let _ = self.live.pidfd.poll(Some(Duration::from_secs(10)));
        let _ = self.live.finish();
        let mut rest = self.live.rest();
        // Kills who is still inside, and removes the groups.
        rest.groups = None;
        rest.claim = None;
    }
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.live.pidfd.as_fd()
    }
}

impl AsRawFd for Container {
    fn as_raw_fd(&self) -> RawFd {
        self.live.pidfd.as_raw_fd()
    }
}
