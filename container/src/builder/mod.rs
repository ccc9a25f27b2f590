//! The builder, by subject: each file is one `impl Builder`.

mod isolation;
mod limits;
mod process;
mod security;
mod tree;

use crate::{
    Container, ExitStatus, Feature, Id, Mount, Output, Plan, Policy, Preset, Resource, Result,
    Rootfs, Signal, Size, Stdio, User,
};
use ireko_capabilities::CapSet;
use ireko_cgroups::{Limits, Parent};
use ireko_namespaces::{IdMaps, Namespaces, NsFd};
use ireko_seccomp::{Profile, Program};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A container to be. Nothing is checked or made before [`plan`](Self::plan),
/// which tells of everything that is wrong; clones share what they hold.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until plan(), spawn(), status() or output()"]
pub struct Builder(pub(crate) Config);

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) preset: Option<Preset>,
    pub(crate) policies: Vec<(Feature, Policy)>,
    pub(crate) id: Option<Id>,
    pub(crate) labels: Vec<(String, String)>,

    pub(crate) command: Option<OsString>,
    pub(crate) arg0: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<EnvChange>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) user: Option<User>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) stdio: [Option<Stdio>; 3],
    pub(crate) fds: Vec<(u32, Arc<OwnedFd>)>,
    pub(crate) rlimits: Vec<(Resource, u64, u64)>,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) stop_signal: Option<Signal>,

    pub(crate) unshare: Namespaces,
    pub(crate) share: Namespaces,
    pub(crate) join: Vec<NsFd>,
    pub(crate) maps: Option<IdMaps>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) clocks: Vec<(&'static str, i64)>,

    pub(crate) limits: Limits,
    pub(crate) parent: Option<Parent>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) output_limit: Option<Size>,

    pub(crate) rootfs: Option<Rootfs>,
    pub(crate) mounts: Vec<Mount>,

    pub(crate) capabilities: Option<CapSet>,
    pub(crate) profile: Option<Profile>,
    pub(crate) programs: Vec<Program>,
    pub(crate) new_privileges: bool,
    pub(crate) no_filter: bool,
    pub(crate) unmasked: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum EnvChange {
    Set(OsString, OsString),
    Remove(OsString),
    Clear,
}

impl Builder {
    pub(crate) fn new(preset: Option<Preset>) -> Self {
        Self(Config { preset, ..Config::default() })
    }

    /// Starts from another table of defaults. What was asked for by a call of its
    /// own stays, made before or after.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.0.preset = Some(preset);
        self
    }

    /// No container without this one.
    pub fn require(self, feature: Feature) -> Self {
        self.policy(feature, Policy::Required)
    }

    /// Start without this one where the host cannot give it, and say so in
    /// [`enforcement`](Container::enforcement). There is no call for all at once.
    pub fn prefer(self, feature: Feature) -> Self {
        self.policy(feature, Policy::Preferred)
    }

    /// What to do where the host lacks something. `Preferred` and `Off` are `Invalid`
    /// for what is part of the boundary: capabilities and what has a `dangerously_` call,
    /// and namespaces, which are shared by `share`.
    pub fn policy(mut self, feature: Feature, policy: Policy) -> Self {
        self.0.policies.retain(|(known, _)| *known != feature);
        self.0.policies.push((feature, policy));
        self
    }

    /// A name to find it by. Default: a new random one for each spawn.
    pub fn id(mut self, id: Id) -> Self {
        self.0.id = Some(id);
        self
    }

    /// A note kept with it.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Checks everything, opens what must not change, compiles filters and
    /// strings. Makes nothing.
    ///
    /// # Errors
    /// `Invalid` for what contradicts itself, `NotFound` for paths that are not
    /// there, `Unsupported` for what no host could give.
    pub fn plan(&self) -> Result<Plan> {
        Plan::new(&self.0)
    }

    /// Starts it. See [`Plan::spawn`]. Streams that were not set are inherited.
    ///
    /// # Errors
    /// As [`plan`](Self::plan) and [`Plan::spawn`].
    pub fn spawn(&self) -> Result<Container> {
        self.plan()?.spawn()
    }

    /// Starts it and waits for its end. Streams that were not set are inherited.
    ///
    /// # Errors
    /// As [`plan`](Self::plan) and [`Plan::spawn`].
    pub fn status(&self) -> Result<ExitStatus> {
        self.plan()?.status()
    }

    /// Starts it, waits for its end and keeps what it prints. Streams that were
    /// not set are pipes, and stdin is null. Returns when the program ends, though
    /// others hold the pipes; after a timeout with what came until then.
    ///
    /// # Errors
    /// As [`plan`](Self::plan) and [`Plan::spawn`].
    pub fn output(&self) -> Result<Output> {
        self.plan()?.output()
    }
}
