use crate::{Cap, CapSet, Errno, ErrorKind, Pidfd, Result, kernel, status};
use ireko_sys::{Failure, ProcRoot};
use std::io::Read;

/// The five sets of a thread.
///
/// See [`capabilities(7)`](https://man7.org/linux/man-pages/man7/capabilities.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct State {
    /// What it can do now.
    pub effective: CapSet,
    /// What it can take up.
    pub permitted: CapSet,
    /// What goes to programs that have file capabilities for it.
    pub inheritable: CapSet,
    /// What can never be exceeded.
    pub bounding: CapSet,
    /// What goes to programs as they are. Linux 4.3.
    pub ambient: CapSet,
}

impl State {
    /// Nothing in any of them: what a program that needs none drops to.
    pub const EMPTY: Self = Self::for_exec(CapSet::EMPTY, 0);

    /// The calling thread's. Allocates nothing.
    ///
    /// # Errors
    /// `Unsupported` on a kernel without capabilities.
    #[doc(alias = "capget")]
    pub fn of_thread() -> Result<Self> {
        let [effective, permitted, inheritable] =
            kernel::capget().map_err(|e| Failure::kernel("read the thread's capabilities", e))?;
        let (bounding, _) = bounding();
        Ok(Self { effective, permitted, inheritable, bounding, ambient: kernel::ambient() })
    }

    /// Another process's: those of its main thread.
    ///
    /// # Errors
    /// `NotFound` when it has ended; `Unsupported` where `/proc` does not tell.
    pub fn of_process(process: &Pidfd) -> Result<Self> {
        let mut text = Vec::new();
        ProcRoot::open()?
            .of(process, "status")?
            .read_to_end(&mut text)
            .map_err(|e| Failure::kernel("read a process's status", Errno::of(&e)))?;
        // The name of the process can be any bytes.
        status::parse(&String::from_utf8_lossy(&text))
    }

    /// What lets a program that `uid` executes have exactly `set`: inheritable and
    /// ambient are `set` when `uid` is not 0, and empty when it is. Changes no ids.
    pub const fn for_exec(set: CapSet, uid: u32) -> Self {
        let passed_on = if uid == 0 { CapSet::EMPTY } else { set };
        Self {
            effective: set,
            permitted: set,
            inheritable: passed_on,
            bounding: set,
            ambient: passed_on,
        }
    }

    /// These without one capability, in all five.
    pub const fn without(self, cap: Cap) -> Self {
        Self {
            effective: self.effective.without(cap),
            permitted: self.permitted.without(cap),
            inheritable: self.inheritable.without(cap),
            bounding: self.bounding.without(cap),
            ambient: self.ambient.without(cap),
        }
    }

    /// Applies it to the calling thread, no other, in an order that cannot lock itself
    /// out (bounding set, the three of `capset` at once, ambient set), then reads it
    /// back. What succeeds cannot be undone; after an error the thread has none that it
    /// could not have taken up before.
    ///
    /// # Errors
    /// `Invalid` for sets that no thread can have: effective beyond permitted, or
    /// ambient beyond permitted or inheritable. `Denied` for what the thread does not
    /// have, and for a bounding set that it lacks `CAP_SETPCAP` to lower. `Kernel` when
    /// what is read back differs.
    #[doc(alias = "capset")]
    pub fn apply(&self) -> Result<()> {
        self.check()?;
        self.lower_bounding()?;
        kernel::capset([self.effective, self.permitted, self.inheritable])
            .map_err(|e| Failure::kernel("set the thread's capabilities", e))?;
        self.set_ambient()?;
        let now = Self::of_thread()?;
        if now == *self {
            return Ok(());
        }
        let reason = format!("asked for {self:x?}, and have {now:x?}");
        Err(Failure::ours(ErrorKind::Kernel, "set the thread's capabilities", reason).into())
    }

    fn check(&self) -> Result<()> {
        let wrong = if !self.effective.is_subset_of(self.permitted) {
            "effective has some that permitted has not"
        } else if !self.ambient.is_subset_of(self.permitted.intersection(self.inheritable)) {
            "ambient has some that permitted or inheritable has not"
        } else {
            return Ok(());
        };
        Err(Failure::ours(ErrorKind::Invalid, "set the thread's capabilities", wrong).into())
    }

    /// Asks for each number until the kernel has no more: one that is newer than this
    /// crate is dropped with the rest.
    fn lower_bounding(&self) -> Result<()> {
        const WHAT: &str = "lower the bounding set";
        let (now, end) = bounding();
        if !self.bounding.is_subset_of(now) {
            let missing = self.bounding.difference(now);
            let reason = format!("it has not {missing}, and nothing is ever added to it");
            return Err(Failure::ours(ErrorKind::Denied, WHAT, reason).into());
        }
        if self.bounding == now {
            return Ok(());
        }
        let [effective, permitted, inheritable] =
            kernel::capget().map_err(|e| Failure::kernel(WHAT, e))?;
        if !effective.contains(Cap::Setpcap) && permitted.contains(Cap::Setpcap) {
            kernel::capset([effective.with(Cap::Setpcap), permitted, inheritable])
                .map_err(|e| Failure::kernel(WHAT, e))?;
        }
        let drop = now.difference(self.bounding);
        for cap in (0..end).filter(|cap| drop.bits() & 1 << cap != 0) {
            kernel::drop_from_bounding_set(cap).map_err(|e| {
                Failure::kernel(WHAT, e)
                    .remedy("run it with CAP_SETPCAP, or leave the bounding set as it is")
            })?;
        }
        Ok(())
    }

    fn set_ambient(&self) -> Result<()> {
        // Lowering permitted or inheritable has lowered it already.
        let now = kernel::ambient();
        if now == self.ambient {
            return Ok(());
        }
        let failed = |e| Failure::kernel("set the ambient capabilities", e);
        kernel::clear_ambient().map_err(failed)?;
        for cap in (0..64).filter(|cap| self.ambient.bits() & 1 << cap != 0) {
            kernel::raise_ambient(cap).map_err(failed)?;
        }
        Ok(())
    }
}

/// The bounding set, and the first number the kernel does not have.
fn bounding() -> (CapSet, u32) {
    let mut bits = 0;
    for cap in 0..64 {
        match kernel::in_bounding_set(cap) {
            Some(true) => bits |= 1 << cap,
            Some(false) => {}
            None => return (CapSet::from_bits(bits), cap),
        }
    }
    (CapSet::from_bits(bits), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_exec_fills_inheritable_and_ambient_for_ordinary_users_alone() {
        let root = State::for_exec(CapSet::STANDARD, 0);
        assert_eq!(root.permitted, CapSet::STANDARD);
        assert_eq!(root.bounding, CapSet::STANDARD);
        assert_eq!((root.inheritable, root.ambient), (CapSet::EMPTY, CapSet::EMPTY));
        let user = State::for_exec(CapSet::STANDARD, 1000);
        assert_eq!((user.inheritable, user.ambient), (CapSet::STANDARD, CapSet::STANDARD));
        assert_eq!(root.without(Cap::Kill).bounding, CapSet::STANDARD.without(Cap::Kill));
    }

    #[test]
    fn refuses_what_no_thread_can_have() {
        let now = State::of_thread().unwrap();
        for wrong in [
            State { effective: CapSet::from_bits(1), permitted: CapSet::EMPTY, ..now },
            State { ambient: CapSet::from_bits(1), inheritable: CapSet::EMPTY, ..now },
        ] {
            assert_eq!(wrong.apply().unwrap_err().kind(), ErrorKind::Invalid);
        }
        let more = State { bounding: CapSet::from_bits(1 << 63), ..now };
        assert_eq!(more.apply().unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(State::of_thread().unwrap(), now);
    }

    #[test]
    fn what_a_thread_has_can_be_applied_to_it() {
        std::thread::spawn(|| {
            let now = State::of_thread().unwrap();
            now.apply().unwrap();
            assert_eq!(State::of_thread().unwrap(), now);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn proc_and_the_calls_tell_the_same() {
        let me = Pidfd::open(std::process::id()).unwrap();
        assert_eq!(State::of_process(&me).unwrap(), State::of_thread().unwrap());
    }
}
