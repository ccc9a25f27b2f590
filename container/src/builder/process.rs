//! The process, as in `std::process::Command`.

use super::Builder;
use super::EnvChange;
use crate::{Resource, Signal, Stdio, User};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

impl Builder {
    /// The program, looked up inside, along the container's `PATH` when it has no
    /// slash. Replaces an image's entrypoint, and its arguments.
    pub fn command(mut self, program: impl AsRef<OsStr>) -> Self {
        self.0.command = Some(program.as_ref().to_owned());
        self
    }

    /// What the program sees as its own name. Default: as given to `command`.
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.0.arg0 = Some(name.as_ref().to_owned());
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable. The environment is a `PATH` and an image's own, else empty.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let change = EnvChange::Set(key.as_ref().to_owned(), value.as_ref().to_owned());
        self.0.env.push(change);
        self
    }

    /// Sets variables: `.envs(std::env::vars_os())` passes on the caller's.
    pub fn envs(
        mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        let set = |(k, v): (_, _)| {
            EnvChange::Set(OsStr::to_owned(AsRef::as_ref(&k)), OsStr::to_owned(AsRef::as_ref(&v)))
        };
        self.0.env.extend(vars.into_iter().map(set));
        self
    }

    /// Removes a variable.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.0.env.push(EnvChange::Remove(key.as_ref().to_owned()));
        self
    }

    /// Removes every variable, `PATH` and an image's included.
    pub fn env_clear(mut self) -> Self {
        self.0.env.push(EnvChange::Clear);
        self
    }

    /// The directory inside to start in. Default: an image's, else `/`.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.0.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Who it runs as, inside. Default: an image's user, else 0, else the first id
    /// that is mapped.
    pub fn user(mut self, user: impl Into<User>) -> Self {
        self.0.user = Some(user.into());
        self
    }

    /// Further groups. Default: those the container's `/etc/group` gives a named user.
    pub fn groups(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.0.groups = Some(gids.into_iter().collect());
        self
    }

    /// Standard input.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.0.stdio[0] = Some(stdio.into());
        self
    }

    /// Standard output.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.0.stdio[1] = Some(stdio.into());
        self
    }

    /// Standard error.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.0.stdio[2] = Some(stdio.into());
        self
    }

    /// Gives it an open file under this number. All others are closed.
    pub fn pass_fd(mut self, number: u32, fd: impl Into<OwnedFd>) -> Self {
        self.0.fds.push((number, Arc::new(fd.into())));
        self
    }

    /// Soft and hard limit. `u64::MAX` is none. A hard limit above the caller's
    /// needs `CAP_SYS_RESOURCE`.
    pub fn rlimit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.0.rlimits.retain(|(known, ..)| *known != resource);
        self.0.rlimits.push((resource, soft, hard));
        self
    }

    /// Default: 0o022.
    pub fn umask(mut self, mask: u32) -> Self {
        self.0.umask = Some(mask);
        self
    }

    /// −20 to 19, added to the caller's. Below it needs `CAP_SYS_NICE`.
    pub fn nice(mut self, increment: i32) -> Self {
        self.0.nice = Some(increment);
        self
    }

    /// −1,000 (never) to 1,000 (first). Below the caller's needs `CAP_SYS_RESOURCE`.
    pub fn oom_score_adj(mut self, score: i32) -> Self {
        self.0.oom_score_adj = Some(score);
        self
    }

    /// What `stop()` sends. Default: an image's, else SIGTERM.
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.0.stop_signal = Some(signal);
        self
    }
}
