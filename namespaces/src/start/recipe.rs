use crate::Result;
use ireko_child::{Code, Fd, HELD_SOCKET, Header, MAPPED_AT, Op, SLOTS, Walk, flag};
use ireko_sys::{ErrorKind, Failure};
use nix::fcntl::SealFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// Which slot of a spawn holds what.
pub mod slot {
    /// A pidfd of the caller.
    pub const CALLER: u32 = 0;
    /// The helper's file.
    pub(crate) const HELPER: u32 = 1;
    /// The arena's memfd.
    pub(crate) const PLAN: u32 = 2;
    /// The shared page's memfd.
    pub(crate) const PAGE: u32 = 3;
    /// The child's end of the hand-shake.
    pub(crate) const SOCKET: u32 = 4;
    /// Standard input; output and error follow.
    pub const STDIN: u32 = 5;
    /// The first that belongs to whoever fills the recipe.
    pub const FREE: u32 = 8;
}

/// The caller's words.
pub(super) const MAPS: u8 = b'm';
pub(super) const LEAVE: u8 = b'x';

/// The step in which the child waits for the first of them.
pub(super) const WAIT_FOR_MAPS: &str = "wait until the caller has written the id maps";

/// What a step is, for those who read the plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// What is done, in words: `mount proc on /proc`.
    pub text: String,
    /// Whatever the one who filled the recipe wants to find again.
    pub tag: u32,
    /// Whether the start goes on without it.
    pub preferred: bool,
}

/// Steps being collected.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Header, then what the ops point to; the ops are put behind it at the end.
    data: Vec<u8>,
    ops: Vec<Op>,
    steps: Vec<Step>,
    /// Places in `data` that hold an offset to become an address.
    addresses: Vec<usize>,
    /// Ops whose `x` (and `y`, for an exec) are offsets to become addresses.
    relocated: Vec<usize>,
    /// The first op that the helper takes; `None`: all are taken in place.
    split: Option<usize>,
    /// The step that undoes what the starter did is there.
    unbound: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Recipe {
    /// Without any step.
    #[must_use]
    pub fn new() -> Self {
        Self {
            // One more byte, so that offset `size` is an empty text.
            data: vec![0; std::mem::size_of::<Header>() + 8],
            ops: Vec::new(),
            steps: Vec::new(),
            addresses: Vec::new(),
            relocated: Vec::new(),
            split: None,
            unbound: false,
        }
    }

    /// Text for an op; `Invalid` with a NUL in it.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn text(&mut self, text: impl AsRef<OsStr>) -> Result<u32> {
        let text = text.as_ref();
        if text.as_bytes().contains(&0) {
            let what = format!("use the text {text:?}");
            return Err(Failure::ours(ErrorKind::Invalid, what, "it holds a NUL byte").into());
        }
        let at = self.data.len();
        self.data.extend_from_slice(text.as_bytes());
        self.data.push(0);
        Ok(at as u32)
    }

    /// A list of texts, ended by an empty one.
    ///
    /// # Errors
    /// `Invalid` for a NUL byte, or for an empty text in the middle.
    pub fn list<T: AsRef<OsStr>>(&mut self, texts: impl IntoIterator<Item = T>) -> Result<u32> {
        let at = self.data.len() as u32;
        for text in texts {
            self.text(text)?;
        }
        self.data.push(0);
        Ok(at)
    }

    /// The empty text.
    #[must_use]
    pub fn empty(&self) -> u32 {
        std::mem::size_of::<Header>() as u32
    }

    /// Plain numbers, aligned for them.
    pub fn numbers(&mut self, numbers: &[u32]) -> u32 {
        self.align();
        let at = self.data.len();
        for number in numbers {
            self.data.extend_from_slice(&number.to_ne_bytes());
        }
        at as u32
    }

    /// Bytes, aligned to 8.
    pub fn bytes(&mut self, bytes: &[u8]) -> u32 {
        self.align();
        let at = self.data.len();
        self.data.extend_from_slice(bytes);
        at as u32
    }

    /// An array of addresses of texts, ended by null, as exec wants it.
    ///
    /// # Errors
    /// `Invalid` for a NUL byte.
    pub fn vector<T: AsRef<OsStr>>(&mut self, texts: impl IntoIterator<Item = T>) -> Result<u32> {
        let offsets = texts.into_iter().map(|text| self.text(text)).collect::<Result<Vec<_>>>()?;
        self.align();
        let at = self.data.len();
        for offset in offsets {
            self.addresses.push(self.data.len());
            self.data.extend_from_slice(&u64::from(offset).to_ne_bytes());
        }
        self.data.extend_from_slice(&[0; 8]);
        Ok(at as u32)
    }

    fn align(&mut self) {
        while !self.data.len().is_multiple_of(8) {
            self.data.push(0);
        }
    }

    /// Adds a step; returns its index.
    pub fn push(&mut self, op: Op, tag: u32, text: impl Into<String>) -> usize {
        self.ops.push(op);
        let preferred = op.flags & flag::PREFERRED != 0;
        self.steps.push(Step { text: text.into(), tag, preferred });
        self.ops.len() - 1
    }

    /// Adds the step that installs a filter of `count` instructions at `code`.
    pub fn push_filter(
        &mut self,
        code: u32,
        count: u32,
        flags: u16,
        tag: u32,
        text: impl Into<String>,
    ) {
        // It may be forbidden after.
        self.unbind(tag);
        let op = Op { a: count, x: u64::from(code), flags, ..Op::new(Code::Filter) };
        let index = self.push(op, tag, text);
        self.relocated.push(index);
    }

    /// Adds the exec: the first of `candidates` (a list) that is there, with these
    /// vectors of arguments and environment.
    pub fn push_exec(
        &mut self,
        candidates: u32,
        arguments: u32,
        environment: u32,
        tag: u32,
        text: impl Into<String>,
    ) {
        self.unbind(tag);
        let op =
            Op { a: candidates, x: arguments.into(), y: environment.into(), ..Op::new(Code::Exec) };
        let index = self.push(op, tag, text);
        self.relocated.push(index);
    }

    /// Adds the wait for the caller's first word: it has written the id maps. The files that
    /// it gives with [`release`](super::Begun::release) come into these slots, 72 at most.
    pub fn wait_for_maps(&mut self, tag: u32, slots: &[u32]) {
        self.wait_for(MAPS, slots, tag, WAIT_FOR_MAPS);
    }

    /// Adds the wait for the caller's last word: what is seen from outside is as planned.
    pub fn wait_for_leave(&mut self, tag: u32) {
        self.wait_for(
            LEAVE,
            &[],
            tag,
            "wait until the caller has seen groups, limits and namespaces",
        );
    }

    /// Lets the caller see the exec though files are put under these numbers before it:
    /// the socket may have one of them.
    pub fn keep_socket_clear_of(&mut self, numbers: &[u32], tag: u32) {
        let op = Op {
            a: HELD_SOCKET as u32,
            x: self.numbers(numbers).into(),
            y: numbers.len() as u64,
            ..Op::new(Code::StepAside)
        };
        self.push(op, tag, "hold the line to the caller under another number");
    }

    fn wait_for(&mut self, word: u8, slots: &[u32], tag: u32, text: &str) {
        let op = Op {
            a: HELD_SOCKET as u32,
            b: word.into(),
            c: self.numbers(slots),
            x: slots.len() as u64,
            ..Op::new(Code::WaitForCaller)
        };
        self.push(op, tag, text);
    }

    /// Goes over into the helper: what is added from here on is done there, with memory
    /// of its own. `kept` are the fds it needs besides. With `capabilities`, a mask,
    /// it keeps these of those that the child has in a new user namespace.
    pub fn enter_helper(&mut self, capabilities: u64, tag: u32, kept: &[(Fd, &str)]) {
        for (fd, what) in kept {
            let op = Op { a: fd.0, ..Op::new(Code::KeepFd) };
            self.push(op, tag, format!("keep {what} open for the helper"));
        }
        if capabilities != 0 {
            let op = Op { x: capabilities, ..Op::new(Code::KeepCapabilities) };
            self.push(op, tag, "keep capabilities over the helper's exec");
        }
        for (from, to, what) in [
            (slot::PLAN, ireko_child::HELD_PLAN, "plan"),
            (slot::PAGE, ireko_child::HELD_PAGE, "shared page"),
            (slot::SOCKET, HELD_SOCKET, "socket"),
        ] {
            let op = Op { a: Fd::slot(from).0, b: to as u32, ..Op::new(Code::PutFd) };
            self.push(op, tag, format!("hand the {what} to the helper as fd {to}"));
        }
        let op = Op { a: Fd::slot(slot::HELPER).0, ..Op::new(Code::ExecHelper) };
        self.push(op, tag, "execute the helper");
        self.split = Some(self.ops.len());
        // Only now: a process that may run elsewhere is first moved there by its exec.
        self.unbind(tag);
    }

    /// Undoes what the starter did for speed, once.
    fn unbind(&mut self, tag: u32) {
        if !self.unbound {
            self.push(Op::new(Code::Affinity), tag, "run on the calling thread's cpus");
        }
        self.unbound = true;
    }

    /// Whether the helper is used.
    #[must_use]
    pub fn is_helped(&self) -> bool {
        self.split.is_some()
    }

    /// The steps so far.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Leaves the action of one step out, its check in: how tests show that a step counts.
    pub fn knock_out(&mut self, index: usize) {
        if let Some(op) = self.ops.get_mut(index) {
            op.flags |= flag::KNOCKED_OUT;
        }
    }

    /// Lays everything out.
    ///
    /// # Errors
    /// `Invalid` where it is larger than 1 GiB; what making a memfd may say.
    pub fn compile(&self) -> Result<Compiled> {
        let mut recipe = self.clone();
        recipe.align();
        let ops_at = recipe.data.len();
        let length = ops_at + recipe.ops.len() * std::mem::size_of::<Op>();
        if length > 1 << 30 {
            let reason = "arguments and environment are larger than 1 GiB";
            return Err(Failure::ours(ErrorKind::Invalid, "lay out a start", reason).into());
        }
        let split = recipe.split.unwrap_or(0);
        let header = Header {
            version: ireko_child::VERSION,
            length: length as u32,
            ops: ops_at as u32,
            from: split as u32,
            to: recipe.ops.len() as u32,
        };
        // In words, so that it is aligned.
        let mut here = vec![0u64; length.div_ceil(8)];
        let base = here.as_ptr() as u64;
        recipe.lay_out(&mut here, &header, base);
        let plan = match recipe.split {
            None => None,
            Some(_) => {
                let mut there = vec![0u64; length.div_ceil(8)];
                recipe.lay_out(&mut there, &header, MAPPED_AT as u64);
                Some(sealed(&there)?)
            }
        };
        Ok(Compiled { arena: here, header, plan, steps: recipe.steps })
    }

    fn lay_out(&self, to: &mut [u64], header: &Header, base: u64) {
        // SAFETY: the words are at least as long as everything put into them, and all
        // of it is plain data.
        unsafe {
            let start = to.as_mut_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(self.data.as_ptr(), start, self.data.len());
            start.cast::<Header>().write(*header);
            for at in &self.addresses {
                let word = start.add(*at).cast::<u64>();
                word.write(word.read() + base);
            }
            let ops = start.add(header.ops as usize).cast::<Op>();
            for (index, op) in self.ops.iter().enumerate() {
                ops.add(index).write(*op);
            }
            for index in &self.relocated {
                let op = &mut *ops.add(*index);
                op.x += base;
                if op.code == Code::Exec {
                    op.y += base;
                }
            }
        }
    }
}

/// A memfd that nobody can change any more.
fn sealed(words: &[u64]) -> Result<OwnedFd> {
    use std::io::Write;
    let failed =
        |errno: nix::errno::Errno| Failure::kernel("make a memfd for the plan", errno.into());
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(c"ireko-plan", flags).map_err(failed)?;
    // SAFETY: plain words, read as bytes.
    let bytes = unsafe {
        std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), std::mem::size_of_val(words))
    };
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)
        .map_err(|e| Failure::kernel("write the plan", ireko_sys::Errno::of(&e)))?;
    let seals = SealFlag::all();
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_ADD_SEALS(seals)).map_err(failed)?;
    Ok(ireko_sys::above(10, OwnedFd::from(file))?)
}

/// A start, laid out in memory: immutable, for any number of spawns at once.
#[derive(Debug)]
pub struct Compiled {
    arena: Vec<u64>,
    header: Header,
    plan: Option<OwnedFd>,
    steps: Vec<Step>,
}

impl Compiled {
    /// What will be done, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether a helper of our own is executed first.
    #[must_use]
    pub fn is_helped(&self) -> bool {
        self.plan.is_some()
    }

    pub(crate) fn plan(&self) -> Option<&OwnedFd> {
        self.plan.as_ref()
    }

    /// The part that the fresh child takes on the caller's memory.
    pub(crate) fn walk(&self, page: *const ireko_child::Page) -> Walk {
        let base = self.arena.as_ptr().cast::<u8>();
        Walk {
            base,
            ops: base.wrapping_add(self.header.ops as usize).cast(),
            from: 0,
            to: if self.is_helped() { self.header.from } else { self.header.to },
            page,
        }
    }
}

const _: () = assert!(slot::FREE < SLOTS as u32);
