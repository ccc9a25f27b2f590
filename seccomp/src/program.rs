use crate::{Action, Arch, Error, ErrorKind, Instruction, Profile, Result};
use crate::{check, decision, simulate};
use ireko_sys::Failure;
use std::fmt;
use std::sync::Arc;

/// Finished BPF. Cloning it copies nothing, installing it allocates nothing.
#[derive(Clone)]
pub struct Program {
    code: Arc<[Instruction]>,
    arch: Arch,
    /// What it was compiled from: for the reasons of its decisions.
    profile: Option<Arc<Profile>>,
}

impl Program {
    pub(crate) fn compiled(code: Vec<Instruction>, arch: Arch, profile: &Profile) -> Self {
        Self { code: code.into(), arch, profile: Some(Arc::new(profile.clone())) }
    }

    /// A filter made elsewhere, by `seccompiler` say, for the architecture of this
    /// program. With the feature `seccompiler` its own type converts, too.
    ///
    /// # Errors
    /// `Invalid` for a program the kernel's checker would refuse.
    pub fn from_instructions(instructions: impl IntoIterator<Item = Instruction>) -> Result<Self> {
        let code: Arc<[Instruction]> = instructions.into_iter().collect();
        check::check(&code)
            .map_err(|reason| Failure::ours(ErrorKind::Invalid, "take a filter", reason))?;
        Ok(Self { code, arch: Arch::Native, profile: None })
    }

    /// What would the kernel do, and by which rule? Needs no kernel: the program is run by
    /// an interpreter.
    ///
    /// ```
    /// use ireko_seccomp::{Action, Arch, Errno, Profile};
    /// let program = Profile::standard().compile(Arch::X86_64)?;
    /// let verdict = program.decide("socket", [38, 5, 0, 0, 0, 0])?;
    /// assert_eq!(verdict.action, Action::Errno(Errno::EPERM));
    /// assert_eq!(verdict.rule, None); // AF_ALG: nothing allows it.
    /// # Ok::<(), ireko_seccomp::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a name the architecture does not have; `Unsupported` for an
    /// architecture without a table.
    pub fn decide(&self, syscall: &str, args: [u64; 6]) -> Result<Verdict> {
        let table = self.arch.table()?;
        let number = table.number(syscall).ok_or_else(|| {
            Error::from(Failure::ours(
                ErrorKind::Invalid,
                format!("decide on {syscall:?}"),
                "the architecture has no such call",
            ))
        })?;
        Ok(self.decide_raw(table.audit, number, args))
    }

    /// As [`decide`](Self::decide), for any number of any ABI: `audit_arch` is the
    /// kernel's `AUDIT_ARCH_*`, 0x4000_0003 for i386.
    #[must_use]
    pub fn decide_raw(&self, audit_arch: u32, number: u32, args: [u64; 6]) -> Verdict {
        let call = simulate::call(audit_arch, number, args);
        let action = Action::of_raw(simulate::run(&self.code, &call));
        Verdict { action, rule: self.rule(audit_arch, number, args) }
    }

    fn rule(&self, audit_arch: u32, number: u32, args: [u64; 6]) -> Option<usize> {
        let table = self.arch.table().ok().filter(|table| table.audit == audit_arch)?;
        let list = decision::for_call(self.profile.as_deref()?, table.name(number)?);
        list.iter().find(|entry| entry.holds_for(args))?.rule
    }

    /// BPF instructions; the kernel takes 4,096 at most.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.code.len()
    }

    /// The instructions, laid out as the kernel's `sock_filter`.
    #[must_use]
    pub fn as_slice(&self) -> &[Instruction] {
        &self.code
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("arch", &self.arch)
            .field("instructions", &self.instructions())
            .finish_non_exhaustive()
    }
}

/// A decision and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// The rule, by its place in [`Profile::rules`]; `None`: no rule decided it, or the
    /// program was not compiled here.
    pub rule: Option<usize>,
}
