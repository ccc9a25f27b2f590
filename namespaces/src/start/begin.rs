//! The hand-shake, on the caller's side.

use super::helper;
use super::recipe::{Compiled, LEAVE, MAPS, Step, WAIT_FOR_MAPS, slot};
use super::starter::{Clone, Starter};
use crate::{Error, IdMaps, Namespaces, Result};
use ireko_child::{MISSED, NAME, SLOTS};
use ireko_sys::{Errno, ErrorKind, Failure, PerProcess, Pidfd, Signal};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long a start may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// One start of what was compiled, with what this one alone is given.
#[derive(Debug)]
#[must_use = "nothing starts until begin() or run()"]
pub struct Start<'a> {
    compiled: &'a Compiled,
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'a>>,
    slots: Vec<(u32, i64)>,
    stdio: [Option<RawFd>; 3],
    maps: Option<&'a IdMaps>,
    patience: Duration,
    name: &'a str,
}

/// A start that is under way: the child exists and waits for our word. Dropping it
/// kills the child.
#[derive(Debug)]
pub struct Begun {
    pidfd: Option<Pidfd>,
    pid: u32,
    socket: Option<OwnedFd>,
    starter: Option<StarterSlot>,
    deadline: Instant,
    released: bool,
    /// Held open until the child has them.
    kept: Vec<OwnedFd>,
}

struct StarterSlot(Starter);

impl std::fmt::Debug for StarterSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("starter")
    }
}

/// A program that was executed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// Its process.
    pub pidfd: Pidfd,
    /// Its number in the caller's pid namespace.
    pub pid: u32,
    /// Preferred steps that failed, by index.
    pub missed: Vec<(usize, Errno)>,
}

/// Why nothing was started.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// The step that failed, by index; `None`: it did not come to steps.
    pub step: Option<usize>,
    /// What its failure says, for those who know no steps.
    pub error: Error,
    /// The program is there, but not what its first line or its loader names.
    pub interpreter: bool,
    /// The child was killed in this step.
    pub killed: Option<Signal>,
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { step: None, error: error.into(), interpreter: false, killed: None }
    }
}

impl<'a> Start<'a> {
    /// Starts this in new namespaces of these kinds.
    pub fn new(compiled: &'a Compiled, namespaces: Namespaces) -> Self {
        Self {
            compiled,
            namespaces,
            cgroup: None,
            slots: Vec::new(),
            stdio: [None; 3],
            maps: None,
            patience: PATIENCE,
            name: "",
        }
    }

    /// Makes it in this directory of cgroup v2. Linux 5.7.
    pub fn cgroup(mut self, dir: BorrowedFd<'a>) -> Self {
        self.cgroup = Some(dir);
        self
    }

    /// What a slot holds: from [`slot::FREE`] on.
    pub fn slot(mut self, index: u32, value: i64) -> Self {
        self.slots.push((index, value));
        self
    }

    /// The name of this one, for a host name that is not in the plan: 64 bytes at most, of
    /// which the rest is left out.
    pub fn name(mut self, name: &'a str) -> Self {
        self.name = name;
        self
    }

    /// Where the standard streams come from. Default: the caller's.
    pub fn stdio(mut self, fds: [Option<RawFd>; 3]) -> Self {
        self.stdio = fds;
        self
    }

    /// The maps of the new user namespace, written while the child waits.
    pub fn id_maps(mut self, maps: &'a IdMaps) -> Self {
        self.maps = Some(maps);
        self
    }

    /// How long it may take. Default: 30 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Makes the child, which then waits for our word.
    ///
    /// # Errors
    /// What clone, or a step before the word, said.
    pub fn begin(&self) -> Result<Begun, Failed> {
        self.begin_with(None)
    }

    /// As [`begin`](Self::begin), and has `meanwhile` run while the child is being made:
    /// what that needs only later can be made then.
    ///
    /// # Errors
    /// As [`begin`](Self::begin); `meanwhile` was run all the same.
    pub fn begin_meanwhile(&self, mut meanwhile: impl FnMut()) -> Result<Begun, Failed> {
        self.begin_with(Some(&mut meanwhile))
    }

    fn begin_with(&self, meanwhile: Option<&mut dyn FnMut()>) -> Result<Begun, Failed> {
        match self.try_begin(helper::file()?, meanwhile) {
            // The step is the helper's exec: perhaps memfds may not be executed here.
            Err(failed) if self.was_helper_refused(&failed) => {
                self.try_begin(helper::refused()?, None)
            }
            answer => answer,
        }
    }

    fn was_helper_refused(&self, failed: &Failed) -> bool {
        let at_exec = failed.step.and_then(|i| self.compiled.steps().get(i));
        at_exec.is_some_and(|step| step.text == "execute the helper")
            && failed.killed.is_none()
            && matches!(failed.error.errno(), Some(Errno::EACCES | Errno::EPERM))
    }

    fn try_begin(
        &self,
        helper: std::sync::Arc<OwnedFd>,
        meanwhile: Option<&mut dyn FnMut()>,
    ) -> Result<Begun, Failed> {
        let starter = Starter::take()?;
        let deadline = Instant::now() + self.patience;
        let mut kept = Vec::new();
        let mut socket = None;
        let page = starter.page();
        page.step.store(0, Relaxed);
        page.errno.store(0, Relaxed);
        let mut name = [0u8; NAME * 8];
        for (place, byte) in name.iter_mut().take(64).zip(self.name.bytes()) {
            *place = byte;
        }
        for (word, bytes) in page.name.iter().zip(name.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*bytes), Relaxed);
        }
        page.note.store(0, Relaxed);
        for index in 0..self.compiled.steps().len().min(MISSED) {
            page.missed[index].store(0, Relaxed);
        }
        let set = |index: u32, value: i64| {
            if let Some(slot) = page.slots.get(index as usize) {
                slot.store(value, Relaxed);
            }
        };
        set(slot::CALLER, i64::from(caller()?));
        if let Some(plan) = self.compiled.plan() {
            let flags = SockFlag::SOCK_CLOEXEC;
            let (ours, its) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
                .map_err(|e| Failure::kernel("make a socket pair", e.into()))?;
            let (ours, its) = (high(ours)?, high(its)?);
            set(slot::HELPER, helper.as_raw_fd().into());
            set(slot::PLAN, plan.as_raw_fd().into());
            set(slot::PAGE, starter.page_fd().into());
            set(slot::SOCKET, its.as_raw_fd().into());
            kept.push(its);
            socket = Some(ours);
        }
        for (index, fd) in self.stdio.iter().enumerate() {
            let target = index as RawFd;
            let source = match *fd {
                Some(fd) => fd,
                None if is_open(target) => target,
                // As std does for a program without the stream.
                None => {
                    let null = std::fs::OpenOptions::new()
                        .read(true)
                        .write(true)
                        .open("/dev/null")
                        .map_err(|e| Failure::kernel("open /dev/null", Errno::of(&e)))?;
                    kept.push(ireko_sys::above(10, null)?);
                    kept.last().map_or(-1, AsRawFd::as_raw_fd)
                }
            };
            // A low number could be overwritten before it is used.
            let source = if source < 10 && source != target {
                // SAFETY: whoever set it keeps it open during this call.
                let borrowed = unsafe { BorrowedFd::borrow_raw(source) };
                kept.push(ireko_sys::above(10, borrowed)?);
                kept.last().map_or(-1, AsRawFd::as_raw_fd)
            } else {
                source
            };
            set(slot::STDIN + index as u32, source.into());
        }
        for (index, value) in &self.slots {
            set(*index, *value);
        }
        let mut flags = u64::from(self.namespaces.bits());
        let mut cgroup = 0;
        if let Some(dir) = self.cgroup {
            flags |= ireko_child::abi::CLONE_INTO_CGROUP;
            cgroup = dir.as_raw_fd() as u64;
        }
        // One cpu for all is right where the caller waits anyway.
        let bound = self.compiled.is_helped() && meanwhile.is_none();
        let start = Clone { compiled: self.compiled, flags, cgroup, deadline, bound };
        let cloned = starter.clone(start, meanwhile);
        if cloned.answer < 0 {
            let errno = Errno::from_raw(-cloned.answer as i32);
            starter.give_back();
            return Err(clone_failed(self.namespaces, errno).into());
        }
        // SAFETY: the kernel made it for us in this clone.
        let pidfd = Pidfd::from(high(unsafe { OwnedFd::from_raw_fd(cloned.pidfd) })?);
        // Its ends of pipes and sockets are the child's now.
        kept.clear();
        let begun = Begun {
            pidfd: Some(pidfd),
            pid: cloned.pid as u32,
            socket,
            starter: Some(StarterSlot(starter)),
            deadline,
            released: false,
            kept,
        };
        if begun.page_errno() != 0 || cloned.late {
            return Err(begun.fail(self.compiled));
        }
        if let Some(maps) = self.maps
            && let Err(error) = maps.write(begun.pidfd(), begun.pid)
        {
            // It may have failed because the child is gone: then its reason counts.
            let gone = begun.pidfd().poll(Some(Duration::ZERO)).unwrap_or(false);
            if gone || begun.page_errno() != 0 {
                return Err(begun.fail(self.compiled));
            }
            let wait = |step: &Step| step.text == WAIT_FOR_MAPS;
            let step = self.compiled.steps().iter().position(wait);
            return Err(Failed { step, ..error.into() });
        }
        Ok(begun)
    }

    /// Starts it: the program has been executed when this returns.
    ///
    /// # Errors
    /// The step that failed, and why; nothing is left running.
    pub fn run(&self) -> Result<Started, Failed> {
        self.begin()?.go(self.compiled)
    }
}

impl Begun {
    /// The child.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "it is there until drop")]
    pub fn pidfd(&self) -> &Pidfd {
        self.pidfd.as_ref().expect("taken by go and drop alone")
    }

    /// Its number in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn page_errno(&self) -> i32 {
        self.starter.as_ref().map_or(0, |s| s.0.page().errno.load(Relaxed))
    }

    /// Gives the first word: the id maps are written. These files come with it, for the
    /// slots that the recipe names. The child goes on, while the caller sees to other
    /// things before it gives the last with [`go`](Self::go).
    pub fn release(&mut self, files: &[BorrowedFd<'_>]) {
        self.released = true;
        self.say(MAPS, files);
    }

    /// Waits until the child has come past this step, or to its end.
    pub fn wait_passed(&self, step: usize) {
        let Some(starter) = &self.starter else { return };
        let pause = Some(Duration::from_micros(50));
        while starter.0.page().step.load(Relaxed) as usize <= step
            && self.page_errno() == 0
            && self.deadline > Instant::now()
            && !self.pidfd().poll(pause).unwrap_or(true)
        {}
    }

    fn say(&self, word: u8, files: &[BorrowedFd<'_>]) {
        let Some(socket) = &self.socket else { return };
        let files: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&files)];
        let control = if files.is_empty() { &rights[..0] } else { &rights[..] };
        let part = [IoSlice::new(std::slice::from_ref(&word))];
        // EPIPE: the child is gone, which the wait finds.
        let _ = sendmsg::<()>(socket.as_raw_fd(), &part, control, MsgFlags::MSG_NOSIGNAL, None);
    }

    /// Gives the last word and waits until the program has been executed.
    ///
    /// # Errors
    /// The step that failed, and why; nothing is left running.
    pub fn go(mut self, compiled: &Compiled) -> Result<Started, Failed> {
        if !self.released {
            self.release(&[]);
        }
        self.say(LEAVE, &[]);
        let Some(socket) = &self.socket else {
            // In place: that clone returned says that it was executed, or failed before.
            return if self.page_errno() != 0 {
                Err(self.fail(compiled))
            } else {
                Ok(self.started(compiled))
            };
        };
        // Its end closes at exec. A host that forks in this instant may hold it open
        // longer: so the process is watched as well.
        let last = compiled.steps().len().saturating_sub(1);
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.fail(compiled));
            }
            let mut fds = [socket.as_raw_fd(), self.pidfd().as_raw_fd()].map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            });
            let millis = left.as_millis().min(1000) as i32;
            // SAFETY: two pollfds on this stack.
            let n = unsafe { libc::poll(fds.as_mut_ptr(), 2, millis) };
            if n < 0 && Errno::last().raw() != libc::EINTR {
                return Err(Failure::kernel("poll", Errno::last()).into());
            }
            if n > 0 {
                break;
            }
        }
        let page = self.starter.as_ref().map(|s| s.0.page());
        let (errno, step) = page
            .map_or((0, 0), |page| (page.errno.load(Relaxed), page.step.load(Relaxed) as usize));
        if errno != 0 || step != last {
            return Err(self.fail(compiled));
        }
        Ok(self.started(compiled))
    }

    /// Whether it has ended, or is about to, before it came to its program: [`go`](Self::go)
    /// then tells why. Waits for an end that is under way.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.page_errno() != 0
            || self.pidfd().poll(Some(Duration::from_millis(100))).unwrap_or(true)
    }

    fn started(&mut self, compiled: &Compiled) -> Started {
        let mut missed = Vec::new();
        if let Some(starter) = self.starter.take() {
            for (index, step) in compiled.steps().iter().enumerate().take(MISSED) {
                if step.preferred {
                    let errno = starter.0.page().missed[index].load(Relaxed);
                    if errno != 0 {
                        missed.push((index, Errno::from_raw(errno.into())));
                    }
                }
            }
            starter.0.give_back();
        }
        let pidfd = self.pidfd.take().expect("taken by go and drop alone");
        Started { pidfd, pid: self.pid, missed }
    }

    /// Ends the child and tells why it did not come to its program.
    fn fail(mut self, compiled: &Compiled) -> Failed {
        let late = Instant::now() >= self.deadline;
        let pidfd = self.pidfd.take().expect("taken by go and drop alone");
        // Before the kill: the end of its own making counts.
        let own_end = pidfd.poll(Some(Duration::ZERO)).unwrap_or(false) || self.page_errno() != 0;
        let _ = pidfd.signal(Signal::KILL);
        let status = pidfd.wait().ok().map(|reaped| reaped.status);
        let (errno, step, interpreter) = self.starter.as_ref().map_or((0, 0, false), |s| {
            let page = s.0.page();
            let interpreter = page.note.load(Relaxed) != 0;
            (page.errno.load(Relaxed), page.step.load(Relaxed) as usize, interpreter)
        });
        if let Some(starter) = self.starter.take() {
            starter.0.give_back();
        }
        let what = compiled.steps().get(step).map_or_else(String::new, |s| s.text.clone());
        if errno == 0 && late && !own_end {
            let reason = "the start took longer than it may";
            let failure = Failure::ours(ErrorKind::TimedOut, what, reason);
            return Failed { step: Some(step), error: failure.into(), interpreter, killed: None };
        }
        if errno == 0 {
            let signal = status.and_then(|s| s.signal()).and_then(|s| Signal::try_from(s).ok());
            let reason = signal.map_or_else(
                || {
                    format!(
                        "the start ended here ({})",
                        status.map_or("status lost".into(), |s| s.to_string())
                    )
                },
                |signal| format!("the start was killed here by {signal}"),
            );
            let failure = Failure::ours(ErrorKind::Kernel, what, reason);
            return Failed { step: Some(step), error: failure.into(), interpreter, killed: signal };
        }
        let failure = if errno == libc::EUCLEAN {
            Failure::ours(
                ErrorKind::Kernel,
                what,
                "what the kernel made of it is not what was asked",
            )
        } else if errno == libc::ESTALE {
            Failure::ours(
                ErrorKind::Conflict,
                what,
                "another file has taken its place since it was planned",
            )
        } else {
            Failure::kernel(what, Errno::from_raw(errno))
        };
        Failed { step: Some(step), error: failure.into(), interpreter, killed: None }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.kept.clear();
        // Closing the socket ends a child that waits; the kill ends one that does not.
        self.socket = None;
        if let Some(pidfd) = self.pidfd.take() {
            let _ = pidfd.signal(Signal::KILL);
            let _ = pidfd.wait();
        }
        if let Some(starter) = self.starter.take() {
            starter.0.give_back();
        }
    }
}

fn clone_failed(namespaces: Namespaces, errno: Errno) -> Failure {
    let failure = Failure::kernel(format!("clone into new namespaces ({namespaces})"), errno);
    match errno.raw() {
        libc::ENOSPC => failure.kind(ErrorKind::Exhausted).remedy(
            "a limit user.max_*_namespaces is used up, or 32 levels of nesting: not a disk",
        ),
        libc::EPERM if namespaces.contains(Namespaces::USER) => failure.remedy(
            "user namespaces are refused here: inside a container allow clone in its seccomp profile; \
             on the host see kernel.unprivileged_userns_clone, user.max_user_namespaces",
        ),
        libc::EPERM => failure.remedy("add a user namespace, or be root"),
        libc::EAGAIN => failure.remedy("a limit of processes is used up: RLIMIT_NPROC or pids.max"),
        libc::ENOSYS => failure
            .kind(ErrorKind::Unsupported)
            .remedy("clone3 is refused here: allow it in the surrounding seccomp profile, or Linux 5.5"),
        _ => failure,
    }
}

fn high(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() >= 10 { Ok(fd) } else { Ok(ireko_sys::above(10, fd)?) }
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: a number; nothing is changed.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// A pidfd of this process, for children to watch; another after a fork.
fn caller() -> Result<RawFd> {
    static KEPT: PerProcess<OnceLock<OwnedFd>> = PerProcess::new();
    let kept = KEPT.get(OnceLock::new);
    if let Some(fd) = kept.get() {
        return Ok(fd.as_raw_fd());
    }
    let fd = ireko_sys::above(10, Pidfd::open(std::process::id())?.as_fd())?;
    Ok(kept.get_or_init(|| fd).as_raw_fd())
}

const _: () = assert!(slot::STDIN as usize + 3 <= SLOTS);
