//! Steps about the process: its namespaces, ids, settings and program.

use super::{Draft, FD_SLOTS, JOIN, Maps, bad_text, environment, register};
use crate::{Error, Feature, Policy, Resource, Result, Stage};
use ireko_capabilities::{Cap, CapSet};
use ireko_namespaces::start::{Code, Fd, Op, flag, slot};
use ireko_namespaces::{Namespaces, NsFd};
use std::ffi::OsString;

/// What the helper itself does something with, in the container's user namespace.
const NEEDED: CapSet = CapSet::EMPTY
    .with(Cap::Setuid)
    .with(Cap::Setgid)
    .with(Cap::Setpcap)
    .with(Cap::SysAdmin)
    .with(Cap::NetAdmin)
    .with(Cap::SysResource)
    .with(Cap::SysNice)
    .with(Cap::SysTime)
    .with(Cap::DacOverride)
    .with(Cap::Fowner);

impl Draft<'_> {
    /// What the fresh child does while it shares the caller's memory.
    pub(super) fn shared_part(&mut self, joins: &[u32]) -> Result<Vec<u32>> {
        // One that has no helper goes into its groups here and now.
        if !self.shape.helped {
            self.join_groups(joins);
        }
        self.stage(Stage::Process);
        for (index, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
            let op = Op {
                a: Fd::slot(slot::STDIN + index as u32).0,
                b: index as u32,
                ..Op::new(Code::PutFd)
            };
            self.step(op, format!("put {name} in place"));
        }
        let mut joined = Vec::new();
        for namespace in &self.config.join {
            joined.push((self.slot(), namespace.kind()?));
        }
        if self.shape.helped {
            let fds: Vec<(Fd, String)> =
                std::iter::once((Fd::slot(slot::CALLER), "the caller's pidfd".into()))
                    .chain(
                        joined
                            .iter()
                            .map(|(slot, kind)| (Fd::slot(*slot), format!("the {kind} namespace"))),
                    )
                    .chain(self.config.fds.iter().enumerate().map(|(index, (number, _))| {
                        (Fd::slot(FD_SLOTS + index as u32), format!("what becomes fd {number}"))
                    }))
                    .collect();
            let fds: Vec<(Fd, &str)> = fds.iter().map(|(fd, text)| (*fd, text.as_str())).collect();
            self.stage(Stage::Clone);
            let tag = self.tag();
            let kept = match (self.shape.has(Namespaces::USER), self.config.capabilities) {
                (false, _) => 0,
                (true, Some(set)) => set.union(NEEDED).bits(),
                (true, None) if self.shape.confined => CapSet::STANDARD.union(NEEDED).bits(),
                // Root has all of them after its exec, and must have had them before: the
                // kernel forgets whom to die with when an exec adds any.
                (true, None) => u64::MAX,
            };
            self.recipe.enter_helper(kept, tag, &fds);
        }
        self.stage(Stage::Clone);
        self.die_with_caller();
        if self.shape.helped && !self.shape.has(Namespaces::USER) {
            self.stage(Stage::Security);
            self.step(Op::new(Code::Undumpable), "let nobody look into this process");
        }
        self.stage(Stage::Clone);
        for &(slot, kind) in &joined {
            let op =
                Op { a: Fd::slot(slot).0, x: kind.bits().into(), ..Op::new(Code::JoinNamespace) };
            self.step(op, format!("enter the {kind} namespace"));
        }
        Ok(joined.into_iter().map(|(slot, _)| slot).collect())
    }

    fn join_groups(&mut self, joins: &[u32]) {
        self.stage(Stage::Cgroup);
        for slot in joins {
            let op = Op { a: Fd::slot(*slot).0, ..Op::new(Code::JoinCgroup) };
            self.step(op, JOIN);
        }
    }

    fn die_with_caller(&mut self) {
        let op = Op { a: Fd::slot(slot::CALLER).0, ..Op::new(Code::DieWithCaller) };
        self.step(op, "die with the caller");
    }

    /// What needs no id yet, the wait for the maps, and what they allow.
    pub(super) fn beginnings(&mut self, joins: &[u32]) -> Result<()> {
        self.stage(Stage::Process);
        match &self.config.hostname {
            Some(name) => {
                check_name(name)?;
                let op = Op {
                    a: self.recipe.text(name).map_err(bad_text("a host name"))?,
                    flags: flag::EQUAL,
                    ..Op::new(Code::HostName)
                };
                self.step(op, format!("set the host name to {name}"));
            }
            // The host's own tells where one is.
            None if self.shape.confined && self.shape.has(Namespaces::UTS) => {
                self.step(Op::new(Code::HostName), "set the host name to its id");
            }
            None => {}
        }
        if let Some(name) = &self.config.domainname {
            check_name(name)?;
            let op = Op {
                a: self.recipe.text(name).map_err(bad_text("a domain name"))?,
                ..Op::new(Code::DomainName)
            };
            self.step(op, format!("set the domain name to {name}"));
        }
        if self.shape.has(Namespaces::NET) {
            self.stage(Stage::Network);
            self.step(Op::new(Code::Loopback), "bring loopback up");
        }
        if self.shape.helped {
            self.stage(Stage::IdMap);
            let tag = self.tag();
            let slots: Vec<u32> =
                joins.iter().copied().chain(self.trees.iter().map(|tree| tree.slot)).collect();
            self.recipe.wait_for_maps(tag, &slots);
            self.join_groups(joins);
        }
        if !matches!(self.shape.maps, Maps::None) {
            let (uid, gid) = self.shape.builder_ids();
            self.set_ids(uid, gid, self.shape.groups_allowed().then(Vec::new).as_deref(), 0);
            self.stage(Stage::Clone);
            self.die_with_caller();
        }
        self.stage(Stage::Clone);
        let later = self.shape.new & (Namespaces::CGROUP | Namespaces::TIME);
        if !later.is_empty() {
            let op = Op { x: later.bits().into(), ..Op::new(Code::Unshare) };
            self.step(op, format!("unshare {later}"));
        }
        Ok(())
    }

    /// Compares the namespaces that the child has only now with the caller's own, or with
    /// those to be joined. Those
    /// that clone made are compared by the caller, meanwhile: see `spawn.rs`.
    pub(super) fn check_namespaces(&mut self) -> Result<()> {
        self.stage(Stage::Clone);
        for kind in [Namespaces::CGROUP, Namespaces::TIME] {
            if !self.shape.has(kind) {
                continue;
            }
            let Some(name) = kind.proc_name() else { continue };
            // A process enters its time namespace at exec.
            let file = if kind == Namespaces::TIME { "time_for_children" } else { name };
            let ours = NsFd::of_thread(kind)?.id()?;
            let op = Op {
                a: Fd::register(register::PROC).0,
                b: self.recipe.text(format!("self/ns/{file}"))?,
                c: self.recipe.text(format!("{name}:[{ours}]"))?,
                ..Op::new(Code::CheckLink)
            };
            self.step(op, format!("check that the {kind} namespace is its own"));
        }
        for namespace in &self.config.join {
            let kind = namespace.kind()?;
            let Some(name) = kind.proc_name() else { continue };
            let file = if kind == Namespaces::PID { "pid_for_children" } else { name };
            let op = Op {
                a: Fd::register(register::PROC).0,
                b: self.recipe.text(format!("self/ns/{file}"))?,
                c: self.recipe.text(format!("{name}:[{}]", namespace.id()?))?,
                flags: flag::EQUAL,
                ..Op::new(Code::CheckLink)
            };
            self.step(op, format!("check that the {kind} namespace is the one to join"));
        }
        Ok(())
    }

    pub(super) fn set_ids(&mut self, uid: u32, gid: u32, groups: Option<&[u32]>, flags: u16) {
        self.stage(Stage::Process);
        let list = groups.unwrap_or(&[]);
        let op = Op {
            b: uid,
            c: gid,
            x: self.recipe.numbers(list).into(),
            y: list.len() as u64,
            flags: flags | if groups.is_none() { flag::NO_GROUPS } else { 0 },
            ..Op::new(Code::SetIds)
        };
        let text = match groups {
            Some([]) => format!("become user {uid}, group {gid}, no further groups"),
            Some(list) => format!("become user {uid}, group {gid}, further groups {list:?}"),
            None => format!("become user {uid}, group {gid}"),
        };
        self.step(op, text);
    }

    /// Settings below `/proc`, before they are hidden or become read-only.
    pub(super) fn proc_settings(&mut self) -> Result<()> {
        self.stage(Stage::Process);
        for (key, value) in &self.config.sysctls {
            self.check_sysctl(key)?;
            // Dots separate, and a slash stands for a dot in a name.
            let path: String = key
                .chars()
                .map(|c| {
                    if c == '.' {
                        '/'
                    } else if c == '/' {
                        '.'
                    } else {
                        c
                    }
                })
                .collect();
            self.write_proc(&format!("sys/{path}"), value, true, format!("set {key} = {value}"))?;
        }
        if let Some(score) = self.config.oom_score_adj {
            if !(-1000..=1000).contains(&score) {
                return Err(Error::invalid(
                    "set oom_score_adj",
                    format!("{score} is not in -1000 to 1000"),
                ));
            }
            let text = format!("set oom_score_adj to {score}");
            self.write_proc("self/oom_score_adj", &score.to_string(), true, text)?;
        }
        for (clock, seconds) in &self.config.clocks {
            let text = format!("move the {clock} clock by {seconds} s");
            self.write_proc("self/timens_offsets", &format!("{clock} {seconds} 0"), false, text)?;
        }
        Ok(())
    }

    fn write_proc(&mut self, path: &str, value: &str, equal: bool, text: String) -> Result<()> {
        let op = Op {
            a: Fd::register(register::PROC).0,
            b: self.recipe.text(path).map_err(bad_text("a setting"))?,
            c: self.recipe.text(value).map_err(bad_text("a setting"))?,
            flags: if equal { flag::EQUAL } else { 0 },
            ..Op::new(Code::WriteProc)
        };
        self.step(op, text);
        Ok(())
    }

    fn check_sysctl(&self, key: &str) -> Result<()> {
        let kind = match key {
            _ if key.split(['.', '/']).any(|part| part.is_empty() || part == "..") => None,
            "kernel.domainname" | "kernel.hostname" => Some(Namespaces::UTS),
            _ if key.starts_with("net.") => Some(Namespaces::NET),
            _ if key.starts_with("fs.mqueue.") => Some(Namespaces::IPC),
            "kernel.msgmax"
            | "kernel.msgmnb"
            | "kernel.msgmni"
            | "kernel.sem"
            | "kernel.shmall"
            | "kernel.shmmax"
            | "kernel.shmmni"
            | "kernel.shm_rmid_forced"
            | "kernel.auto_msgmni" => Some(Namespaces::IPC),
            _ => None,
        };
        let Some(kind) = kind else {
            return Err(Error::invalid(
                format!("set the sysctl {key}"),
                "it does not belong to a namespace: it would change the host",
            ));
        };
        if !self.shape.has(kind) {
            return Err(Error::invalid(
                format!("set the sysctl {key}"),
                format!("the {kind} namespace is not its own"),
            ));
        }
        Ok(())
    }

    /// The process's limits. With few files left the set-up itself could open none, so that
    /// one comes late, unless it takes a privilege.
    pub(super) fn rlimits(&mut self, late: bool) -> Result<()> {
        let config = self.config;
        let mut rlimits = config.rlimits.clone();
        let most = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .map_or(1024, |(_, hard)| hard);
        if self.shape.confined {
            for (resource, soft, hard) in
                [(Resource::Core, 0, 0), (Resource::Nofile, most.min(1024), most.min(524_288))]
            {
                if !rlimits.iter().any(|(known, ..)| *known == resource) {
                    rlimits.push((resource, soft, hard));
                }
            }
        }
        for (resource, soft, hard) in rlimits {
            if soft > hard {
                let what = format!("limit {resource:?}");
                return Err(Error::invalid(what, format!("soft {soft} is above hard {hard}")));
            }
            let named = config.rlimits.iter().any(|(known, ..)| *known == resource);
            let default = if named { Policy::Required } else { Policy::Preferred };
            let policy = self.policy(Feature::Rlimits, default);
            if policy == Policy::Off || late != (resource == Resource::Nofile && hard <= most) {
                continue;
            }
            self.feature(Stage::Process, Feature::Rlimits, policy);
            let op = Op { a: resource.raw(), x: soft, y: hard, ..Op::new(Code::Rlimit) };
            let word = |n: u64| if n == u64::MAX { "unlimited".into() } else { n.to_string() };
            self.step(op, format!("limit {resource:?} to {}:{}", word(soft), word(hard)));
        }
        Ok(())
    }

    /// Limits of the process, session, files.
    pub(super) fn settings(&mut self) -> Result<()> {
        let config = self.config;
        self.rlimits(false)?;
        self.stage(Stage::Process);
        if let Some(increment) = config.nice {
            let op = Op { x: i64::from(increment) as u64, ..Op::new(Code::Nice) };
            self.step(op, format!("add {increment} to the nice value"));
        }
        if self.shape.confined {
            self.step(Op::new(Code::Session), "start a session of its own");
            let policy = self.policy(Feature::Keyring, Policy::Preferred);
            if policy != Policy::Off {
                self.feature(Stage::Process, Feature::Keyring, policy);
                self.step(Op::new(Code::Keyring), "join a session keyring of its own");
            }
        }
        self.stage(Stage::Process);
        self.step(Op::new(Code::CloseOnExec), "close every other file at exec");
        if self.shape.helped && !config.fds.is_empty() {
            let numbers: Vec<u32> = config.fds.iter().map(|(number, _)| *number).collect();
            let tag = self.tag();
            self.recipe.keep_socket_clear_of(&numbers, tag);
        }
        Ok(())
    }

    /// Files under numbers that the set-up itself may have used until now.
    pub(super) fn passed_files(&mut self) -> Result<()> {
        let config = self.config;
        self.stage(Stage::Process);
        for (index, (number, _)) in config.fds.iter().enumerate() {
            if *number < 3 {
                return Err(Error::invalid(
                    format!("pass a file as fd {number}"),
                    "that is a standard stream",
                )
                .with_remedy("use stdin(), stdout() or stderr()"));
            }
            if *number > 1023 || index >= 16 {
                return Err(Error::invalid(
                    format!("pass a file as fd {number}"),
                    "numbers go up to 1023, and 16 files at most",
                ));
            }
            if config.fds.iter().take(index).any(|(known, _)| known == number) {
                return Err(Error::invalid(
                    format!("pass a file as fd {number}"),
                    "the number is given twice",
                ));
            }
            let op =
                Op { a: Fd::slot(FD_SLOTS + index as u32).0, b: *number, ..Op::new(Code::PutFd) };
            self.step(op, format!("put a file in place as fd {number}"));
        }
        Ok(())
    }

    /// The last steps.
    pub(super) fn program(&mut self) -> Result<()> {
        let config = self.config;
        let Some(program) = &config.command else {
            return Err(Error::invalid("plan a container", "no program is named")
                .with_remedy("add .command(..)"));
        };
        if program.is_empty() {
            return Err(Error::invalid("plan a container", "the program's name is empty"));
        }
        let vars = environment::variables(config, self.shape.confined)?;
        let candidates: Vec<_> = environment::candidates(program, &vars);
        let list = self.recipe.list(&candidates).map_err(bad_text("a program"))?;
        let zero = config.arg0.as_ref().unwrap_or(program);
        let arguments = self
            .recipe
            .vector(std::iter::once(zero).chain(&config.args))
            .map_err(bad_text("arguments"))?;
        let joined = vars.into_iter().map(|(mut key, value): (OsString, OsString)| {
            key.push("=");
            key.push(value);
            key
        });
        let environment = self.recipe.vector(joined).map_err(bad_text("variables"))?;
        self.stage(Stage::Exec);
        let tag = self.tag();
        let mut text = format!("execute {}", program.display());
        for argument in &config.args {
            text.push_str(&format!(" {:?}", argument));
        }
        self.recipe.push_exec(list, arguments, environment, tag, text);
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 64 {
        return Err(Error::invalid(format!("use the name {name:?}"), "it must have 1 to 64 bytes"));
    }
    Ok(())
}
