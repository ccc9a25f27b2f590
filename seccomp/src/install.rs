//! The one call that cannot be taken back.

use crate::{Errno, ErrorKind, Program, Result};
use ireko_sys::Failure;

const WHAT: &str = "install the seccomp filter";

impl Program {
    /// Confines the calling thread and all it starts from now on, for good. Sets its
    /// `no_new_privs` before: nothing it executes gains privileges by set-user-id any
    /// more. See [`seccomp(2)`](https://man7.org/linux/man-pages/man2/seccomp.2.html).
    ///
    /// ```
    /// use ireko_seccomp::{Arch, Errno, Profile};
    /// # if cfg!(target_arch = "x86_64") {
    /// let program = Profile::standard().compile(Arch::Native)?;
    /// let refused = std::thread::spawn(move || {
    ///     program.install()?;
    ///     // SAFETY: no memory is passed.
    ///     let r = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    ///     Ok::<_, ireko_seccomp::Error>((r, Errno::last()))
    /// });
    /// assert_eq!(refused.join().unwrap()?, (-1, Errno::EPERM));
    /// # }
    /// # Ok::<(), ireko_seccomp::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unsupported` for a kernel without seccomp filters; `Exhausted` when all filters
    /// of the thread together are too long. `no_new_privs` stays set then.
    #[doc(alias = "no_new_privs")]
    #[doc(alias = "SECCOMP_SET_MODE_FILTER")]
    pub fn install(&self) -> Result<()> {
        no_new_privs()?;
        self.set_filter(0)
    }

    /// As [`install`](Self::install), but leaves `no_new_privs` as it is.
    ///
    /// # Errors
    /// `Denied` without `no_new_privs` or `CAP_SYS_ADMIN`; otherwise as
    /// [`install`](Self::install).
    pub fn install_as_root(&self) -> Result<()> {
        self.set_filter(0)
    }

    /// Confines every thread of this process, for good, or none. Sets `no_new_privs` of
    /// all of them. Linux 3.17.
    ///
    /// # Errors
    /// `Conflict` when another thread has a filter that this one has not; otherwise as
    /// [`install`](Self::install).
    #[doc(alias = "SECCOMP_FILTER_FLAG_TSYNC")]
    pub fn install_all_threads(&self) -> Result<()> {
        no_new_privs()?;
        self.set_filter(libc::SECCOMP_FILTER_FLAG_TSYNC)
    }

    fn set_filter(&self, flags: libc::c_ulong) -> Result<()> {
        let code = self.as_slice();
        let program = libc::sock_fprog {
            // No program is longer than 4,096.
            len: code.len() as u16,
            // The kernel only reads it; Instruction is laid out as sock_filter.
            filter: code.as_ptr().cast_mut().cast(),
        };
        // SAFETY: the structure and the instructions it points to live through the call.
        let r = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        match r {
            0 => Ok(()),
            thread if thread > 0 => {
                let reason = format!("thread {thread} has a filter that this one has not");
                Err(Failure::ours(ErrorKind::Conflict, WHAT, reason).into())
            }
            _ => Err(refused(Errno::last()).into()),
        }
    }
}

fn refused(errno: Errno) -> Failure {
    let failure = Failure::kernel(WHAT, errno);
    match errno.raw() {
        // The program was checked: it is the kernel that has no filters.
        libc::EINVAL => failure
            .kind(ErrorKind::Unsupported)
            .remedy("use a kernel with CONFIG_SECCOMP_FILTER, outside of a filter that hides it"),
        libc::EACCES => failure.remedy("use install, which sets no_new_privs, or CAP_SYS_ADMIN"),
        _ => failure,
    }
}

fn no_new_privs() -> Result<()> {
    let (one, zero): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: this option takes numbers alone.
    let r = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero) };
    if r < 0 { Err(Failure::kernel("set no_new_privs", Errno::last()).into()) } else { Ok(()) }
}
