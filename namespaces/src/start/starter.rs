//! The threads that clone.
//!
//! PDEATHSIG means the thread that cloned, not the process: so it is one of ours that
//! lives as long as the process. There is one for each start in progress, kept for the
//! next, with a stack and a shared page that are used again. A fork of the host program
//! has none of these threads and makes its own.

use super::recipe::Compiled;
use super::standing::{Standing, shares_files};
use crate::Result;
use ireko_child::{AFFINITY, CloneArgs, Page, Walk, abi, clone_onto};
use ireko_sys::{Errno, Failure, PerProcess};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, mprotect};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32};
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
    /// It was told to clone and has not been heard since.
    busy: Cell<bool>,
    /// It may run on one cpu only.
    pinned: Cell<bool>,
    /// Where it was made.
    standing: Standing,
}

/// What caller and starter pass to and fro.
struct Desk {
    job: UnsafeCell<Job>,
    /// Written by the kernel when the child is made, before it runs.
    pidfd: AtomicI32,
    pid: AtomicI32,
    /// 1 while the child is on our memory: the kernel clears it and wakes who waits for
    /// it, at exec and at the end. The thread hears of that too, and would have to pass it
    /// on: a wake-up more.
    here: AtomicU32,
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
    /// One that is idle and stands where the calling thread does, or a new one.
    pub(crate) fn take() -> Result<Self> {
        let here = Standing::here();
        let mut idle = idle();
        let fits = |s: &Self| s.standing == here && shares_files(s.desk.thread.load(Relaxed));
        let known = idle.iter().rposition(fits).map(|at| idle.swap_remove(at));
        drop(idle);
        known.map_or_else(|| Self::new(here), Ok)
    }

    /// For the next start.
    pub(crate) fn give_back(self) {
        idle().push(self);
    }

    fn new(standing: Standing) -> Result<Self> {
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
            here: AtomicU32::new(0),
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
        let (busy, pinned) = (Cell::new(false), Cell::new(false));
        Ok(Self { desk, page_fd: fd, line, busy, pinned, standing })
    }

    pub(crate) fn page(&self) -> &Page {
        // SAFETY: mapped for good; its fields are atomic.
        unsafe { self.desk.page.as_ref() }
    }

    pub(crate) fn page_fd(&self) -> i32 {
        self.page_fd.as_raw_fd()
    }

    /// Gives the child the mask of the calling thread, as if that had cloned it. `bound`
    /// binds the thread to the cpu we are on until the child undoes that for itself: it
    /// need not wake another cpu, nor be moved to one by the helper's exec.
    fn bind(&self, bound: bool) {
        let page = self.page();
        let size = std::mem::size_of_val(&page.affinity);
        let thread = self.desk.thread.load(Relaxed);
        let mut one = [0u64; AFFINITY];
        // SAFETY: masks of the size that is passed; the page's words are atomic and
        // nobody reads them before the child does.
        unsafe {
            libc::syscall(libc::SYS_sched_getaffinity, 0, size, page.affinity.as_ptr());
            if !bound {
                if self.pinned.replace(false) {
                    libc::syscall(
                        libc::SYS_sched_setaffinity,
                        thread,
                        size,
                        page.affinity.as_ptr(),
                    );
                }
                return;
            }
            self.pinned.set(true);
            let cpu = usize::try_from(libc::sched_getcpu()).unwrap_or(0);
            if let Some(word) = one.get_mut(cpu / 64) {
                *word = 1 << (cpu % 64);
                libc::syscall(libc::SYS_sched_setaffinity, thread, size, one.as_ptr());
            }
        }
    }

    /// Has a child cloned and waits until it has executed something or ended. When
    /// `deadline` passes first it is killed. With `bound` the child starts on our cpu.
    pub(crate) fn clone(&self, start: Clone<'_>, meanwhile: Option<&mut dyn FnMut()>) -> Cloned {
        let desk = &*self.desk;
        // It may still be on its way back from the child before.
        if self.busy.replace(true) {
            hear(&self.line);
        }
        desk.pidfd.store(-1, Relaxed);
        desk.pid.store(0, Relaxed);
        desk.here.store(1, Relaxed);
        let args = CloneArgs {
            flags: start.flags
                | abi::CLONE_VM
                | abi::CLONE_VFORK
                | abi::CLONE_PIDFD
                | abi::CLONE_PARENT_SETTID
                | abi::CLONE_CHILD_CLEARTID
                | abi::CLONE_CLEAR_SIGHAND,
            pidfd: desk.pidfd.as_ptr() as u64,
            parent_tid: desk.pid.as_ptr() as u64,
            child_tid: desk.here.as_ptr() as u64,
            exit_signal: abi::SIGCHLD,
            stack: desk.stack.as_ptr() as u64,
            stack_size: STACK as u64,
            cgroup: start.cgroup,
            ..CloneArgs::default()
        };
        // SAFETY: the thread does not look at the job before it is told to.
        unsafe {
            *desk.job.get() = Job { args, walk: start.compiled.walk(self.page()), answer: 0 }
        };
        self.bind(start.bound);
        say(&self.line);
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        let mut late = false;
        loop {
            let left = start.deadline.saturating_duration_since(Instant::now());
            wait(&desk.here, left.clamp(SHORT, LONG));
            if desk.here.load(Acquire) == 0 {
                break;
            }
            // Woken by nothing, or the time is up; or the kernel keeps silent, as for a
            // child whose core was dumped.
            if self.has_answered() {
                break;
            }
            let pidfd = desk.pidfd.load(Acquire);
            let cloned = desk.pid.load(Acquire) > 0;
            if start.deadline <= Instant::now() && cloned && pidfd >= 0 {
                late = true;
                // SAFETY: numbers, and no siginfo.
                unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, 0, 0) };
            }
        }
        // No child at all: the thread says why. It is the pid that tells, since a clone that
        // is refused late, by a cgroup say, has told of a pidfd that it then took back.
        let mut answer = 0;
        if desk.pid.load(Acquire) == 0 {
            hear(&self.line);
            self.busy.set(false);
            // SAFETY: its answer gave the job back to us.
            answer = unsafe { (*desk.job.get()).answer };
        }
        Cloned { answer, pidfd: desk.pidfd.load(Acquire), pid: desk.pid.load(Acquire), late }
    }

    /// Whether the thread is back.
    fn has_answered(&self) -> bool {
        let mut fd = libc::pollfd { fd: self.line.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd on this stack.
        unsafe { libc::poll(&mut fd, 1, 0) > 0 }
    }
}

/// What to clone.
pub(crate) struct Clone<'c> {
    pub(crate) compiled: &'c Compiled,
    /// `CLONE_NEW*`, `CLONE_INTO_CGROUP`.
    pub(crate) flags: u64,
    /// The group's directory.
    pub(crate) cgroup: u64,
    pub(crate) deadline: Instant,
    pub(crate) bound: bool,
}

/// How long the caller sleeps at a time.
const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_millis(100);

/// Sleeps while the word is 1, for so long at most. The kernel's wake-up at exec is not
/// a private one.
fn wait(word: &AtomicU32, timeout: Duration) {
    let spec = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: a word that outlives the call, and a timespec. Every answer means "look again".
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 1, &raw const spec) };
}

fn serve(desk: &Desk, line: &OwnedFd) {
    block(IDLE);
    // SAFETY: gettid takes nothing and cannot fail.
    desk.thread.store(unsafe { libc::gettid() }, Relaxed);
    say(line);
    while hear(line) {
        // SAFETY: the caller's word gave the job to us.
        let job = unsafe { &mut *desk.job.get() };
        block(u64::MAX);
        // SAFETY: a stack of its own, all signals blocked, CLONE_VFORK; the walk is over
        // memory that the caller keeps until our answer.
        job.answer = unsafe { clone_onto(&job.args, &job.walk) };
        let failed = job.answer < 0;
        say(line);
        block(IDLE);
        if failed {
            // Nobody else will.
            desk.here.store(0, Release);
            // SAFETY: a word that outlives the call.
            unsafe { libc::syscall(libc::SYS_futex, desk.here.as_ptr(), libc::FUTEX_WAKE, 1) };
        }
    }
}

/// What is blocked while nothing is being cloned: all but the signal with which the C
/// library has every thread of the program change its ids, and waits until each has.
#[cfg(target_env = "musl")]
const IDLE: u64 = !(1 << 33);
#[cfg(not(target_env = "musl"))]
const IDLE: u64 = !(1 << 32);

/// Those that the C library keeps for itself can be among them: no handler of the host
/// program may run in a child that shares its memory.
fn block(signals: u64) {
    // SAFETY: the kernel's mask is 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const signals, 0, 8) };
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
