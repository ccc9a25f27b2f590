//! Steps that take privileges away, in the one order that works.

use super::{Draft, Maps, bad_text};
use crate::{Error, Feature, Policy, Result, Stage};
use ireko_capabilities::{CapSet, State};
use ireko_namespaces::start::{Code, Fd, Op, flag, slot};
use ireko_seccomp::{Action, Arch, Profile, Program};

impl Draft<'_> {
    /// Bounding set, ids, capabilities, parent's death, directory, umask, signals, files
    /// that are passed on, no-new-privs, filter.
    pub(super) fn privileges(&mut self) -> Result<()> {
        let config = self.config;
        let confined = self.shape.confined;
        if self.shape.helped {
            self.stage(Stage::Clone);
            let tag = self.tag();
            self.recipe.wait_for_leave(tag);
        }
        let set = config.capabilities.or(confined.then_some(CapSet::STANDARD));
        let user = self.shape.user.clone();
        let caps_required = self.policy(Feature::Capabilities, Policy::Required);
        if let Some(set) = set {
            self.feature(Stage::Security, Feature::Capabilities, caps_required);
            let op = Op { x: set.bits(), ..Op::new(Code::Bounding) };
            self.step(op, format!("drop all but {set} from the bounding set"));
        }
        // Where no-new-privs is off, a filter needs the capability that goes next.
        let filters = self.filters()?;
        let early = config.new_privileges;
        if early {
            self.install(&filters)?;
        }
        let mut changed = false;
        if let Some(ids) = &user {
            // Where it already is these, it is done again: nothing else says so.
            let keep = if set.is_some() { flag::KEEP_CAPS } else { 0 };
            let groups = ids.groups.clone();
            let done = !matches!(self.shape.maps, Maps::None)
                && (ids.uid, ids.gid) == self.shape.builder_ids()
                && groups.as_ref().is_none_or(Vec::is_empty);
            if !done {
                self.set_ids(ids.uid, ids.gid, groups.as_deref(), keep);
                changed = true;
            }
        }
        if let Some(set) = set {
            // SAFETY: geteuid takes nothing and cannot fail.
            let uid = user.as_ref().map_or_else(|| unsafe { libc::geteuid() }, |ids| ids.uid);
            let state = State::for_exec(set, uid);
            // What a preset allows root is not for everybody: another user has what was
            // named, or nothing, as with Docker.
            let state =
                if config.capabilities.is_none() && uid != 0 { State::EMPTY } else { state };
            self.feature(Stage::Security, Feature::Capabilities, caps_required);
            let op = Op {
                x: state.permitted.bits(),
                y: state.ambient.bits(),
                ..Op::new(Code::Capabilities)
            };
            let kept = state.permitted;
            self.step(op, format!("keep the capabilities {kept}"));
        }
        if changed {
            self.stage(Stage::Clone);
            let op = Op { a: Fd::slot(slot::CALLER).0, ..Op::new(Code::DieWithCaller) };
            self.step(op, "die with the caller, though ids changed");
        }
        self.stage(Stage::Process);
        if let Some(dir) = config.dir.clone() {
            let op = Op {
                a: self.recipe.text(&dir).map_err(bad_text("a directory"))?,
                ..Op::new(Code::EnterPath)
            };
            self.step(op, format!("change directory to {}", dir.display()));
        }
        if let Some(mask) = config.umask.or(confined.then_some(0o022)) {
            if mask > 0o777 {
                return Err(Error::invalid(format!("set the umask {mask:o}"), "it has nine bits"));
            }
            let op = Op { x: mask.into(), ..Op::new(Code::Umask) };
            self.step(op, format!("set the umask to {mask:03o}"));
        }
        // As std: who ignores another signal, nohup say, means it for what is started too.
        let bare = (1 << (libc::SIGPIPE - 1), "unblock signals, and reset SIGPIPE");
        let (reset, text) = if confined { (u64::MAX, "unblock and reset signals") } else { bare };
        self.step(Op { x: reset, ..Op::new(Code::Signals) }, text);
        self.passed_files()?;
        self.rlimits(true)?;
        if confined && !config.new_privileges || !filters.is_empty() && !early {
            let policy = self.policy(Feature::NoNewPrivileges, Policy::Required);
            self.feature(Stage::Security, Feature::NoNewPrivileges, policy);
            self.step(Op::new(Code::NoNewPrivileges), "give up gaining privileges by exec");
        }
        if !early {
            self.install(&filters)?;
        }
        Ok(())
    }

    fn filters(&self) -> Result<Vec<(Program, &'static str)>> {
        let config = self.config;
        if config.no_filter {
            if config.profile.is_some() || !config.programs.is_empty() {
                return Err(Error::invalid(
                    "plan a system call filter",
                    "it was given and disabled",
                ));
            }
            return Ok(Vec::new());
        }
        let mut filters = Vec::new();
        for program in &config.programs {
            filters.push((program.clone(), "the given filter"));
        }
        let set = config.capabilities.unwrap_or(CapSet::STANDARD);
        let profile = match &config.profile {
            Some(profile) => Some((profile.clone(), "the given profile")),
            None if self.shape.confined => {
                Some((Profile::standard().for_capabilities(set), "the Standard profile"))
            }
            None => None,
        };
        if let Some((profile, name)) = profile {
            filters.push((profile.compile(Arch::Native)?, name));
        }
        // From outside, a death in exec looks like one of the program.
        for (program, name) in &filters {
            let action = program.decide("execve", [0; 6])?.action;
            if matches!(action, Action::KillProcess | Action::KillThread | Action::Trap) {
                return Err(Error::invalid(
                    format!("install {name}"),
                    "it kills who calls execve, with which the program starts",
                )
                .with_remedy("allow execve"));
            }
        }
        Ok(filters)
    }

    fn install(&mut self, filters: &[(Program, &'static str)]) -> Result<()> {
        let policy = self.policy(Feature::Seccomp, Policy::Required);
        // One filter must not forbid the next, nor the question whether it is there.
        let allows = |name: &str| {
            filters.iter().all(|(program, _)| {
                program.decide(name, [21, 0, 0, 0, 0, 0]).is_ok_and(|v| v.action == Action::Allow)
            })
        };
        let readable = allows("prctl");
        for (index, (program, name)) in filters.iter().enumerate() {
            self.feature(Stage::Seccomp, Feature::Seccomp, policy);
            let bytes: Vec<u8> = program.as_slice().iter().flat_map(|i| i.to_bytes()).collect();
            let code = self.recipe.bytes(&bytes);
            let tag = self.tag();
            let last = index + 1 == filters.len();
            let flags = if readable && last { flag::READ_BACK } else { 0 }
                | if policy == Policy::Preferred { flag::PREFERRED } else { 0 };
            let count = program.instructions() as u32;
            self.recipe.push_filter(
                code,
                count,
                flags,
                tag,
                format!("install {name} ({count} instructions)"),
            );
        }
        Ok(())
    }
}
