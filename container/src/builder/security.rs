//! Privileges. Exceptions say in their names what they give away.

use super::Builder;
use ireko_capabilities::CapSet;
use ireko_seccomp::{Profile, Program};

impl Builder {
    /// What the program can do, exactly. Inheritable and ambient are empty unless it
    /// runs as another than root. Default: [`CapSet::STANDARD`] for root, none for others.
    pub fn capabilities(mut self, set: CapSet) -> Self {
        self.0.capabilities = Some(set);
        self
    }

    /// The system calls it can make. Default: [`Profile::standard`], with what the
    /// capabilities need.
    pub fn seccomp(mut self, profile: Profile) -> Self {
        self.0.profile = Some(profile);
        self
    }

    /// A finished filter, besides the profile: the stricter answer wins.
    pub fn seccomp_program(mut self, program: Program) -> Self {
        self.0.programs.push(program);
        self
    }

    /// Set-user-id programs and file capabilities work, as far as its ids go.
    pub fn dangerously_allow_new_privileges(mut self) -> Self {
        self.0.new_privileges = true;
        self
    }

    /// No system call filter: the whole kernel interface can be attacked.
    pub fn dangerously_disable_seccomp(mut self) -> Self {
        self.0.no_filter = true;
        self
    }

    /// All of `/proc` and `/sys`, writable where its ids may.
    pub fn dangerously_unmask_proc(mut self) -> Self {
        self.0.unmasked = true;
        self
    }
}
