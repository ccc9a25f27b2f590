use crate::start::{Begun, Recipe, Start};
use crate::{Namespaces, NsFd, Result};
use ireko_sys::{Errno, ErrorKind, Failure, PerProcess, Pidfd, ProcRoot};
use std::fmt::Write as _;
use std::io::Write;
use std::ops::Range;

/// `count` ids from `inside` on are, outside, those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside, in the caller's user namespace.
    pub outside: u32,
    /// How many; 0 is refused.
    pub count: u32,
}

/// The user and group maps of a user namespace; checked for overlap when used.
///
/// See [`user_namespaces(7)`](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct IdMaps {
    uids: Vec<IdMap>,
    gids: Vec<IdMap>,
    /// Written by newuidmap and newgidmap.
    by_helpers: bool,
}

/// The kernel's limit on lines of a map, since 4.15.
const LINES: usize = 340;

impl IdMaps {
    /// No ids at all; add with [`uids`](Self::uids) and [`gids`](Self::gids).
    pub fn new() -> Self {
        Self::default()
    }

    /// The caller is root inside, and alone. Needs no privilege and no helper.
    pub fn caller_as_root() -> Self {
        let (uid, gid) = caller();
        Self::new().uids(IdMap { inside: 0, outside: uid, count: 1 }).gids(IdMap {
            inside: 0,
            outside: gid,
            count: 1,
        })
    }

    /// The caller keeps its own ids inside, and is alone.
    pub fn caller_as_self() -> Self {
        let (uid, gid) = caller();
        Self::new().uids(IdMap { inside: uid, outside: uid, count: 1 }).gids(IdMap {
            inside: gid,
            outside: gid,
            count: 1,
        })
    }

    /// Root is the caller, 1 and up the caller's ranges in `/etc/subuid` and
    /// `/etc/subgid`, written by `newuidmap` and `newgidmap`.
    ///
    /// # Errors
    /// `NotFound` with the line to add when there is no range or no helper.
    pub fn sub_ids() -> Result<Self> {
        crate::start::sub_ids(caller())
    }

    /// Ids 0 and up are this range outside. Needs `CAP_SETUID` and `CAP_SETGID`.
    pub fn range(outside: Range<u32>) -> Self {
        let map = IdMap {
            inside: 0,
            outside: outside.start,
            count: outside.end.saturating_sub(outside.start),
        };
        Self::new().uids(map).gids(map)
    }

    /// Adds a range of user ids.
    pub fn uids(mut self, map: IdMap) -> Self {
        self.uids.push(map);
        self
    }

    /// Adds a range of group ids.
    pub fn gids(mut self, map: IdMap) -> Self {
        self.gids.push(map);
        self
    }

    pub(crate) fn by_helpers(mut self) -> Self {
        self.by_helpers = true;
        self
    }

    /// The ranges of user ids.
    #[must_use]
    pub fn uid_maps(&self) -> &[IdMap] {
        &self.uids
    }

    /// The ranges of group ids.
    #[must_use]
    pub fn gid_maps(&self) -> &[IdMap] {
        &self.gids
    }

    /// Whether groups can be set inside: not with a map that its own user wrote.
    #[must_use]
    pub fn groups_allowed(&self) -> bool {
        // SAFETY: geteuid takes nothing and cannot fail.
        self.by_helpers || unsafe { libc::geteuid() } == 0 && may_set_groups()
    }

    /// Says what is wrong with the maps: an empty range, one that overlaps another on
    /// either side, one past the last id, more than 340 of a kind, none.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<()> {
        check("user", &self.uids)?;
        check("group", &self.gids)
    }

    /// A user namespace with these maps that nobody is in: for idmapped mounts.
    ///
    /// # Errors
    /// `Denied` for ids the caller may not map, with what would allow it.
    pub fn to_user_ns(&self) -> Result<NsFd> {
        self.check()?;
        let mut recipe = Recipe::new();
        recipe.enter_helper(0, 0, &[]);
        recipe.wait_for_maps(0, &[]);
        let compiled = recipe.compile()?;
        let begun: Begun =
            Start::new(&compiled, Namespaces::USER).begin().map_err(|failed| failed.error)?;
        self.write(begun.pidfd(), begun.pid())?;
        // The process ends when `begun` is dropped.
        NsFd::of_process(begun.pidfd(), Namespaces::USER)
    }

    /// Writes the maps of a process that was just made in a user namespace of its own.
    ///
    /// # Errors
    /// `Denied` for ids the caller may not map, with what would allow it.
    pub fn write(&self, process: &Pidfd, pid: u32) -> Result<()> {
        if self.by_helpers {
            return crate::start::write_by_helpers(self, pid);
        }
        let proc = ProcRoot::open()?;
        if !self.groups_allowed() {
            put(&proc, process, pid, "setgroups", b"deny")?;
        }
        put(&proc, process, pid, "gid_map", text(&self.gids).as_bytes())?;
        put(&proc, process, pid, "uid_map", text(&self.uids).as_bytes())
    }
}

/// Whether the caller's own user namespace lets anybody set groups: those below it do
/// as it does.
fn may_set_groups() -> bool {
    static HERE: PerProcess<bool> = PerProcess::new();
    *HERE.get(|| {
        std::fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() == "allow")
    })
}

fn caller() -> (u32, u32) {
    // SAFETY: these take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

pub(crate) fn text(maps: &[IdMap]) -> String {
    let mut text = String::new();
    for map in maps {
        let _ = writeln!(text, "{} {} {}", map.inside, map.outside, map.count);
    }
    text
}

fn put(proc: &ProcRoot, process: &Pidfd, pid: u32, file: &str, text: &[u8]) -> Result<()> {
    let what = format!("write /proc/{pid}/{file}");
    let mut opened = proc.write(&format!("{pid}/{file}"))?;
    // A number that went to another process would be written to by mistake.
    if process.poll(Some(std::time::Duration::ZERO))? {
        return Err(Failure::ours(ErrorKind::NotFound, what, "the process has ended").into());
    }
    opened.write_all(text).map_err(|e| {
        let failure = Failure::kernel(what, Errno::of(&e));
        match Errno::of(&e).raw() {
            libc::EPERM => failure.remedy(
                "only root may map ids other than its own: use IdMaps::caller_as_root, or sub_ids",
            ),
            _ => failure,
        }
        .into()
    })
}

fn check(kind: &str, maps: &[IdMap]) -> Result<()> {
    let wrong = |reason: String| {
        Err(Failure::ours(ErrorKind::Invalid, format!("map {kind} ids"), reason).into())
    };
    if maps.is_empty() {
        return wrong("no id is mapped".into());
    }
    if maps.len() > LINES {
        return wrong(format!("{} ranges, the kernel takes {LINES}", maps.len()));
    }
    let ranges = |from: fn(&IdMap) -> u32| {
        let mut ranges: Vec<(u64, u64)> = maps
            .iter()
            .map(|m| (u64::from(from(m)), u64::from(from(m)) + u64::from(m.count)))
            .collect();
        ranges.sort_unstable();
        ranges
    };
    for (side, ranges) in [("inside", ranges(|m| m.inside)), ("outside", ranges(|m| m.outside))] {
        for (start, end) in &ranges {
            if start == end {
                return wrong(format!("the range at {start} {side} is empty"));
            }
            // The last number means "no id".
            if *end > u64::from(u32::MAX) {
                return wrong(format!("the range at {start} {side} goes past the last id"));
            }
        }
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            return wrong(format!("the ranges at {} and {} {side} overlap", pair[0].0, pair[1].0));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_maps_that_mean_nothing() {
        let map = |inside, outside, count| IdMap { inside, outside, count };
        let good = IdMaps::range(100_000..165_536);
        assert!(good.check().is_ok());
        assert_eq!(text(good.uid_maps()), "0 100000 65536\n");
        for bad in [
            IdMaps::new(),
            good.clone().uids(map(65_535, 300_000, 1)),
            good.clone().gids(map(70_000, 165_535, 1)),
            good.clone().uids(map(70_000, 1, 0)),
            good.clone().uids(map(70_000, u32::MAX, 1)),
            (0..400).fold(IdMaps::new(), |maps, i| maps.uids(map(i, i, 1)).gids(map(i, i, 1))),
        ] {
            assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }
}
