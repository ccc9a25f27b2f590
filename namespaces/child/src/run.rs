//! The walk over the ops.

use crate::abi::{EBADF, EUCLEAN};
use crate::op::{Code, Fd, Kind, Op, flag};
use crate::page::Page;
use crate::text::Text;
use crate::{mount, proc, process, table};
use core::sync::atomic::Ordering::Relaxed;

/// What to take, and what it lies in.
#[derive(Debug)]
pub struct Walk {
    /// The arena; offsets count from here.
    pub base: *const u8,
    /// The ops, all of them.
    pub ops: *const Op,
    /// The first to take.
    pub from: u32,
    /// One past the last.
    pub to: u32,
    /// Shared with the caller.
    pub page: *const Page,
}

/// How many fds ops can hand to later ones.
const REGISTERS: usize = 64;

/// How many entries the table of mounts may have.
pub(crate) const ENTRIES: usize = 128;

/// What a walk carries along.
pub(crate) struct State<'w> {
    walk: &'w Walk,
    registers: [i32; REGISTERS],
    /// The empty directory that hides others, once there is one.
    pub(crate) empty: i32,
    /// The device that hides files, once it was looked at.
    pub(crate) null: i32,
    /// Entries of the table of mounts that may be missing, but were made.
    pub(crate) made: u128,
    /// The kernel's numbers for the mounts of the table; 0: not known.
    pub(crate) mounts: [u64; ENTRIES],
}

/// What an op came to: EUCLEAN says that the kernel's word differs from the plan.
pub(crate) type Outcome = Result<(), i32>;

impl State<'_> {
    pub(crate) fn page(&self) -> &Page {
        // SAFETY: `run`'s caller keeps the page mapped.
        unsafe { &*self.walk.page }
    }

    /// The address of what lies at this offset of the arena.
    pub(crate) fn at(&self, offset: u32) -> *const u8 {
        self.walk.base.wrapping_add(offset as usize)
    }

    /// The text at this offset.
    pub(crate) fn text(&self, offset: u32) -> Text {
        // SAFETY: `run`'s caller promises that offsets of text lead to text.
        unsafe { Text::new(self.at(offset)) }
    }

    /// The name of this spawn.
    pub(crate) fn name(&self) -> Text {
        // SAFETY: the caller has put one there, and a NUL behind it.
        unsafe { Text::new(self.page().name.as_ptr().cast()) }
    }

    pub(crate) fn fd(&self, fd: Fd) -> Result<i32, i32> {
        let fd = match fd.kind() {
            Kind::Cwd => return Ok(crate::abi::AT_FDCWD),
            Kind::Number(n) => n,
            Kind::Register(n) => self.registers.get(n).copied().unwrap_or(-1),
            Kind::Slot(n) => self.page().slots.get(n).map_or(-1, |slot| slot.load(Relaxed) as i32),
        };
        if fd < 0 { Err(EBADF) } else { Ok(fd) }
    }

    /// This entry of the table of mounts is the mount of this number.
    pub(crate) fn placed(&mut self, entry: u64, mount: u64) {
        if let Some(place) = self.mounts.get_mut(entry as usize) {
            *place = mount;
        }
    }

    /// This entry of the table of mounts must be there at the end.
    pub(crate) fn must(&mut self, entry: u64) {
        self.made |= 1u128.checked_shl(entry as u32).unwrap_or(0);
    }

    pub(crate) fn keep(&mut self, register: u32, fd: usize) {
        if let Some(place) = self.registers.get_mut(register as usize) {
            *place = fd as i32;
        }
    }
}

/// Takes the ops of `walk` in order and returns at the end, or at the first that
/// failed, with its errno in the page.
///
/// # Safety
/// `walk` must point to an arena of ops and operands made for this kernel's ABI, with
/// every offset inside it, and to a page; both must stay there. The process must be
/// one that has just been cloned, or the helper.
pub unsafe fn run(walk: &Walk) {
    let mut state = State {
        walk,
        registers: [-1; REGISTERS],
        empty: -1,
        null: -1,
        made: 0,
        mounts: [0; ENTRIES],
    };
    let mut index = walk.from;
    while index < walk.to {
        state.page().step.store(index, Relaxed);
        // SAFETY: `to` is within the ops.
        let op = unsafe { &*walk.ops.wrapping_add(index as usize) };
        if let Err(errno) = take(&mut state, op) {
            if op.flags & flag::PREFERRED == 0 {
                state.page().errno.store(errno, Relaxed);
                return;
            }
            if let Some(missed) = state.page().missed.get(index as usize) {
                missed.store(errno as u16, Relaxed);
            }
        }
        index = index.wrapping_add(1);
    }
}

fn take(s: &mut State<'_>, op: &Op) -> Outcome {
    let act = op.flags & flag::KNOCKED_OUT == 0;
    match op.code {
        Code::Nothing => Ok(()),
        Code::Affinity => process::affinity(s, act),
        Code::DieWithCaller => process::die_with_caller(s, op, act),
        Code::WaitForCaller => process::wait_for_caller(s, op),
        Code::JoinCgroup => process::join_cgroup(s, op, act),
        Code::JoinNamespace => process::join_namespace(s, op, act),
        Code::KeepFd => process::keep_fd(s, op, act),
        Code::PutFd => process::put_fd(s, op, act),
        Code::StepAside => process::step_aside(s, op, act),
        Code::KeepCapabilities => process::keep_capabilities(op, act),
        Code::ExecHelper => process::exec_helper(s, op, act),
        Code::Undumpable => process::undumpable(act),
        Code::HostName => process::name(s, op, act, true),
        Code::DomainName => process::name(s, op, act, false),
        Code::Loopback => process::loopback(act),
        Code::Unshare => process::unshare(op, act),
        Code::WriteProc => proc::write(s, op, act),
        Code::CheckLink => proc::check_link(s, op),
        Code::SetIds => process::set_ids(s, op, act),
        Code::Private => mount::private(act),
        Code::NewFs => mount::new_fs(s, op, act),
        Code::CloneTree => mount::clone_tree(s, op, act),
        Code::CloneSame => mount::clone_same(s, op, act),
        Code::SetAttributes => mount::set_attributes(s, op, act),
        Code::OpenPath => mount::open_op(s, op),
        Code::Attach => mount::attach(s, op, act),
        Code::AttachOutside => mount::attach_outside(s, op, act),
        Code::MakeDir => mount::make_dir(s, op, act),
        Code::MakeDirsInside => mount::make_dirs_inside(s, op, act),
        Code::MakeFile => mount::make_file(s, op, act),
        Code::MakeLink => mount::make_link(s, op, act),
        Code::EnterFd => mount::enter_fd(s, op, act),
        Code::Node => mount::node(s, op, act),
        Code::Mask => mount::mask(s, op, act),
        Code::ReadOnly => mount::read_only(s, op, act),
        Code::Pivot => mount::pivot(s, op, act),
        Code::CheckMounts => table::check(s, op),
        Code::Umask => process::umask(op, act),
        Code::Nice => process::nice(op, act),
        Code::Rlimit => process::rlimit(op, act),
        Code::Session => process::session(act),
        Code::Keyring => process::keyring(act),
        Code::CloseOnExec => process::close_on_exec(act),
        Code::Bounding => process::bounding(op, act),
        Code::Capabilities => process::capabilities(op, act),
        Code::PassNothingOn => process::pass_nothing_on(act),
        Code::Signals => process::signals(op, act),
        Code::NoNewPrivileges => process::no_new_privileges(act),
        Code::Filter => process::filter(op, act),
        Code::EnterPath => process::enter_path(s, op, act),
        Code::Exec => process::exec(s, op, act),
    }
}

/// What a check that failed says.
pub(crate) fn holds(condition: bool) -> Outcome {
    if condition { Ok(()) } else { Err(EUCLEAN) }
}
