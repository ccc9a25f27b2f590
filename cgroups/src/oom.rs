use crate::encode::{V1_UNLIMITED, Version};
use crate::tree::{self, Step};
use crate::{Cgroup, Controllers, Result, fs, text};
use std::os::fd::{AsFd, BorrowedFd};

/// Whose limit it was when the kernel killed for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OomScope {
    /// The group's own, or that of a group below it.
    Group,
    /// That of a group around it; also where the groups around it cannot all be seen.
    Ancestor,
    /// The machine had none left: no group around it has a limit.
    Host,
}

/// Memory is charged in batches of up to 64 pages (`MEMCG_CHARGE_BATCH`).
const BATCH: u64 = 64 * 4096;

impl Cgroup {
    /// Whose limit killed, if anything inside or below was ever killed for want of
    /// memory: the kernel's own count, not a guess from a signal. To be asked before
    /// the group is removed. `None` also without the memory controller.
    ///
    /// v1 does not say whose limit it was: there it is the group's own once that was
    /// reached, also if the kill was then for a group around it.
    ///
    /// # Errors
    /// `Kernel` or `NotFound` where the group is gone.
    #[doc(alias = "memory.events")]
    #[doc(alias = "memory.oom_control")]
    pub fn oom(&self) -> Result<Option<OomScope>> {
        let Some((place, dir)) = self.held(Controllers::MEMORY) else { return Ok(None) };
        let failed = |errno| self.failed("read the events of", errno);
        let own = match place.version {
            Version::V2 => {
                let events = fs::read(dir, c"memory.events").map_err(failed)?;
                let Some(1..) = text::keyed(&events, "oom_kill") else { return Ok(None) };
                // Counted by whose limit it was, and by those around it.
                text::keyed(&events, "oom") > Some(0)
            }
            Version::V1 => {
                fs::read(dir, c"memory.oom_control").map_err(failed)?;
                let Some(1..) = self.oom_kills() else { return Ok(None) };
                let number = |file| fs::read(dir, file).ok().and_then(|text| text::number(&text));
                // The counts of refusals stay 0 on some kernels (seen on 6.18), and the
                // peak may stop one batch of pages short of the limit.
                let hit = |failures, peak, limit| {
                    let full = number(peak).zip(number(limit));
                    number(failures) > Some(0)
                        || full.is_some_and(|(peak, limit)| peak.saturating_add(BATCH) >= limit)
                };
                hit(c"memory.failcnt", c"memory.max_usage_in_bytes", c"memory.limit_in_bytes")
                    || hit(
                        c"memory.memsw.failcnt",
                        c"memory.memsw.max_usage_in_bytes",
                        c"memory.memsw.limit_in_bytes",
                    )
            }
        };
        let outer = || outer(self.parent_dir(Controllers::MEMORY)?, place.version);
        Ok(Some(if own { OomScope::Group } else { outer().unwrap_or(OomScope::Ancestor) }))
    }

    /// v2 counts for a whole tree, v1 for each group alone.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let (place, dir) = self.held(Controllers::MEMORY)?;
        if place.version == Version::V2 {
            return text::keyed(&fs::read(dir, c"memory.events").ok()?, "oom_kill");
        }
        let mut sum = None;
        tree::walk(dir, |step| {
            if let Step::Enter(dir) = step
                && let Ok(text) = fs::read(dir, c"memory.oom_control")
                && let Some(n) = text::keyed(&text, "oom_kill")
            {
                sum = Some(sum.unwrap_or(0) + n);
            }
        })
        .ok()?;
        sum
    }

    fn parent_dir(&self, controller: Controllers) -> Option<BorrowedFd<'_>> {
        let index = self.parent().place_of(controller)?;
        Some(self.parent().0.places.get(index)?.dir())
    }
}

/// Whether a group from here up has a limit. `None` where the top is out of sight.
fn outer(from: BorrowedFd<'_>, version: Version) -> Option<OomScope> {
    let mut at = fs::open_dir(from, c".").ok()?;
    loop {
        match version {
            Version::V2 => match fs::read(at.as_fd(), c"memory.max") {
                Ok(text) if text::number(&text).is_some() => return Some(OomScope::Ancestor),
                Ok(_) => {}
                // Only the root of all has no such file.
                Err(_) if !fs::exists(at.as_fd(), c"cgroup.type") => return Some(OomScope::Host),
                Err(_) => return None,
            },
            Version::V1 => {
                let text = fs::read(at.as_fd(), c"memory.limit_in_bytes").ok()?;
                if text::number(&text).is_some_and(|n| n < V1_UNLIMITED) {
                    return Some(OomScope::Ancestor);
                }
                // Only a root has it.
                if fs::exists(at.as_fd(), c"release_agent") {
                    return Some(OomScope::Host);
                }
            }
        }
        let up = fs::open_dir(at.as_fd(), c"..").ok()?;
        if fs::magic(up.as_fd()).ok()? != fs::magic(at.as_fd()).ok()? {
            return None;
        }
        at = up;
    }
}
