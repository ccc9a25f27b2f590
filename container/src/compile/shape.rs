//! The decisions that everything else follows from.

use super::{ALL, Maps};
use crate::builder::Config;
use crate::rootfs::{Base, Changes};
use crate::{Error, Result, Rootfs, Stage};
use ireko_namespaces::{IdMaps, Namespaces};
use ireko_sys::{ErrorKind, Failure};

/// What kind of start it is.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// New namespaces of these kinds.
    pub(crate) new: Namespaces,
    /// Who is who in the new user namespace.
    pub(crate) maps: Maps,
    /// Confined by a preset.
    pub(crate) confined: bool,
    /// Through the helper; else in place.
    pub(crate) helped: bool,
    /// What `/` is; `None`: the caller's.
    pub(crate) rootfs: Option<Rootfs>,
    /// Who it runs as at last; `None`: as the caller.
    pub(crate) user: Option<Ids>,
    /// The caller is root on this host and may copy mounts for the child.
    pub(crate) caller_mounts: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Sorted; `None` where they cannot be set.
    pub(crate) groups: Option<Vec<u32>>,
}

/// How many ids a claimed range has.
pub(crate) const RANGE: u32 = 65_536;

impl Shape {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let confined = config.preset.is_some();
        let mut joined = Namespaces::empty();
        for namespace in &config.join {
            joined |= namespace.kind()?;
        }
        if joined.contains(Namespaces::PID) {
            // The kernel moves later children only: its checks would hold, and it be outside.
            let failure = Failure::ours(
                ErrorKind::Unsupported,
                "enter a pid namespace",
                "the program itself would stay out",
            );
            return Err(Error::new(Stage::Config, failure));
        }
        let mut new = if confined { ALL - config.share } else { Namespaces::empty() };
        new = (new | config.unshare) - joined;
        if let Some(both) = some(config.unshare & joined) {
            return Err(Error::invalid(
                format!("plan the namespaces {both}"),
                "they are to be new and to be joined",
            ));
        }
        let rootfs = match (&config.rootfs, confined && !config.share.contains(Namespaces::MOUNT)) {
            (Some(rootfs), _) => Some(rootfs.clone()),
            (None, true) => Some(Rootfs::host()),
            (None, false) => None,
        };
        if rootfs.is_some() || !config.mounts.is_empty() {
            if config.share.contains(Namespaces::MOUNT) {
                return Err(Error::invalid(
                    "plan a file tree",
                    "the mount namespace is the caller's own: nothing may be mounted there",
                )
                .with_remedy("drop .share(Namespaces::MOUNT)"));
            }
            new |= Namespaces::MOUNT - joined;
        }
        if let Some(rootfs) = &rootfs
            && rootfs.base == Base::Host
            && rootfs.changes != Changes::ReadOnly
        {
            return Err(Error::invalid(
                "plan the host's tree as root",
                "it is the host's own: neither writable nor ephemeral",
            )
            .with_remedy("use .expose_writable(path) for a path of it, or a directory as root"));
        }
        let uts = new.contains(Namespaces::UTS);
        if !uts && (config.hostname.is_some() || config.domainname.is_some()) {
            return Err(Error::invalid("plan the host name", "the uts namespace is not its own")
                .with_remedy("add .uts_ns()"));
        }
        // SAFETY: geteuid takes nothing and cannot fail.
        let root = unsafe { libc::geteuid() } == 0 && has_all_ids();
        let maps = match (new.contains(Namespaces::USER), &config.maps) {
            (false, _) => Maps::None,
            (true, Some(maps)) => {
                maps.check()?;
                Maps::Fixed(maps.clone())
            }
            (true, None) if root => Maps::Claimed,
            (true, None) => Maps::Fixed(IdMaps::caller_as_root()),
        };
        let mut shape =
            Self { new, maps, confined, helped: false, rootfs, user: None, caller_mounts: root };
        shape.user = super::user::of(config, &shape)?;
        shape.helped = confined
            || !matches!(shape.maps, Maps::None)
            || shape.user.is_some()
            || !config.join.is_empty();
        Ok(shape)
    }

    /// Whether this kind is new, in clone or after it.
    pub(crate) fn has(&self, kind: Namespaces) -> bool {
        self.new.contains(kind)
    }

    /// The kinds that clone makes; the others are unshared by the child.
    pub(crate) fn cloned(&self) -> Namespaces {
        self.new - Namespaces::CGROUP - Namespaces::TIME
    }

    /// Whether this id means something inside.
    pub(crate) fn is_mapped(&self, id: u32, group: bool) -> bool {
        match &self.maps {
            Maps::None => true,
            Maps::Claimed => id < RANGE,
            Maps::Fixed(maps) => {
                let maps = if group { maps.gid_maps() } else { maps.uid_maps() };
                maps.iter().any(|m| id >= m.inside && id - m.inside < m.count)
            }
        }
    }

    /// Who makes the tree: root inside, or the first that there is.
    pub(crate) fn builder_ids(&self) -> (u32, u32) {
        let first = |group: bool| match &self.maps {
            Maps::Fixed(maps) if !self.is_mapped(0, group) => {
                let maps = if group { maps.gid_maps() } else { maps.uid_maps() };
                maps.first().map_or(0, |m| m.inside)
            }
            _ => 0,
        };
        (first(false), first(true))
    }

    /// Whether supplementary groups can be set.
    pub(crate) fn groups_allowed(&self) -> bool {
        match &self.maps {
            Maps::None | Maps::Claimed => true,
            Maps::Fixed(maps) => maps.groups_allowed(),
        }
    }

    /// Whether owners must be shown through the maps.
    pub(crate) fn idmaps(&self) -> bool {
        match &self.maps {
            Maps::None => false,
            Maps::Claimed => true,
            Maps::Fixed(_) => self.caller_mounts,
        }
    }
}

/// Whether every id can be mapped: not by the root of a user namespace, as in rootless
/// podman, who is served as an ordinary user is.
fn has_all_ids() -> bool {
    let all = |text: String| text.split_whitespace().eq(["0", "0", "4294967295"]);
    std::fs::read_to_string("/proc/self/uid_map").map_or(true, all)
}

fn some(kinds: Namespaces) -> Option<Namespaces> {
    (!kinds.is_empty()).then_some(kinds)
}
