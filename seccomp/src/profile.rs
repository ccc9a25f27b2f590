use crate::rule::Layer;
use crate::{Action, Arch, CapSet, Condition, Errno, Program, Result, Rule};
use crate::{compiler, gated, presets};
use std::borrow::Cow;

/// Which system calls are allowed: a set of rules, whose order does not matter.
///
/// Of the rules for a call whose conditions hold, the strictest decides; where none
/// holds, the rule for it without conditions; where there is none,
/// [`otherwise`](Self::otherwise). What is said of a call on top of a preset takes the
/// place of what the preset says where both apply. Names that no architecture has,
/// arguments that do not exist and rules that contradict one another are errors of
/// [`compile`](Self::compile).
///
/// ```
/// use ireko_seccomp::{Action, Arch, Errno, Profile, arg};
/// let program = Profile::new(Action::KillProcess)
///     .allow(["read", "write", "exit_group"])
///     .rule("fcntl", [arg(1).equals_int(3)], Action::Allow)
///     .deny(["socket"], Errno::EACCES)
///     .compile(Arch::X86_64)?;
/// assert_eq!(program.decide("fcntl", [0, 3, 0, 0, 0, 0])?.action, Action::Allow);
/// assert_eq!(program.decide("fcntl", [0, 4, 0, 0, 0, 0])?.action, Action::KillProcess);
/// # Ok::<(), ireko_seccomp::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Profile {
    pub(crate) otherwise: Action,
    pub(crate) unknown: Action,
    pub(crate) foreign: Action,
    /// The profile's own rules, and those of each that was merged into it.
    pub(crate) groups: Vec<Vec<Rule>>,
}

impl Profile {
    /// Docker's list with its holes closed: neither `AF_ALG` nor `AF_VSOCK`, one ABI.
    pub fn compat() -> Self {
        presets::compat().clone()
    }

    /// What ordinary programs need: the default of a container.
    pub fn standard() -> Self {
        presets::standard().clone()
    }

    /// For code that is not trusted: Standard without what programs of that kind
    /// do not use and the kernel has had holes in.
    pub fn strict() -> Self {
        presets::strict().clone()
    }

    /// No rule: `otherwise` for every call that the architecture has, `ENOSYS` for
    /// those it has not.
    pub fn new(otherwise: Action) -> Self {
        let enosys = Action::Errno(Errno::ENOSYS);
        Self { otherwise, unknown: enosys, foreign: enosys, groups: vec![Vec::new()] }
    }

    /// What happens to calls that no rule names, whatever it was: with
    /// [`Action::KillProcess`] a preset kills where it refused. Default of the presets:
    /// `EPERM`.
    pub fn otherwise(mut self, action: Action) -> Self {
        self.otherwise = action;
        self
    }

    /// What happens to numbers that no table knows: those newer than this crate, and
    /// those in no use. Default: `ENOSYS`, which programs take for an older kernel.
    pub fn unknown(mut self, action: Action) -> Self {
        self.unknown = action;
        self
    }

    /// What happens to calls by another ABI: i386 (`int 0x80`) and x32 on x86-64. Must be
    /// a refusal, since their numbers mean other calls. Default: `ENOSYS`.
    pub fn foreign(mut self, action: Action) -> Self {
        self.foreign = action;
        self
    }

    /// Allows these calls.
    pub fn allow<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            self.push(name.to_owned(), Vec::new(), Action::Allow, Layer::Own);
        }
        self
    }

    /// Lets these calls fail.
    pub fn deny<'a>(mut self, names: impl IntoIterator<Item = &'a str>, errno: Errno) -> Self {
        for name in names {
            self.push(name.to_owned(), Vec::new(), Action::Errno(errno), Layer::Own);
        }
        self
    }

    /// A rule for one call, when all conditions hold; with none, for every such call.
    pub fn rule(
        mut self,
        name: &str,
        when: impl IntoIterator<Item = Condition>,
        then: Action,
    ) -> Self {
        self.push(name.to_owned(), when.into_iter().collect(), then, Layer::Own);
        self
    }

    /// The rules of both. A call that rules of both decide gets the stricter answer; one
    /// that rules of one decide, that one's; the others, the stricter `otherwise`. What
    /// the other says cannot be loosened afterwards.
    ///
    /// To confine by both, so that only what both allow is allowed, install two programs.
    pub fn merge(mut self, other: &Self) -> Self {
        self.otherwise = self.otherwise.stricter(other.otherwise);
        self.unknown = self.unknown.stricter(other.unknown);
        self.foreign = self.foreign.stricter(other.foreign);
        self.groups.extend(other.groups.iter().cloned());
        self
    }

    /// Allows what these capabilities would be useless without: `CAP_SYS_ADMIN` brings
    /// `mount`, `CAP_NET_RAW` packet sockets. Calls that have a rule of the user's keep it.
    pub fn for_capabilities(self, set: CapSet) -> Self {
        gated::open(self, set)
    }

    /// Compiles it. The presets are compiled once per process.
    ///
    /// # Errors
    /// `Invalid` for an unknown name, an argument past 5, a value outside its mask, two
    /// rules that contradict one another, a `foreign` that is no refusal, and more than
    /// 4,096 instructions. `Unsupported` for an architecture without a table.
    pub fn compile(&self, arch: Arch) -> Result<Program> {
        match presets::compiled(self, arch) {
            Some(program) => Ok(program?.clone()),
            None => compiler::compile(self, arch),
        }
    }

    /// The rules, in the order that [`Verdict::rule`](crate::Verdict::rule) counts in.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.groups.iter().flatten()
    }

    pub(crate) fn own_group(&mut self) -> &mut Vec<Rule> {
        if self.groups.is_empty() {
            self.groups.push(Vec::new());
        }
        &mut self.groups[0]
    }

    pub(crate) fn push(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        when: Vec<Condition>,
        then: Action,
        layer: Layer,
    ) {
        self.own_group().push(Rule { name: name.into(), when, then, layer });
    }
}
