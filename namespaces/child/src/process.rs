//! Ops on the process itself: ids, capabilities, limits, exec.

use crate::abi::*;
use crate::mount::open_path;
use crate::op::{Fd, Op, flag};
use crate::run::{Outcome, State, holds};
use crate::sys::{call, die};
use core::sync::atomic::Ordering::Relaxed;

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

fn prctl(option: u32, a: usize, b: usize) -> Result<usize, i32> {
    call!(nr::PRCTL, option, a, b, 0, 0)
}

/// The thread that cloned us was bound to the caller's cpu, to spare a wake-up of another.
pub(crate) fn affinity(s: &State<'_>, act: bool) -> Outcome {
    if act {
        let mask = s.page().affinity.as_ptr();
        call!(nr::SCHED_SETAFFINITY, 0, core::mem::size_of_val(&s.page().affinity), mask)?;
        return Ok(());
    }
    Err(EUCLEAN)
}

pub(crate) fn die_with_caller(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    if act {
        prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0)?;
    }
    let mut signal = 0i32;
    prctl(PR_GET_PDEATHSIG, &raw mut signal as usize, 0)?;
    holds(signal == SIGKILL as i32)?;
    // It may have died before: nobody would tell us any more.
    let mut caller = PollFd { fd: s.fd(Fd(op.a))?, events: POLLIN, revents: 0 };
    if call!(nr::POLL, &raw mut caller, 1, 0)? != 0 {
        die(1);
    }
    Ok(())
}

/// Most files that come with a word.
const FILES: usize = 72;

#[repr(C)]
struct Message {
    name: *const u8,
    name_length: u32,
    parts: *const Part,
    part_count: usize,
    control: *const Control,
    control_length: usize,
    flags: i32,
}

#[repr(C)]
struct Part {
    base: *mut u8,
    length: usize,
}

#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    files: [i32; FILES],
}

/// Waits for a word, and puts the files that come with it into their slots.
pub(crate) fn wait_for_caller(s: &State<'_>, op: &Op) -> Outcome {
    const HEAD: usize = core::mem::size_of::<Control>() - core::mem::size_of::<[i32; FILES]>();
    let fd = s.fd(Fd(op.a))?;
    let mut byte = 0u8;
    let part = Part { base: &raw mut byte, length: 1 };
    let mut control = Control { length: 0, level: 0, kind: 0, files: [-1; FILES] };
    loop {
        let mut message = Message {
            name: core::ptr::null(),
            name_length: 0,
            parts: &raw const part,
            part_count: 1,
            control: &raw mut control,
            control_length: core::mem::size_of::<Control>(),
            flags: 0,
        };
        match call!(nr::RECVMSG, fd, &raw mut message, MSG_CMSG_CLOEXEC) {
            Ok(1) if u32::from(byte) == op.b => break,
            Err(EINTR) => {}
            // The caller gave up, or is gone.
            _ => die(1),
        }
    }
    let files = control.level == SOL_SOCKET && control.kind == SCM_RIGHTS;
    let count = if files { control.length.wrapping_sub(HEAD) / 4 } else { 0 };
    // As many as the plan says, or what needs them would take others for them.
    if count as u64 != op.x {
        return Err(EBADF);
    }
    let slots = s.at(op.c).cast::<u32>();
    for (index, file) in control.files.iter().take(count).enumerate() {
        // SAFETY: `run`'s caller promises `x` numbers at `c`.
        let slot = unsafe { *slots.wrapping_add(index) };
        if let Some(place) = s.page().slots.get(slot as usize) {
            place.store((*file).into(), Relaxed);
        }
    }
    Ok(())
}

pub(crate) fn join_cgroup(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    // That it is in is for the caller to see, in the group's own files.
    let fd = s.fd(Fd(op.a))?;
    if act {
        loop {
            match call!(nr::WRITE, fd, c"0".as_ptr(), 1) {
                Ok(_) => break,
                Err(EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

pub(crate) fn join_namespace(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    // A bare start has no procfs to read it back from: the kernel's answer counts.
    if act { call!(nr::SETNS, s.fd(Fd(op.a))?, op.x).map(drop) } else { Err(EUCLEAN) }
}

pub(crate) fn keep_fd(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let fd = s.fd(Fd(op.a))?;
    if act {
        call!(nr::FCNTL, fd, F_SETFD, 0)?;
    }
    holds(call!(nr::FCNTL, fd, F_GETFD, 0)? == 0)
}

pub(crate) fn put_fd(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let fd = s.fd(Fd(op.a))?;
    if fd == op.b as i32 {
        if act {
            call!(nr::FCNTL, fd, F_SETFD, 0)?;
        }
        return holds(call!(nr::FCNTL, fd, F_GETFD, 0)? == 0);
    }
    if act {
        call!(nr::DUP3, fd, op.b, 0)?;
    }
    holds(crate::mount::same_file(fd, op.b as i32)?)
}

pub(crate) fn step_aside(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let fd = s.fd(Fd(op.a))?;
    let numbers = s.at(op.x as u32).cast::<u32>();
    if !act {
        return Err(EUCLEAN);
    }
    loop {
        let other = call!(nr::FCNTL, fd, F_DUPFD_CLOEXEC, 10)?;
        let mut i = 0;
        // SAFETY: `run`'s caller promises `y` numbers at `x`.
        while i < op.y as usize && unsafe { *numbers.wrapping_add(i) } as usize != other {
            i = i.wrapping_add(1);
        }
        if i == op.y as usize {
            return Ok(());
        }
        // That one stays open, so that the next answer is another.
    }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn halves(effective: u64, permitted: u64, inheritable: u64) -> [CapData; 2] {
    let half = |shift: u32| CapData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    [half(0), half(32)]
}

fn wholes(data: [CapData; 2]) -> (u64, u64, u64) {
    let [low, high] = data;
    let whole = |l: u32, h: u32| u64::from(l) | u64::from(h) << 32;
    (
        whole(low.effective, high.effective),
        whole(low.permitted, high.permitted),
        whole(low.inheritable, high.inheritable),
    )
}

fn capget() -> Result<(u64, u64, u64), i32> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    call!(nr::CAPGET, &raw const header, &raw mut data)?;
    Ok(wholes(data))
}

fn capset(effective: u64, permitted: u64, inheritable: u64) -> Outcome {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let data = halves(effective, permitted, inheritable);
    call!(nr::CAPSET, &raw const header, &raw const data)?;
    Ok(())
}

/// The helper is executed as an id that is not mapped: without ambient capabilities
/// it would have none. Each costs a set of credentials, so only these are kept.
pub(crate) fn keep_capabilities(op: &Op, act: bool) -> Outcome {
    if !act {
        return Ok(());
    }
    let (effective, permitted, _) = capget()?;
    let kept = permitted & op.x;
    capset(effective, permitted, kept)?;
    let mut cap = 0usize;
    while cap < 64 {
        if kept >> cap & 1 != 0 {
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE as usize, cap)?;
        }
        cap = cap.wrapping_add(1);
    }
    Ok(())
}

pub(crate) fn exec_helper(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let fd = s.fd(Fd(op.a))?;
    let arguments = [c"ireko".as_ptr(), core::ptr::null()];
    if act {
        call!(
            nr::EXECVEAT,
            fd,
            c"".as_ptr(),
            arguments.as_ptr(),
            arguments.as_ptr().wrapping_add(1),
            AT_EMPTY_PATH
        )?;
    }
    Err(EUCLEAN)
}

pub(crate) fn undumpable(act: bool) -> Outcome {
    if act {
        prctl(PR_SET_DUMPABLE, 0, 0)?;
    }
    holds(prctl(PR_GET_DUMPABLE, 0, 0)? == 0)
}

pub(crate) fn name(s: &State<'_>, op: &Op, act: bool, host: bool) -> Outcome {
    const FIELD: usize = 65;
    let of_spawn = host && op.flags & flag::EQUAL == 0;
    let text = if of_spawn { s.name() } else { s.text(op.a) };
    let wanted = text.bytes();
    if act {
        let call = if host { nr::SETHOSTNAME } else { nr::SETDOMAINNAME };
        call!(call, text.as_ptr(), wanted.len())?;
    }
    // Six fields: sysname, nodename, release, version, machine, domainname.
    let mut names = [0u8; 6 * FIELD];
    call!(nr::UNAME, names.as_mut_ptr())?;
    let field = names.get(if host { FIELD } else { 5 * FIELD }..).unwrap_or(&[]);
    holds(field.starts_with(wanted) && field.get(wanted.len()) == Some(&0))
}

pub(crate) fn loopback(act: bool) -> Outcome {
    #[repr(C)]
    struct IfReq {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut lo = IfReq { name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0", flags: IFF_UP, rest: [0; 22] };
    let socket = call!(nr::SOCKET, AF_INET, SOCK_DGRAM | O_CLOEXEC, 0)?;
    if act {
        call!(nr::IOCTL, socket, SIOCSIFFLAGS, &raw mut lo)?;
    }
    lo.flags = 0;
    call!(nr::IOCTL, socket, SIOCGIFFLAGS, &raw mut lo)?;
    call!(nr::CLOSE, socket)?;
    holds(lo.flags & IFF_UP != 0)
}

pub(crate) fn unshare(op: &Op, act: bool) -> Outcome {
    // As for a namespace that is entered.
    if act { call!(nr::UNSHARE, op.x).map(drop) } else { Err(EUCLEAN) }
}

pub(crate) fn set_ids(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    const MOST: usize = 64;
    let (uid, gid) = (op.b, op.c);
    let groups = s.at(op.x as u32).cast::<u32>();
    let count = op.y as usize;
    if act {
        if op.flags & flag::KEEP_CAPS != 0 {
            prctl(PR_SET_KEEPCAPS, 1, 0)?;
        }
        if op.flags & flag::NO_GROUPS == 0 {
            call!(nr::SETGROUPS, count, groups)?;
        }
        call!(nr::SETRESGID, gid, gid, gid)?;
        call!(nr::SETRESUID, uid, uid, uid)?;
    }
    let mut got = [0u32; 3];
    call!(
        nr::GETRESUID,
        got.as_mut_ptr(),
        got.as_mut_ptr().wrapping_add(1),
        got.as_mut_ptr().wrapping_add(2)
    )?;
    holds(got == [uid; 3])?;
    call!(
        nr::GETRESGID,
        got.as_mut_ptr(),
        got.as_mut_ptr().wrapping_add(1),
        got.as_mut_ptr().wrapping_add(2)
    )?;
    holds(got == [gid; 3])?;
    if op.flags & flag::NO_GROUPS == 0 {
        let mut have = [0u32; MOST];
        let n = call!(nr::GETGROUPS, MOST, have.as_mut_ptr())?;
        holds(n == count)?;
        // The kernel sorts them, and so does the plan.
        let mut i = 0;
        while i < count {
            // SAFETY: `run`'s caller promises `y` ids at `x`.
            let wanted = unsafe { *groups.wrapping_add(i) };
            holds(have.get(i).copied() == Some(wanted))?;
            i = i.wrapping_add(1);
        }
    }
    Ok(())
}

pub(crate) fn umask(op: &Op, act: bool) -> Outcome {
    if act {
        call!(nr::UMASK, op.x)?;
    }
    let before = call!(nr::UMASK, op.x)?;
    holds(before == op.x as usize)
}

/// What getpriority(2) answers is 20 less the nice value.
pub(crate) fn nice(op: &Op, act: bool) -> Outcome {
    let before = 20i64.wrapping_sub(call!(nr::GETPRIORITY, 0, 0)? as i64);
    let wanted = before.wrapping_add(op.x as i64).clamp(-20, 19);
    if act {
        call!(nr::SETPRIORITY, 0, 0, wanted)?;
    }
    let after = 20i64.wrapping_sub(call!(nr::GETPRIORITY, 0, 0)? as i64);
    holds(after == wanted)
}

pub(crate) fn rlimit(op: &Op, act: bool) -> Outcome {
    let wanted = [op.x, op.y];
    let mut got = [0u64; 2];
    if act {
        call!(nr::PRLIMIT64, 0, op.a, &raw const wanted, 0)?;
    }
    call!(nr::PRLIMIT64, 0, op.a, 0, &raw mut got)?;
    holds(got == wanted)
}

pub(crate) fn session(act: bool) -> Outcome {
    if act {
        call!(nr::SETSID)?;
    }
    holds(call!(nr::GETSID, 0)? == call!(nr::GETPID)?)
}

pub(crate) fn keyring(act: bool) -> Outcome {
    if !act {
        return Err(EUCLEAN);
    }
    call!(nr::KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, 0)?;
    Ok(())
}

pub(crate) fn close_on_exec(act: bool) -> Outcome {
    if act {
        match call!(nr::CLOSE_RANGE, 3, u32::MAX, CLOSE_RANGE_CLOEXEC) {
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Err(EUCLEAN)
}

pub(crate) fn bounding(op: &Op, act: bool) -> Outcome {
    let mut cap = 0usize;
    while cap < 64 {
        let keep = op.x >> cap & 1 != 0;
        if act && !keep {
            match prctl(PR_CAPBSET_DROP, cap, 0) {
                Ok(_) => {}
                // Past the newest that this kernel has.
                Err(EINVAL) => break,
                Err(errno) => return Err(errno),
            }
        }
        match prctl(PR_CAPBSET_READ, cap, 0) {
            Ok(has) => holds(has == 0 || keep)?,
            Err(EINVAL) => break,
            Err(errno) => return Err(errno),
        }
        cap = cap.wrapping_add(1);
    }
    Ok(())
}

pub(crate) fn capabilities(op: &Op, act: bool) -> Outcome {
    let (permitted, passed_on) = (op.x, op.y);
    if act {
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)?;
        capset(permitted, permitted, passed_on)?;
    }
    // Ambient is never more than inheritable: so what is not passed on need not be asked.
    let mut cap = 0usize;
    while cap < 64 {
        if passed_on >> cap & 1 != 0 {
            if act {
                prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE as usize, cap)?;
            }
            holds(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET as usize, cap)? == 1)?;
        }
        cap = cap.wrapping_add(1);
    }
    holds(capget()? == (permitted, permitted, passed_on))
}

pub(crate) fn pass_nothing_on(act: bool) -> Outcome {
    if act {
        let (effective, permitted, _) = capget()?;
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)?;
        capset(effective, permitted, 0)?;
    }
    // Ambient is never more than inheritable.
    let (_, _, inheritable) = capget()?;
    holds(inheritable == 0)
}

pub(crate) fn signals(op: &Op, act: bool) -> Outcome {
    // The kernel's sigaction: handler, flags, restorer, mask. All zero: the default.
    let default = [0u64; 4];
    let mut now = [0u64; 4];
    let mut mask = 0u64;
    let mut signal = 1u32;
    while signal <= 64 {
        // SIGKILL and SIGSTOP cannot be changed.
        let wanted = op.x >> signal.wrapping_sub(1) & 1 != 0;
        if wanted && signal != 9 && signal != 19 {
            if act {
                call!(nr::RT_SIGACTION, signal, default.as_ptr(), 0, 8)?;
            } else {
                call!(nr::RT_SIGACTION, signal, 0, now.as_mut_ptr(), 8)?;
                holds(now.first() == Some(&0))?;
            }
        }
        signal = signal.wrapping_add(1);
    }
    if act {
        call!(nr::RT_SIGPROCMASK, SIG_SETMASK, &raw const mask, 0, 8)?;
    }
    call!(nr::RT_SIGPROCMASK, SIG_SETMASK, 0, &raw mut mask, 8)?;
    holds(mask == 0)
}

pub(crate) fn no_new_privileges(act: bool) -> Outcome {
    if act {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    }
    holds(prctl(PR_GET_NO_NEW_PRIVS, 0, 0)? == 1)
}

pub(crate) fn filter(op: &Op, act: bool) -> Outcome {
    #[repr(C)]
    struct Program {
        length: u16,
        code: u64,
    }
    let program = Program { length: op.a as u16, code: op.x };
    if !act {
        // The mode is the same with any other filter, one of the caller's, say.
        return Err(EUCLEAN);
    }
    call!(nr::SECCOMP, SECCOMP_SET_MODE_FILTER, 0, &raw const program)?;
    if op.flags & flag::READ_BACK != 0 {
        holds(prctl(PR_GET_SECCOMP, 0, 0)? == 2)?;
    }
    Ok(())
}

pub(crate) fn enter_path(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    // Magic links lead to what the set-up has open.
    let path = s.text(op.a);
    let mut cwd = [0u8; 4096];
    let dir = open_path(AT_FDCWD, path, 0, RESOLVE_NO_MAGICLINKS)?;
    if act {
        call!(nr::FCHDIR, dir)?;
    }
    holds(crate::mount::same_place(dir as i32, AT_FDCWD)?)?;
    call!(nr::CLOSE, dir)?;
    // Outside the root the kernel says "(unreachable)".
    call!(nr::GETCWD, cwd.as_mut_ptr(), cwd.len())?;
    holds(cwd.first() == Some(&b'/'))
}

/// Notes for the page, beside the errno of an exec: what is there lacks its interpreter.
pub(crate) const NOTE_INTERPRETER: u32 = 1;

pub(crate) fn exec(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let mut candidate = s.text(op.a);
    let mut refused = ENOENT;
    while !candidate.is_empty() {
        let answer =
            if act { call!(nr::EXECVE, candidate.as_ptr(), op.x, op.y) } else { Err(EUCLEAN) };
        match answer {
            Ok(_) | Err(ENOTDIR | ENOENT) => {}
            // Another of that name may do; else this is what to tell.
            Err(EACCES) => refused = EACCES,
            Err(errno) => return Err(errno),
        }
        candidate = candidate.next();
    }
    // First of all: a filter may end this process for the question that comes next.
    s.page().errno.store(refused, Relaxed);
    candidate = s.text(op.a);
    while refused == ENOENT && !candidate.is_empty() {
        // It is there: then what its first line or its loader names is not.
        if open_path(AT_FDCWD, candidate, 0, 0).is_ok() {
            s.page().note.store(NOTE_INTERPRETER, Relaxed);
            break;
        }
        candidate = candidate.next();
    }
    Err(refused)
}
