use crate::start::{Code, Compiled, Failed, Fd, Op, Pipes, Recipe, Start, flag, slot};
use crate::{IdMap, IdMaps, Namespaces, NsFd, Result};
use ireko_sys::{Errno, ErrorKind, Failure, Pidfd, Stdio};
use std::ffi::{OsStr, OsString};
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};

/// What a program printed, and how it ended.
pub use std::process::Output;

/// A program in new namespaces and nothing more: `unshare(1)` as a value.
///
/// Safe from threaded programs: what runs between clone and exec is the same
/// allocation-free child that containers start with. As in `std::process::Command`
/// the environment and the standard streams are the caller's unless set. No
/// confinement: for that use the crate `ireko`. A Landlock domain or a further seccomp filter that
/// one thread took for itself alone may not be passed on: restrict the program before its
/// first start.
///
/// ```
/// use ireko_namespaces::{Namespaces, Spawn};
/// let output = Spawn::new("sh")
///     .args(["-c", "echo $$"])
///     .namespaces(Namespaces::USER | Namespaces::PID | Namespaces::MOUNT)
///     .mount_proc()
///     .output()?;
/// assert_eq!(output.stdout, b"1\n");
/// # Ok::<(), ireko_namespaces::Error>(())
/// ```
#[doc(alias = "clone3")]
#[derive(Clone, Debug)]
#[must_use = "nothing starts until spawn(), status() or output()"]
pub struct Spawn {
    program: OsString,
    args: Vec<OsString>,
    clear: bool,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    stdio: [Option<Stdio>; 3],
    kinds: Namespaces,
    joined: Vec<NsFd>,
    maps: Option<IdMaps>,
    proc: bool,
    cgroup: Option<Arc<OwnedFd>>,
}

impl Spawn {
    /// Runs `program`, looked up in the caller's `PATH` when it has no slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            clear: false,
            env: Vec::new(),
            dir: None,
            stdio: [None, None, None],
            kinds: Namespaces::empty(),
            joined: Vec::new(),
            maps: None,
            proc: false,
            cgroup: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts from an empty environment.
    pub fn env_clear(mut self) -> Self {
        self.clear = true;
        self.env.clear();
        self
    }

    /// The directory to start in. Default: the caller's.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Standard input. Default: null for `output()`, else inherited.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(stdio.into());
        self
    }

    /// Standard output. Default: a pipe for `output()`, else inherited.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(stdio.into());
        self
    }

    /// Standard error. Default: a pipe for `output()`, else inherited.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(stdio.into());
        self
    }

    /// Starts it in new namespaces of these kinds. Default: none.
    pub fn namespaces(mut self, kinds: Namespaces) -> Self {
        self.kinds = kinds;
        self
    }

    /// Starts it in this one. Several calls, several kinds. `Unsupported` for a pid
    /// namespace: the kernel moves only later children.
    pub fn join(mut self, namespace: &NsFd) -> Self {
        self.joined.push(namespace.clone());
        self
    }

    /// Who is who in the new user namespace. Adds `USER`. Default with `USER`:
    /// [`IdMaps::caller_as_root`]. Where the caller is not in the maps the program runs
    /// as root inside, or as the first id that there is.
    pub fn id_maps(mut self, maps: IdMaps) -> Self {
        self.maps = Some(maps);
        self.kinds |= Namespaces::USER;
        self
    }

    /// Puts a fresh `/proc` in place. Adds `MOUNT`; `Invalid` without `PID`.
    pub fn mount_proc(mut self) -> Self {
        self.proc = true;
        self.kinds |= Namespaces::MOUNT;
        self
    }

    /// Starts it in this cgroup, a directory of cgroup v2. Linux 5.7.
    #[doc(alias = "CLONE_INTO_CGROUP")]
    pub fn into_cgroup(mut self, dir: impl Into<OwnedFd>) -> Self {
        self.cgroup = Some(Arc::new(dir.into()));
        self
    }

    /// Starts the program. It has been executed when this returns.
    ///
    /// # Errors
    /// Every step up to exec, a missing program included; nothing is left running.
    pub fn spawn(&self) -> Result<Child> {
        self.start([Stdio::Inherit, Stdio::Inherit, Stdio::Inherit])
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), and `Lost` as [`Child::wait`].
    pub fn status(&self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Starts it, waits for its end and keeps what it prints: until both pipes are at
    /// their end, as std does.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn output(&self) -> Result<Output> {
        let child = self.start([Stdio::Null, Stdio::Piped, Stdio::Piped])?;
        drop(child.take_stdin());
        let (stdout, stderr) = (child.take_stdout(), child.take_stderr());
        let read = |pipe: Option<PipeReader>| {
            let mut bytes = Vec::new();
            pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes)).map(|_| bytes)
        };
        let failed =
            |e: std::io::Error| Failure::kernel("read what a program prints", Errno::of(&e));
        let (stdout, stderr) = std::thread::scope(|scope| {
            let other = scope.spawn(|| read(stderr));
            let stdout = read(stdout);
            let stderr = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (stdout, stderr)
        });
        Ok(Output {
            status: child.wait()?,
            stdout: stdout.map_err(failed)?,
            stderr: stderr.map_err(failed)?,
        })
    }

    fn start(&self, defaults: [Stdio; 3]) -> Result<Child> {
        let compiled = self.compile()?;
        let maps = self.maps.clone().unwrap_or_else(IdMaps::caller_as_root);
        let (pipes, streams) = Pipes::open(&self.stdio, defaults)?;
        let mut start = Start::new(&compiled, self.kinds).stdio(streams.fds());
        if self.kinds.contains(Namespaces::USER) {
            start = start.id_maps(&maps);
        }
        if let Some(dir) = &self.cgroup {
            start = start.cgroup(dir.as_fd());
        }
        for (index, namespace) in self.joined.iter().enumerate() {
            start = start.slot(slot::FREE + index as u32, namespace.as_raw_fd().into());
        }
        let started = start.run().map_err(|failed: Failed| failed.error)?;
        Ok(Child { pidfd: started.pidfd, pid: started.pid, status: OnceLock::new(), pipes })
    }

    fn compile(&self) -> Result<Compiled> {
        let invalid = |what: &'static str, reason: &'static str| {
            Err(Failure::ours(ErrorKind::Invalid, what, reason).into())
        };
        if self.proc && !self.kinds.contains(Namespaces::PID) {
            return invalid("mount a fresh /proc", "it shows a pid namespace: add Namespaces::PID");
        }
        for namespace in &self.joined {
            // The kernel moves later children only.
            if namespace.kind()? == Namespaces::PID {
                let (what, reason) = ("enter a pid namespace", "the program itself would stay out");
                return Err(Failure::ours(ErrorKind::Unsupported, what, reason).into());
            }
        }
        if self.kinds.contains(Namespaces::TIME) {
            return invalid("clone into a new time namespace", "it can only be unshared");
        }
        let user = self.kinds.contains(Namespaces::USER);
        if user {
            self.maps.clone().unwrap_or_else(IdMaps::caller_as_root).check()?;
        }
        let mut recipe = Recipe::new();
        for (index, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
            let op = Op {
                a: Fd::slot(slot::STDIN + index as u32).0,
                b: index as u32,
                ..Op::new(Code::PutFd)
            };
            recipe.push(op, 0, format!("put {name} in place"));
        }
        // Another's namespaces are entered with memory of our own only.
        if user || !self.joined.is_empty() {
            let kept: Vec<(Fd, String)> = (0..self.joined.len())
                .map(|index| (Fd::slot(slot::FREE + index as u32), "a namespace".to_owned()))
                .collect();
            let kept: Vec<(Fd, &str)> =
                kept.iter().map(|(fd, text)| (*fd, text.as_str())).collect();
            let ids = if user { self.ids() } else { None };
            let needed = if user { SYS_ADMIN } else { 0 };
            let needed = needed | if ids.is_some() { SETGID | SETUID } else { 0 };
            recipe.enter_helper(needed, 0, &kept);
            recipe.wait_for_maps(0, &[]);
            if let Some((uid, gid)) = ids {
                let op = Op {
                    b: uid,
                    c: gid,
                    x: recipe.numbers(&[]).into(),
                    flags: if self.maps().groups_allowed() { 0 } else { flag::NO_GROUPS },
                    ..Op::new(Code::SetIds)
                };
                recipe.push(op, 0, format!("become user {uid}, group {gid}"));
            }
        }
        for (index, namespace) in self.joined.iter().enumerate() {
            let kind = namespace.kind()?;
            if index == 0 {
                recipe.push(
                    Op::new(Code::Undumpable),
                    0,
                    "let nobody inside look into this process",
                );
            }
            let op = Op {
                a: Fd::slot(slot::FREE + index as u32).0,
                x: kind.bits().into(),
                ..Op::new(Code::JoinNamespace)
            };
            recipe.push(op, 0, format!("enter the {kind} namespace"));
        }
        if self.kinds.contains(Namespaces::MOUNT) {
            recipe.push(Op::new(Code::Private), 0, "let no mount cross to the host");
        }
        if self.proc {
            let op = Op {
                a: recipe.text("proc")?,
                b: recipe.list::<&str>([])?,
                c: 0,
                x: 0x0e, // nosuid, nodev, noexec
                ..Op::new(Code::NewFs)
            };
            recipe.push(op, 0, "make a procfs");
            let root = Op { a: Fd::CWD.0, b: recipe.text("/")?, c: 1, ..Op::new(Code::OpenPath) };
            recipe.push(root, 0, "look up /");
            let op = Op {
                a: Fd::register(0).0,
                b: Fd::register(1).0,
                c: recipe.text("proc")?,
                flags: flag::STRICT | flag::READ_BACK,
                y: u64::MAX,
                ..Op::new(Code::Attach)
            };
            recipe.push(op, 0, "mount proc on /proc");
        }
        if let Some(dir) = &self.dir {
            let op = Op { a: recipe.text(dir)?, ..Op::new(Code::EnterPath) };
            recipe.push(op, 0, format!("change directory to {}", dir.display()));
        }
        if user {
            recipe.push(Op::new(Code::PassNothingOn), 0, "pass no capability on to the program");
        }
        // As std: what the Rust runtime ignores is its own affair.
        let pipe = Op { x: 1 << (libc::SIGPIPE - 1), ..Op::new(Code::Signals) };
        recipe.push(pipe, 0, "unblock signals, and reset SIGPIPE");
        recipe.push(Op::new(Code::CloseOnExec), 0, "close every other file at exec");
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let candidates = recipe.list(candidates(&self.program, &path))?;
        let arguments = recipe.vector(std::iter::once(&self.program).chain(&self.args))?;
        let environment = recipe.vector(self.environment())?;
        let text = format!("execute {}", self.program.display());
        recipe.push_exec(candidates, arguments, environment, 0, text);
        recipe.compile()
    }

    fn maps(&self) -> IdMaps {
        self.maps.clone().unwrap_or_else(IdMaps::caller_as_root)
    }

    /// Who it must become, where the maps leave the caller out: it would be nobody.
    fn ids(&self) -> Option<(u32, u32)> {
        let maps = self.maps();
        // SAFETY: these take nothing and cannot fail.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let uid = inside(maps.uid_maps(), uid);
        let gid = inside(maps.gid_maps(), gid);
        (uid.1 || gid.1).then_some((uid.0, gid.0))
    }

    fn environment(&self) -> Vec<OsString> {
        let inherited = if self.clear { Vec::new() } else { std::env::vars_os().collect() };
        let mut vars: Vec<(OsString, OsString)> = inherited;
        for (key, value) in &self.env {
            match vars.iter_mut().find(|(name, _)| name == key) {
                Some(var) => var.1.clone_from(value),
                None => vars.push((key.clone(), value.clone())),
            }
        }
        let join = |(mut key, value): (OsString, OsString)| {
            key.push("=");
            key.push(value);
            key
        };
        vars.into_iter().map(join).collect()
    }
}

/// `CAP_SYS_ADMIN`, with which the helper mounts and enters.
const SYS_ADMIN: u64 = 1 << 21;
/// With these it becomes another inside.
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;

/// Who this id is inside, or else who it is to become: root, or the first that there is.
fn inside(maps: &[IdMap], id: u32) -> (u32, bool) {
    let own = maps.iter().find(|m| id >= m.outside && id - m.outside < m.count);
    if let Some(map) = own {
        return (map.inside + (id - map.outside), false);
    }
    let root = maps.iter().any(|m| m.inside == 0);
    (maps.first().filter(|_| !root).map_or(0, |m| m.inside), true)
}

/// Where a program of this name is looked for.
fn candidates(program: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    path.as_bytes()
        .split(|b| *b == b':')
        .map(|dir| if dir.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(dir)) })
        .map(|dir| dir.join(program))
        .collect()
}

/// A started program. Dropping it leaves it running, as in std.
#[derive(Debug)]
pub struct Child {
    pidfd: Pidfd,
    pid: u32,
    status: OnceLock<ExitStatus>,
    pipes: Pipes,
}

impl Child {
    /// Its number in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end. Any number of threads may wait; all get the same answer.
    ///
    /// # Errors
    /// `Lost` when another part of the program took the status and the kernel cannot
    /// tell it any more (before 6.15).
    pub fn wait(&self) -> Result<ExitStatus> {
        self.pidfd.poll(None)?;
        match self.try_wait()? {
            Some(status) => Ok(status),
            None => Ok(self.pidfd.wait()?.status),
        }
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.status.get() {
            return Ok(Some(*status));
        }
        let status = self.pidfd.try_wait();
        if let Some(status) = self.status.get() {
            // Another thread was faster.
            return Ok(Some(*status));
        }
        Ok(status?.map(|reaped| *self.status.get_or_init(|| reaped.status)))
    }

    /// The pipe to its stdin, once, when that was [`Stdio::Piped`].
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

    /// Ends it, and with a pid namespace everything in it.
    ///
    /// # Errors
    /// `NotFound` when it has been waited for.
    pub fn kill(&self) -> Result<()> {
        Ok(self.pidfd.signal(ireko_sys::Signal::KILL)?)
    }

    /// To signal it, poll for it, or look at its namespaces.
    #[must_use]
    pub fn pidfd(&self) -> &Pidfd {
        &self.pidfd
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}
