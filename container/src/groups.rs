//! The container's cgroup: found and prepared in the plan, made by each spawn.

use crate::builder::Config;
use crate::enforcement::{Extent, Item, Reason};
use crate::plan::Step;
use crate::status::Usage;
use crate::{Error, Feature, Id, Policy, Result, Size, Stage};
use ireko_cgroups::{Adjusted, Cgroup, Controllers, Limits, OomScope, Parent, Template};
use ireko_namespaces::Namespaces;
use ireko_sys::PerProcess;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::Duration;

/// Where groups are made, and which.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None`: nothing wants a group, or none is to be had.
    template: Option<Template>,
    /// What each limit is for, and how it was asked for.
    asked: Vec<(Feature, Policy)>,
    /// Preferred limits that cannot be had at all.
    missing: Option<String>,
    /// Once the program runs: sooner it could take the caller along.
    whole: bool,
    held: OnceLock<Vec<Item>>,
}

/// The group of one container. Dropped, it kills what is inside and goes.
#[derive(Debug)]
pub(crate) struct Groups(Cgroup);

/// The kernel's names of what has a feature of its own.
const NAMES: [(&str, Feature); 5] = [
    ("memory.max", Feature::MemoryLimit),
    ("memory.swap.max", Feature::SwapLimit),
    ("cpu.max", Feature::CpuLimit),
    ("cpu.weight", Feature::CpuWeight),
    ("pids.max", Feature::PidsLimit),
];

/// What a preset limits.
const PIDS: u32 = 1024;

impl Place {
    pub(crate) fn find(config: &Config) -> Result<Self> {
        let confined = config.preset.is_some();
        let policy = |feature: Feature, default: Policy| {
            let named = config.policies.iter().find(|(known, _)| *known == feature);
            named.map_or(default, |(_, policy)| *policy)
        };
        let of_name = |name: &str| NAMES.iter().find(|(known, _)| *known == name).map(|(_, f)| *f);
        let kept = |wanted: Policy| {
            move |name: &str, default: Policy| {
                of_name(name).map_or(default, |feature| policy(feature, default)) == wanted
            }
        };
        let required =
            config.limits.filtered(|name| kept(Policy::Required)(name, Policy::Required));
        let mut preferred =
            config.limits.filtered(|name| kept(Policy::Preferred)(name, Policy::Required));
        if confined {
            let mut of_preset = Limits::new();
            if config.limits.pids().is_none() {
                of_preset = of_preset.pids_max(PIDS);
            }
            if config.limits.memory().is_some() && config.limits.swap().is_none() {
                of_preset = of_preset.swap_max(Size::bytes(0));
            }
            preferred = preferred.or(&of_preset.filtered(|name| {
                of_name(name).map_or(Policy::Preferred, |f| policy(f, Policy::Preferred))
                    == Policy::Preferred
            }));
        }
        let mut asked = Vec::new();
        for (limits, how) in [(&required, Policy::Required), (&preferred, Policy::Preferred)] {
            for (name, feature) in NAMES {
                if !limits.filtered(|known| known == name).is_empty() {
                    asked.push((feature, how));
                }
            }
        }
        let cpu_time = config.cpu_time.map(|_| policy(Feature::CpuTime, Policy::Required));
        if let Some(how) = cpu_time {
            asked.push((Feature::CpuTime, how));
        }
        let mut place =
            Self { template: None, asked, missing: None, whole: false, held: OnceLock::new() };
        if required.is_empty() && preferred.is_empty() && cpu_time.is_none() {
            return Ok(place);
        }
        let must = !required.is_empty() || cpu_time == Some(Policy::Required);
        let parent = match config.parent.clone().map_or_else(Parent::detect, Ok) {
            Ok(parent) => parent,
            Err(error) if must => return Err(error.into()),
            Err(error) => {
                place.missing = Some(error.remedy().unwrap_or("see Parent::detect").to_owned());
                return Ok(place);
            }
        };
        collect_once(&parent);
        let mut template = Template::new(&parent, &required)?.prefer(&preferred)?;
        if let Some(how) = cpu_time {
            template = match template.clone().also(Controllers::CPUACCT) {
                Ok(template) => template,
                Err(_) if parent.hierarchy() != ireko_cgroups::Hierarchy::V1 => {
                    template.v2_dir(true)
                }
                Err(error) if how == Policy::Required => return Err(error.into()),
                Err(_) => template,
            };
        }
        // Without a pid namespace the kernel does not take the others along.
        let pid_ns = (confined && !config.share.contains(Namespaces::PID))
            || config.unshare.contains(Namespaces::PID);
        if !pid_ns {
            template = template.v2_dir(true);
        }
        place.whole = confined && template.limits().memory().is_some();
        place.template = Some(template);
        Ok(place)
    }

    /// How many v1 hierarchies the child joins by itself.
    pub(crate) fn joins(&self) -> usize {
        self.template.as_ref().map_or(0, Template::joins)
    }

    /// Whether there is no group.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.template.is_none()
    }

    /// Whether the child is made in its group, which then must be there before it.
    pub(crate) fn is_born_in(&self) -> bool {
        self.template.as_ref().is_some_and(|template| template.joins() < template.places().count())
    }

    pub(crate) fn steps(&self) -> Vec<Step> {
        let Some(template) = &self.template else { return Vec::new() };
        let step = |text: String| Step { stage: Stage::Cgroup, feature: None, text };
        let mut steps: Vec<Step> = template
            .places()
            .map(|path| step(format!("make a group below {}", path.display())))
            .collect();
        for (file, value) in template.writes() {
            let (file, value) = (file.to_string_lossy(), String::from_utf8_lossy(value));
            steps.push(step(format!("{file} = {value}")));
        }
        steps
    }

    pub(crate) fn make(&self, id: &Id) -> Result<Option<Groups>> {
        let made =
            self.template.as_ref().map(|template| template.create(id.as_str())).transpose()?;
        Ok(made.map(Groups))
    }

    /// What is in force of the limits: read back from the first group, since the kernel
    /// makes the same of the same values.
    pub(crate) fn report(&self, groups: Option<&Groups>) -> &[Item] {
        self.held.get_or_init(|| self.read_back(groups))
    }

    fn read_back(&self, groups: Option<&Groups>) -> Vec<Item> {
        let mut items = Vec::new();
        let held = groups.and_then(|groups| groups.0.enforced().ok());
        let skipped = self.template.as_ref().map_or(&[][..], Template::skipped);
        for (feature, asked) in &self.asked {
            let name = NAMES.iter().find(|(_, known)| known == feature).map(|(name, _)| *name);
            let adjusted = |list: &[Adjusted]| list.iter().find(|a| Some(a.name) == name).cloned();
            let mut item = Item {
                feature: *feature,
                asked: *asked,
                got: Extent::Full,
                value: None,
                why: None,
            };
            match &held {
                None => {
                    item.got = Extent::Absent;
                    let remedy = self.missing.clone().unwrap_or_default();
                    item.why = Some(Reason::NotDelegated { remedy });
                }
                Some(held) => {
                    let value = held.held().find(|(known, _)| Some(*known) == name);
                    item.value = value.map(|(_, value)| value.to_string());
                    if adjusted(skipped).is_some() {
                        item.got = Extent::Absent;
                        item.why = Some(Reason::NotInKernel);
                    } else if let Some(adjusted) = adjusted(held.adjusted()) {
                        item.got = Extent::Partial;
                        item.why = Some(Reason::Adjusted {
                            asked: adjusted.asked.to_string(),
                            got: adjusted
                                .got
                                .map_or_else(|| "nothing".into(), |got| got.to_string()),
                        });
                    }
                }
            }
            items.push(item);
        }
        items
    }

    /// What may be set only now that the program runs.
    pub(crate) fn after_exec(&self, groups: Option<&Groups>) {
        if let (true, Some(groups)) = (self.whole, groups) {
            // v2 alone has it; where it is missing one process less is killed.
            let _ = groups.0.apply(&Limits::new().oom_group(true));
        }
    }
}

impl Groups {
    pub(crate) fn join_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.join_fds()
    }

    pub(crate) fn dir(&self) -> Option<BorrowedFd<'_>> {
        self.0.dir()
    }

    /// An error unless the process is in every directory of the group.
    pub(crate) fn check(&self, pid: u32) -> Result<()> {
        if self.0.contains(pid)? {
            return Ok(());
        }
        let failure = ireko_sys::Failure::ours(
            ireko_sys::ErrorKind::Kernel,
            "join the cgroup",
            "the process is not in it",
        );
        Err(Error::new(Stage::Cgroup, failure))
    }

    pub(crate) fn was_oom(&self) -> bool {
        self.0.oom().is_ok_and(|oom| oom.is_some())
    }

    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.0.cpu_time()
    }

    pub(crate) fn kill(&self) {
        // What is left is killed and removed when this is dropped.
        let _ = self.0.kill();
    }

    /// What was used, and whether anything was killed for want of memory.
    pub(crate) fn verdict(&self) -> (Usage, Option<OomScope>) {
        let stats = self.0.totals();
        let usage = Usage {
            cpu_user: stats.cpu_user.unwrap_or_default(),
            cpu_system: stats.cpu_system.unwrap_or_default(),
            throttled: stats.throttled,
            memory_peak: stats.memory_peak,
            oom_kills: stats.oom_kills,
            pids_peak: stats.pids_peak,
            pids_refused: stats.pids_refused,
            ..Usage::default()
        };
        let killed = stats.oom_kills.is_none_or(|n| n > 0);
        (usage, if killed { self.0.oom().ok().flatten() } else { None })
    }
}

/// What killed programs left below this parent, once in each process.
fn collect_once(parent: &Parent) {
    static DONE: PerProcess<OnceLock<()>> = PerProcess::new();
    DONE.get(OnceLock::new).get_or_init(|| {
        let _ = ireko_cgroups::gc(parent);
    });
}

pub(crate) fn gc() -> Result<usize> {
    Ok(ireko_cgroups::gc(&Parent::detect()?)?)
}
