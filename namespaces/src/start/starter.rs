//! The threads that clone.
//!
//! PDEATHSIG means the thread that cloned, not the process: so it is one of ours that
//! lives as long as the process. There is one for each start in progress, kept for the
//! next, with a stack and a shared page that are used again. A fork of the host program
//! has none of these threads and makes its own.

use crate::Result;
use ireko_child::{CloneArgs, Page, Walk, abi, clone_onto};
use ireko_sys::{Errno, Failure, PerProcess};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, mprotect};
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const DONE: u32 = 2;

const STACK: usize = 64 << 10;
const GUARD: usize = 4096;

/// A thread that clones, and what it needs for that.
pub(crate) struct Starter {
    desk: Arc<Desk>,
    page_fd: OwnedFd,
}

/// What caller and starter pass to and fro.
struct Desk {
    state: AtomicU32,
    job: UnsafeCell<Job>,
    /// Written by the kernel when the child is made, before it runs.
    pidfd: AtomicI32,
    pid: AtomicI32,
    page: NonNull<Page>,
    /// The lowest byte above the guard page.
    stack: NonNull<u8>,
}

struct Job {
    args: CloneArgs,
    walk: Walk,
    answer: isize,
}

// SAFETY: the job is touched by one side at a time, as `state` says; the pages belong to
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
            state: AtomicU32::new(IDLE),
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
            page,
            stack,
        });
        let its = desk.clone();
        std::thread::Builder::new()
            .name("ireko-starter".into())
            .stack_size(64 << 10)
            .spawn(move || serve(&its))
            .map_err(|e| Failure::kernel("start a thread", Errno::of(&e)))?;
        Ok(Self { desk, page_fd: fd })
    }

    pub(crate) fn page(&self) -> &Page {
        // SAFETY: mapped for good; its fields are atomic.
        unsafe { self.desk.page.as_ref() }
    }

    pub(crate) fn page_fd(&self) -> i32 {
        self.page_fd.as_raw_fd()
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
        // SAFETY: the starter does not look at the job before `state` says ASKED.
        unsafe { *desk.job.get() = Job { args, walk, answer: 0 } };
        desk.state.store(ASKED, Release);
        wake(&desk.state);
        let mut late = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if desk.state.load(Acquire) == DONE {
                break;
            }
            if left.is_zero() && !late {
                let pidfd = desk.pidfd.load(Acquire);
                if pidfd >= 0 {
                    late = true;
                    // SAFETY: numbers, and no siginfo.
                    unsafe {
                        libc::syscall(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, 0, 0)
                    };
                }
            }
            let patience = if left.is_zero() { Duration::from_millis(10) } else { left };
            wait(&desk.state, ASKED, Some(patience));
        }
        desk.state.store(IDLE, Relaxed);
        // SAFETY: DONE gave the job back to us.
        let answer = unsafe { (*desk.job.get()).answer };
        Cloned { answer, pidfd: desk.pidfd.load(Acquire), pid: desk.pid.load(Acquire), late }
    }
}

fn serve(desk: &Desk) {
    // All of them, those that the C library keeps for itself included: no handler of the
    // host program may run here, least of all in a child that shares its memory.
    let all = u64::MAX;
    // SAFETY: the kernel's mask is 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0, 8) };
    loop {
        match desk.state.load(Acquire) {
            ASKED => {
                // SAFETY: ASKED gave the job to us.
                let job = unsafe { &mut *desk.job.get() };
                // SAFETY: a stack of its own, all signals blocked, CLONE_VFORK; the walk
                // is over memory that the caller keeps until DONE.
                job.answer = unsafe { clone_onto(&job.args, &job.walk) };
                desk.state.store(DONE, Release);
                wake(&desk.state);
            }
            state => wait(&desk.state, state, None),
        }
    }
}

fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: a word that outlives the call, and a timespec or null. Every answer means
    // "look again".
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, spec) };
}

fn wake(word: &AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: a word that outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, i32::MAX) };
}
