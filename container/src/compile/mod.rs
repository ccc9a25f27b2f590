//! From what was asked to what will be done: a list of steps, and what each spawn adds.

mod dev;
mod environment;
mod fresh;
mod masks;
mod points;
mod process;
mod security;
mod shape;
mod sources;
mod system;
mod table;
mod tree;
mod user;

use crate::builder::Config;
use crate::groups::Place;
use crate::{Error, Extent, Feature, Item, Policy, Reason, Result, Stage};
use ireko_namespaces::start::{Op, Recipe, flag, slot};
use ireko_namespaces::{IdMaps, Namespaces};
use ireko_sys::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use table::Table;

pub(crate) use shape::{RANGE, Shape};

/// What was asked, made ready for any number of spawns.
#[derive(Debug)]
pub(crate) struct Blueprint {
    pub(crate) recipe: Recipe,
    /// To which stage and feature each step belongs, by its tag.
    pub(crate) notes: Vec<Note>,
    pub(crate) shape: Shape,
    /// Mounts that the caller copies for each spawn, each into its slot.
    pub(crate) trees: Vec<Tree>,
    /// Slots into which the v1 groups' `tasks` files go.
    pub(crate) joins: Vec<u32>,
    /// Slots into which the namespaces to be joined go.
    pub(crate) joined_slots: Vec<u32>,
}

/// A mount of the host that each spawn gets a copy of.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) what: For,
    pub(crate) source: OwnedFd,
    pub(crate) slot: u32,
    pub(crate) attributes: u64,
    pub(crate) recursive: bool,
    pub(crate) idmapped: bool,
    pub(crate) name: String,
}

/// What a copy of a mount is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Root,
    Dev,
    /// That one of the builder's.
    Mount(usize),
}

impl Tree {
    /// Removed since the plan was made, or replaced by another of its name.
    pub(crate) fn is_gone(&self) -> bool {
        self.source
            .try_clone()
            .map(File::from)
            .and_then(|file| file.metadata())
            .is_ok_and(|of| of.nlink() == 0)
    }
}

/// To what a step belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Note {
    pub(crate) stage: Stage,
    pub(crate) feature: Option<(Feature, Policy)>,
}

/// The user namespace's maps.
#[derive(Clone, Debug)]
pub(crate) enum Maps {
    /// No user namespace of its own.
    None,
    /// The same for each spawn.
    Fixed(IdMaps),
    /// A range that each spawn claims.
    Claimed,
}

/// A blueprint in the making.
pub(crate) struct Draft<'c> {
    pub(crate) config: &'c Config,
    pub(crate) shape: Shape,
    pub(crate) recipe: Recipe,
    notes: Vec<Note>,
    note: Note,
    trees: Vec<Tree>,
    next_slot: u32,
    table: Table,
    /// What of the host's own tree is to be covered.
    covers: Vec<PathBuf>,
    /// Where the builder's mounts are that are in place, and whether mount points may be
    /// made on them.
    mounted: Vec<(PathBuf, bool)>,
}

/// How the step is called that joins a group.
pub(crate) const JOIN: &str = "join the cgroup";

/// Where the files that are passed on go: at the end, where nothing else is.
const FD_SLOTS: u32 = 80;

/// Where ops leave fds for later ones.
pub(crate) mod register {
    pub(crate) const PROC: u32 = 0;
    pub(crate) const ROOT: u32 = 1;
    pub(crate) const DEV: u32 = 2;
    pub(crate) const STORE: u32 = 3;
    pub(crate) const SCRATCH: u32 = 4;
    pub(crate) const BASE: u32 = 5;
    pub(crate) const PLACE: u32 = 6;
    pub(crate) const FRESH: u32 = 7;
    pub(crate) const SYS: u32 = 8;
}

impl Draft<'_> {
    /// Steps from here on belong to this stage, and to no feature.
    pub(crate) fn stage(&mut self, stage: Stage) {
        self.note = Note { stage, feature: None };
    }

    /// Steps from here on bring this feature.
    pub(crate) fn feature(&mut self, stage: Stage, feature: Feature, policy: Policy) {
        self.note = Note { stage, feature: Some((feature, policy)) };
    }

    pub(crate) fn tag(&mut self) -> u32 {
        if self.notes.last() != Some(&self.note) {
            self.notes.push(self.note);
        }
        (self.notes.len() - 1) as u32
    }

    /// Adds a step. One of a feature that is preferred may fail.
    pub(crate) fn step(&mut self, mut op: Op, text: impl Into<String>) {
        if matches!(self.note.feature, Some((_, Policy::Preferred))) {
            op.flags |= flag::PREFERRED;
        }
        let tag = self.tag();
        self.recipe.push(op, tag, text);
    }

    pub(crate) fn slot(&mut self) -> u32 {
        self.next_slot += 1;
        self.next_slot - 1
    }

    /// What the builder, or else the preset, says of a feature.
    pub(crate) fn policy(&self, feature: Feature, default: Policy) -> Policy {
        let named = self.config.policies.iter().find(|(known, _)| *known == feature);
        named.map_or(default, |(_, policy)| *policy)
    }
}

impl Blueprint {
    pub(crate) fn new(config: &Config, place: &Place) -> Result<Self> {
        boundary_stays(config)?;
        let shape = Shape::of(config)?;
        let mut draft = Draft {
            config,
            shape,
            recipe: Recipe::new(),
            notes: Vec::new(),
            note: Note { stage: Stage::Clone, feature: None },
            trees: Vec::new(),
            next_slot: slot::FREE,
            table: Table::default(),
            covers: Vec::new(),
            mounted: Vec::new(),
        };
        // What the shared part must keep open is known only when the rest is written:
        // so the rest is written first, and put behind it.
        let joins: Vec<u32> = (0..place.joins()).map(|_| draft.slot()).collect();
        draft.tree_sources()?;
        let joined_slots = draft.shared_part(&joins)?;
        draft.beginnings(&joins)?;
        draft.tree()?;
        draft.settings()?;
        draft.privileges()?;
        draft.program()?;
        if draft.next_slot > FD_SLOTS {
            return Err(Error::invalid("plan the mounts", "there are more sources than 60"));
        }
        Ok(Self {
            recipe: draft.recipe,
            notes: draft.notes,
            shape: draft.shape,
            trees: draft.trees,
            joins,
            joined_slots,
        })
    }

    /// To which stage and feature a step of this tag belongs.
    pub(crate) fn note(&self, tag: u32) -> Note {
        self.notes.get(tag as usize).copied().unwrap_or(Note { stage: Stage::Clone, feature: None })
    }

    /// The step after which the child is in all its groups.
    pub(crate) fn last_join(&self) -> Option<usize> {
        self.recipe.steps().iter().rposition(|step| step.text == JOIN)
    }

    /// Where the files that are passed on go.
    pub(crate) fn fd_slot(&self, index: usize) -> u32 {
        FD_SLOTS + index as u32
    }

    /// What the caller does itself, before the child's first step and beside it.
    pub(crate) fn outer_steps(&self) -> Vec<crate::plan::Step> {
        let step = |stage, text: String| crate::plan::Step { stage, feature: None, text };
        let mut steps = Vec::new();
        for tree in &self.trees {
            let how = if tree.idmapped { ", owners shown through the id maps" } else { "" };
            steps.push(step(Stage::Mount, format!("copy the mount for {}{how}", tree.name)));
        }
        steps.push(step(
            Stage::Clone,
            format!("clone into new namespaces: {}", self.shape.cloned()),
        ));
        match &self.shape.maps {
            Maps::None => {}
            Maps::Claimed => {
                steps.push(step(Stage::IdMap, "map ids 0 to 65535 to a range of our own".into()));
            }
            Maps::Fixed(maps) => {
                for map in maps.uid_maps() {
                    let (inside, outside, count) = (map.inside, map.outside, map.count);
                    steps.push(step(
                        Stage::IdMap,
                        format!("map user ids: {inside} is {outside} outside, {count} of them"),
                    ));
                }
            }
        }
        steps
    }

    /// What is in force after a start in which these steps, all of them preferred, did
    /// not hold.
    pub(crate) fn enforcement(&self, missed: &[(usize, Errno)]) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        for (_, kind) in self.shape.new.iter_names() {
            let feature = Feature::Namespaces(kind);
            items.push(Item {
                feature,
                asked: Policy::Required,
                got: Extent::Full,
                value: None,
                why: None,
            });
        }
        for (index, step) in self.recipe.steps().iter().enumerate() {
            let Some((feature, asked)) = self.note(step.tag).feature else { continue };
            let errno = missed.iter().find(|(at, _)| *at == index).map(|(_, errno)| *errno);
            let at = match items.iter().position(|item| item.feature == feature) {
                Some(at) => at,
                None => {
                    items.push(Item { feature, asked, got: Extent::Full, value: None, why: None });
                    items.len() - 1
                }
            };
            let item = &mut items[at];
            if asked == Policy::Required {
                item.asked = asked;
            }
            if let Some(errno) = errno {
                item.got = if item.got == Extent::Full && index > 0 {
                    Extent::Absent
                } else {
                    Extent::Partial
                };
                item.why = Some(if errno == Errno::ENOSYS {
                    Reason::NotInKernel
                } else {
                    Reason::Refused(errno)
                });
            }
        }
        items
    }
}

/// What confines is not given up by a policy, but by a call whose name says so.
fn boundary_stays(config: &Config) -> Result<()> {
    for (feature, policy) in &config.policies {
        if let (Some(call), Policy::Preferred | Policy::Off) = (feature.exception(), policy) {
            let how = if *policy == Policy::Off { "switch off" } else { "do without" };
            let what = format!("{how} {feature}");
            return Err(Error::invalid(what, "it is part of the boundary")
                .with_remedy(format!("say so by name: {call}")));
        }
    }
    Ok(())
}

/// A NUL byte somewhere, found by the layer below.
pub(crate) fn bad_text(what: &str) -> impl Fn(ireko_namespaces::Error) -> Error + '_ {
    move |error| {
        Error::from(error).at(Stage::Config).with_remedy(format!("give {what} without a NUL byte"))
    }
}

pub(crate) const ALL: Namespaces = Namespaces::USER
    .union(Namespaces::PID)
    .union(Namespaces::MOUNT)
    .union(Namespaces::NET)
    .union(Namespaces::IPC)
    .union(Namespaces::UTS)
    .union(Namespaces::CGROUP);
