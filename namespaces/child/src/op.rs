//! One step of a start, as it lies in the arena.

/// Bits of [`Op::flags`].
pub mod flag {
    /// A failure is noted in [`Page::missed`](crate::Page::missed), and the walk goes on.
    pub const PREFERRED: u16 = 1;
    /// The action is left out and the check stays: how tests show that it counts.
    pub const KNOCKED_OUT: u16 = 1 << 1;
    /// With everything below.
    pub const RECURSIVE: u16 = 1 << 2;
    /// No symlink may stand at the end of the path.
    pub const STRICT: u16 = 1 << 3;
    /// The value read back must be the one given, not another.
    pub const EQUAL: u16 = 1 << 4;
    /// Groups may not be set here: they are left.
    pub const NO_GROUPS: u16 = 1 << 5;
    /// Of a filter: it lets its own presence be asked for. Of a mount: no table is
    /// compared later, so it is looked for at once.
    pub const READ_BACK: u16 = 1 << 6;
    /// Capabilities are kept over the change of ids.
    pub const KEEP_CAPS: u16 = 1 << 7;
}

/// Where a file descriptor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Fd(pub u32);

impl Fd {
    const REGISTER: u32 = 1 << 31;
    const SLOT: u32 = 1 << 30;
    /// The current directory.
    pub const CWD: Self = Self(u32::MAX);

    /// This number.
    #[must_use]
    pub const fn number(fd: u32) -> Self {
        Self(fd)
    }

    /// What an op before put into this register.
    #[must_use]
    pub const fn register(n: u32) -> Self {
        Self(n | Self::REGISTER)
    }

    /// What this spawn has in this slot.
    #[must_use]
    pub const fn slot(n: u32) -> Self {
        Self(n | Self::SLOT)
    }

    pub(crate) const fn kind(self) -> Kind {
        if self.0 == u32::MAX {
            Kind::Cwd
        } else if self.0 & Self::REGISTER != 0 {
            Kind::Register((self.0 & 0xffff) as usize)
        } else if self.0 & Self::SLOT != 0 {
            Kind::Slot((self.0 & 0xffff) as usize)
        } else {
            Kind::Number(self.0 as i32)
        }
    }
}

pub(crate) enum Kind {
    Cwd,
    Register(usize),
    Slot(usize),
    Number(i32),
}

/// What is done. The comments name the operands: `a`, `b`, `c` are fds or offsets of
/// NUL-terminated text in the arena, `x` and `y` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// Nothing.
    Nothing,
    /// Runs on the calling thread's cpus again, not on one alone.
    Affinity,
    /// SIGKILL when the caller dies; stops here if it has. `a` its pidfd.
    DieWithCaller,
    /// Waits for the byte `b` on `a`; ends with the socket. `x` files come with it, for the
    /// slots listed at `c`.
    WaitForCaller,
    /// Writes `0` into `a`: the group takes the writer in.
    JoinCgroup,
    /// Enters the namespace `a` of kind `x`.
    JoinNamespace,
    /// Leaves `a` open over the helper's exec.
    KeepFd,
    /// Makes `a` the fd number `b`.
    PutFd,
    /// Keeps `a` open under one more number, which is none of the `y` numbers at `x`.
    StepAside,
    /// Lets the helper keep the capabilities `x` over its exec.
    KeepCapabilities,
    /// Executes the helper `a`.
    ExecHelper,
    /// Nobody may trace or read this process.
    Undumpable,
    /// Host name: text `a`, or with no EQUAL the name of this spawn.
    HostName,
    /// Domain name: text `a`.
    DomainName,
    /// Loopback up.
    Loopback,
    /// New namespaces `x` for itself.
    Unshare,
    /// Below the procfs `a`, writes text `c` into file `b`.
    WriteProc,
    /// Below the procfs `a`, the link `b` says `c`, or with no EQUAL something else.
    CheckLink,
    /// Ids: `b` user, `c` group, `y` further groups at offset `x`.
    SetIds,
    /// No mount crosses to the host or from it.
    Private,
    /// A new file system of type `a` with options `b` into register `c`, attributes `x`.
    NewFs,
    /// A copy of the mount at path `b` below `a` into register `c`, attributes `x`.
    CloneTree,
    /// As CloneTree, of a path that must still be what `y` (an [`Identity`]) says.
    CloneSame,
    /// Sets attributes `x` and clears `y` on `a`.
    SetAttributes,
    /// Looks up path `b` inside the tree `a`, into register `c`.
    OpenPath,
    /// Attaches `a` inside `b` at path `c`: entry `y` of the table of mounts.
    Attach,
    /// Attaches `a`, entry `y`, at path `b` of the caller's tree, which nobody else sees. One alone
    /// may be over `/`: the pivot takes one away.
    AttachOutside,
    /// Directory `b` below `a`, mode `c`.
    MakeDir,
    /// Directory `b` and its parents, inside the tree `a`.
    MakeDirsInside,
    /// An empty file `b` below `a`.
    MakeFile,
    /// A symlink `c` below `a` to `b`.
    MakeLink,
    /// Current directory `a`: not a path, an fd.
    EnterFd,
    /// The device `x` of the host at `c`, as `b` below `a`: entry `y`.
    Node,
    /// Hides `b` inside `a`, if it is there: then entry `y` of the table of mounts must be
    /// met. A file: behind the node `null` in `c`. A
    /// directory: behind `empty` in the fd `x`, or one of its own.
    Mask,
    /// Makes `b` inside `a` read-only, if it is there: then entry `y` must be met.
    ReadOnly,
    /// `a` becomes the root, the old one goes.
    Pivot,
    /// The mounts are those of table `b`; `a` is a procfs, for older kernels.
    CheckMounts,
    /// umask `x`.
    Umask,
    /// Adds `x`, signed, to the nice value.
    Nice,
    /// Resource `a`: soft `x`, hard `y`.
    Rlimit,
    /// A session of its own.
    Session,
    /// A session keyring of its own.
    Keyring,
    /// Everything from 3 on closes at exec.
    CloseOnExec,
    /// Nothing but `x` in the bounding set.
    Bounding,
    /// Permitted and effective `x`, inheritable and ambient `y`.
    Capabilities,
    /// Inheritable and ambient empty; permitted and effective as they are.
    PassNothingOn,
    /// No signal blocked, none of the set `x` ignored.
    Signals,
    /// No privilege comes from exec any more.
    NoNewPrivileges,
    /// Installs the filter at address `x`, `a` instructions.
    Filter,
    /// Current directory: path `a` inside.
    EnterPath,
    /// Executes the first of the programs in list `a` that is there: arguments at
    /// address `x`, environment at address `y`.
    Exec,
}

/// One step.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// What.
    pub code: Code,
    /// [`flag`]s.
    pub flags: u16,
    /// See [`Code`].
    pub a: u32,
    /// See [`Code`].
    pub b: u32,
    /// See [`Code`].
    pub c: u32,
    /// See [`Code`].
    pub x: u64,
    /// See [`Code`].
    pub y: u64,
}

impl Op {
    /// An op without operands.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self { code, flags: 0, a: 0, b: 0, c: 0, x: 0, y: 0 }
    }
}

/// What a path was when the plan was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device, major number.
    pub major: u32,
    /// Device, minor number.
    pub minor: u32,
    /// Inode.
    pub inode: u64,
}
