//! The threads that clone.
//!
//! PDEATHSIG means the thread that cloned, not the process: so it is one of ours that
//! lives as long as the process. There is one for each start in progress, kept for the
//! next, with a stack and a shared page that are used again. A fork of the host program
//! has none of these threads and makes its own.

use crate::Result;
use ireko_child::{AFFINITY, CloneArgs, Page, Walk, abi, clone_onto};
use ireko_sys::{Errno, Failure, PerProcess};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, mprotect};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const STACK: usize = 64 << 10;
const GUARD: usize = 4096;

/// A thread that clones, and what it needs for that.
pub(crate) struct Starter {
    desk: Arc<Desk>,
    page_fd: OwnedFd,
    /// Our end of the line to the thread. A socket, since the kernel then lets the
    /// one that is woken run where the other is about to sleep: a futex wakes it on
    /// another cpu, which costs half as much as the start of a program.
    line: OwnedFd,
}

/// What caller and starter pass to and fro.
struct Desk {
    job: UnsafeCell<Job>,
    /// Written by the kernel when the child is made, before it runs.
    pidfd: AtomicI32,
    pid: AtomicI32,
    /// The thread's own number; 0 until it runs.
    thread: AtomicI32,
    page: NonNull<Page>,
    /// The lowest byte above the guard page.
    stack: NonNull<u8>,
}

struct Job {
    args: CloneArgs,
    walk: Walk,
    answer: isize,
}

// SAFETY: the job is touched by one side at a time, whose turn the line says; the pages belong to
// this desk, and what is in the shared one is atomic.
unsafe impl Send for Desk {}
// SAFETY: as above.
unsafe impl Sync for Desk {}

/// Those that are idle. A fork of the host program has none of their threads.
static IDLE_ONES: PerProcess<Mutex<Vec<Starter>>> = PerProcess::new();

fn idle() -> std::sync::MutexGuard<'static, Vec<Starter>> {
    IDLE_ONES.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of a clone.
pub(crate) struct Cloned {
    pub(crate) answer: isize,
    pub(crate) pidfd: i32,
    pub(crate) pid: i32,
    pub(crate) late: bool,
}

impl Starter {
    /// One that is idle, or a new one.
    pub(crate) fn take() -> Result<Self> {
        let known = idle().pop();
        known.map_or_else(Self::new, Ok)
    }

    /// For the next start.
    pub(crate) fn give_back(self) {
        idle().push(self);
    }

    fn new() -> Result<Self> {
        let failed = |errno: nix::errno::Errno| Failure::kernel("prepare a start", errno.into());
        let size = std::mem::size_of::<Page>().next_multiple_of(4096);
        let fd = memfd_create(c"ireko-page", MFdFlags::MFD_CLOEXEC).map_err(failed)?;
        nix::unistd::ftruncate(&fd, size as i64).map_err(failed)?;
        let fd = ireko_sys::above(10, fd)?;
        let length = NonZeroUsize::MIN.saturating_add(size - 1);
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new mappings at addresses of the kernel's choice.
        let (page, stack) = unsafe {
            let page = mmap(None, length, both, MapFlags::MAP_SHARED, &fd, 0).map_err(failed)?;
            let length = NonZeroUsize::MIN.saturating_add(GUARD + STACK - 1);
            let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK;
            let guard = mmap_anonymous(None, length, both, flags).map_err(failed)?;
            mprotect(guard, GUARD, ProtFlags::PROT_NONE).map_err(failed)?;
            (page.cast::<Page>(), guard.cast::<u8>().add(GUARD))
        };
        let desk = Arc::new(Desk {
            job: UnsafeCell::new(Job {
                args: CloneArgs::default(),
                walk: Walk {
                    base: std::ptr::null(),
                    ops: std::ptr::null(),
                    from: 0,
                    to: 0,
                    page: page.as_ptr(),
                },
                answer: 0,
            }),
            pidfd: AtomicI32::new(-1),
            pid: AtomicI32::new(0),
            thread: AtomicI32::new(0),
            page,
            stack,
        });
        let its = desk.clone();
        let (line, end) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .map_err(failed)?;
        let (line, end) = (ireko_sys::above(10, line)?, ireko_sys::above(10, end)?);
        std::thread::Builder::new()
            .name("ireko-starter".into())
            .stack_size(64 << 10)
            .spawn(move || serve(&its, &end))
            .map_err(|e| Failure::kernel("start a thread", Errno::of(&e)))?;
        // It says so when it is there.
        hear(&line);
        Ok(Self { desk, page_fd: fd, line })
    }

    pub(crate) fn page(&self) -> &Page {
        // SAFETY: mapped for good; its fields are atomic.
        unsafe { self.desk.page.as_ref() }
    }

    pub(crate) fn page_fd(&self) -> i32 {
        self.page_fd.as_raw_fd()
    }

    /// Binds the thread to the cpu we are on, and has the child undo that for itself:
    /// with the mask of the calling thread, as if that had cloned it. Waking a thread on
    /// another cpu that sleeps costs a third of a bare start.
    fn bind(&self) {
        let page = self.page();
        let size = std::mem::size_of_val(&page.affinity);
        let thread = self.desk.thread.load(Relaxed);
        let mut one = [0u64; AFFINITY];
        // SAFETY: masks of the size that is passed; the page's words are atomic and
        // nobody reads them before the child does.
        unsafe {
            libc::syscall(libc::SYS_sched_getaffinity, 0, size, page.affinity.as_ptr());
            let cpu = usize::try_from(libc::sched_getcpu()).unwrap_or(0);
            if let Some(word) = one.get_mut(cpu / 64) {
                *word = 1 << (cpu % 64);
                libc::syscall(libc::SYS_sched_setaffinity, thread, size, one.as_ptr());
            }
        }
    }

    /// Has a child cloned and waits until it has executed something or ended. When
    /// `deadline` passes first it is killed.
    pub(crate) fn clone(&self, flags: u64, cgroup: u64, walk: Walk, deadline: Instant) -> Cloned {
        let desk = &*self.desk;
        desk.pidfd.store(-1, Relaxed);
        desk.pid.store(0, Relaxed);
        let args = CloneArgs {
            flags: flags
                | abi::CLONE_VM
                | abi::CLONE_VFORK
                | abi::CLONE_PIDFD
                | abi::CLONE_PARENT_SETTID
                | abi::CLONE_CLEAR_SIGHAND,
            pidfd: desk.pidfd.as_ptr() as u64,
            parent_tid: desk.pid.as_ptr() as u64,
            exit_signal: abi::SIGCHLD,
            stack: desk.stack.as_ptr() as u64,
            stack_size: STACK as u64,
            cgroup,
            ..CloneArgs::default()
        };
        // SAFETY: the thread does not look at the job before it is told to.
        unsafe { *desk.job.get() = Job { args, walk, answer: 0 } };
        self.bind();
        say(&self.line);
        let mut late = false;
        while !answered(&self.line, deadline.saturating_duration_since(Instant::now()), late) {
            let pidfd = desk.pidfd.load(Acquire);
            if pidfd >= 0 {
                late = true;
                // SAFETY: numbers, and no siginfo.
                unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, 0, 0) };
            }
        }
        hear(&self.line);
        // SAFETY: its answer gave the job back to us.
        let answer = unsafe { (*desk.job.get()).answer };
        Cloned { answer, pidfd: desk.pidfd.load(Acquire), pid: desk.pid.load(Acquire), late }
    }
}

fn serve(desk: &Desk, line: &OwnedFd) {
    // All of them, those that the C library keeps for itself included: no handler of the
    // host program may run here, least of all in a child that shares its memory.
    let all = u64::MAX;
    // SAFETY: the kernel's mask is 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0, 8) };
    // SAFETY: gettid takes nothing and cannot fail.
    desk.thread.store(unsafe { libc::gettid() }, Relaxed);
    say(line);
    while hear(line) {
        // SAFETY: the caller's word gave the job to us.
        let job = unsafe { &mut *desk.job.get() };
        // SAFETY: a stack of its own, all signals blocked, CLONE_VFORK; the walk is over
        // memory that the caller keeps until our answer.
        job.answer = unsafe { clone_onto(&job.args, &job.walk) };
        say(line);
    }
}

/// One byte: the turn is the other's.
fn say(line: &OwnedFd) {
    // SAFETY: one byte of static text. It fails only when the other is gone.
    unsafe { libc::send(line.as_raw_fd(), c"g".as_ptr().cast(), 1, libc::MSG_NOSIGNAL) };
}

/// Waits for the turn; `false` when the other is gone.
fn hear(line: &OwnedFd) -> bool {
    let mut byte = 0u8;
    loop {
        // SAFETY: one byte of room.
        let n = unsafe { libc::recv(line.as_raw_fd(), (&raw mut byte).cast(), 1, 0) };
        if n >= 0 || Errno::last().raw() != libc::EINTR {
            return n == 1;
        }
    }
}

/// Whether the turn comes before the time is up; after that it is asked in short steps.
fn answered(line: &OwnedFd, left: Duration, late: bool) -> bool {
    let left = if left.is_zero() || late { Duration::from_millis(10) } else { left };
    let mut fd = libc::pollfd { fd: line.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: one pollfd on this stack.
    unsafe { libc::poll(&mut fd, 1, millis) > 0 }
}
