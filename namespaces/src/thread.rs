//! The kinds that one thread of a threaded program may be in alone.
//!
//! The kernel lets a thread enter net, ipc, uts and cgroup namespaces. It
//! refuses user (EINVAL) and time (EUSERS) in any program with threads, mount
//! (EINVAL) while threads share their working directory, and entering a pid
//! namespace moves later children only. So these four kinds have `run`, and
//! the others are reached by starting a process: [`Spawn::join`](super::Spawn::join).

use crate::{Error, Namespaces, NsFd, Result};
use ireko_sys::{Errno, ErrorKind, Failure, Pidfd};
use std::os::fd::AsRawFd;
use std::path::Path;

macro_rules! enterable {
    ($($(#[$meta:meta])* $name:ident = $kind:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name(NsFd);

        impl $name {
            /// A new one that nobody is in. It lasts as long as this value, its
            /// clones, and whoever entered it.
            ///
            /// It belongs to the caller's user namespace: a container with a user
            /// namespace of its own cannot be started in it as if it were its own.
            ///
            /// # Errors
            /// `Denied` without `CAP_SYS_ADMIN`.
            pub fn create() -> Result<Self> {
                on_a_thread(|| {
                    unshare(Namespaces::$kind)?;
                    NsFd::of_thread(Namespaces::$kind).map(Self)
                })?
            }

            /// The one that a process is in.
            ///
            /// # Errors
            /// `NotFound` when it has ended; `Denied`.
            pub fn of_process(process: &Pidfd) -> Result<Self> {
                NsFd::of_process(process, Namespaces::$kind).map(Self)
            }

            /// A pinned one, or one under `/proc/PID/ns`.
            ///
            /// # Errors
            /// `Invalid` for another kind.
            pub fn open(path: impl AsRef<Path>) -> Result<Self> {
                Self::try_from(NsFd::open(path)?)
            }

            /// Runs `f` inside, on a thread made for it: no thread of the caller's
            /// ever changes namespace. Sockets and files that `f` returns stay valid.
            ///
            /// # Errors
            /// `Denied` without `CAP_SYS_ADMIN` in the user namespace that owns it. A
            /// panic of `f` goes on in the caller.
            pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
                on_a_thread(|| {
                    setns(&self.0)?;
                    Ok(f())
                })?
            }

            /// The namespace as any other.
            #[must_use]
            pub fn as_ns_fd(&self) -> &NsFd {
                &self.0
            }
        }

        /// `Invalid` when it is of another kind.
        impl TryFrom<NsFd> for $name {
            type Error = Error;

            fn try_from(fd: NsFd) -> Result<Self> {
                let kind = fd.kind()?;
                if kind == Namespaces::$kind {
                    return Ok(Self(fd));
                }
                let what = concat!("take a namespace for a ", stringify!($name));
                Err(Failure::ours(ErrorKind::Invalid, what, format!("it is of kind {kind}")).into())
            }
        }

        impl From<$name> for NsFd {
            fn from(ns: $name) -> Self {
                ns.0
            }
        }
    )*};
}

enterable! {
    /// A network namespace.
    NetNs = NET;
    /// An IPC namespace.
    IpcNs = IPC;
    /// A UTS namespace: host name and domain name.
    UtsNs = UTS;
    /// A cgroup namespace.
    CgroupNs = CGROUP;
}

fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("ireko-inside".into())
            .spawn_scoped(scope, f)
            .map_err(|e| Failure::kernel("start a thread", Errno::of(&e)))?;
        thread.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread, and only it, into new namespaces. With `PID`, later
/// children.
///
/// # Errors
/// `Invalid` for `USER` in a program with threads, and for `MOUNT` never: the thread's
/// working directory becomes its own. `Denied` without `CAP_SYS_ADMIN`, and the remedy
/// is to add `USER` through [`Spawn`](super::Spawn).
#[doc(alias = "CLONE_NEWNS")]
pub fn unshare(kinds: Namespaces) -> Result<()> {
    crate::start::moved();
    // SAFETY: a number; what changes is this thread's own.
    if unsafe { libc::unshare(kinds.bits() as i32) } == 0 {
        return Ok(());
    }
    let errno = Errno::last();
    let failure = Failure::kernel(format!("unshare {kinds}"), errno);
    Err(match errno.raw() {
        libc::EPERM if !kinds.contains(Namespaces::USER) => {
            failure.remedy("start a process with Spawn and a user namespace, or be root")
        }
        libc::EINVAL if kinds.contains(Namespaces::USER) => {
            failure.remedy("a program with threads cannot: start a process with Spawn")
        }
        libc::ENOSPC => failure.remedy("a limit user.max_*_namespaces is used up, not a disk"),
        _ => failure,
    }
    .into())
}

/// Moves the calling thread, and only it, into a namespace. With pid, later children.
///
/// # Errors
/// `Invalid` for user, time and mount namespaces in a program with threads.
pub fn setns(namespace: &NsFd) -> Result<()> {
    let kind = namespace.kind()?;
    crate::start::moved();
    // SAFETY: an open fd and its kind; what changes is this thread's own.
    if unsafe { libc::setns(namespace.as_raw_fd(), kind.bits() as i32) } == 0 {
        return Ok(());
    }
    let errno = Errno::last();
    let failure = Failure::kernel(format!("enter a {kind} namespace"), errno);
    Err(match errno.raw() {
        libc::EINVAL | libc::EUSERS => failure
            .kind(ErrorKind::Invalid)
            .remedy("a program with threads cannot: start a process with Spawn::join"),
        _ => failure,
    }
    .into())
}
