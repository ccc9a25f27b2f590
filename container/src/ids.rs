//! Ranges of ids for containers that root starts: 65,536 each, none used by two at once.
//!
//! A claim is a lock on one byte of a file: the kernel drops it when the program dies,
//! however it dies. The file itself stays empty.

use crate::compile::RANGE;
use crate::{Error, Result, Stage};
use ireko_namespaces::{IdMaps, NsFd};
use ireko_sys::{Errno, ErrorKind, Failure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The first id outside; 2^31 is as far as they go.
const FIRST: u32 = 1_879_048_192;
const RANGES: u32 = (1 << 31) / RANGE - FIRST / RANGE;
/// User namespaces kept for the maps of ranges, to show owners through.
const KEPT: usize = 64;

const DIRECTORY: &str = "/run/ireko";

static CLAIMS: Mutex<Option<Claims>> = Mutex::new(None);

struct Claims {
    /// Locks belong to an open file, which a fork of this process would share.
    process: u32,
    file: File,
    taken: BTreeSet<u32>,
    /// Ranges that other users have by /etc/subuid and /etc/subgid.
    foreign: Vec<Range<u32>>,
    namespaces: BTreeMap<u32, NsFd>,
}

/// A range of ids that no other container has; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    number: u32,
    maps: IdMaps,
    process: u32,
}

impl Claim {
    /// Takes the first range that is free.
    pub(crate) fn take() -> Result<Self> {
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        let me = std::process::id();
        if claims.as_ref().is_none_or(|claims| claims.process != me) {
            *claims = Some(Claims::open(me)?);
        }
        let Some(claims) = &mut *claims else { unreachable!("just opened") };
        for number in 0..RANGES {
            let start = FIRST + number * RANGE;
            let range = start..start + RANGE;
            let foreign = claims.foreign.iter().any(|f| f.start < range.end && range.start < f.end);
            if foreign || claims.taken.contains(&number) {
                continue;
            }
            if lock(&claims.file, number, libc::F_WRLCK).map_err(failed)? {
                claims.taken.insert(number);
                return Ok(Self { number, maps: IdMaps::range(range), process: me });
            }
        }
        let failure = Failure::ours(ErrorKind::Exhausted, "claim a range of ids", "all are in use");
        Err(Error::new(Stage::IdMap, failure.remedy("give .id_maps(..) a range of your own")))
    }

    pub(crate) fn maps(&self) -> &IdMaps {
        &self.maps
    }

    /// A user namespace with these maps, made once for each range.
    pub(crate) fn namespace(&self) -> Result<NsFd> {
        let known = |claims: &Option<Claims>| {
            claims.as_ref().and_then(|claims| claims.namespaces.get(&self.number).cloned())
        };
        if let Some(ns) = known(&CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(ns);
        }
        let ns = self.maps.to_user_ns()?;
        if let Some(claims) = &mut *CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
            && claims.namespaces.len() < KEPT
        {
            claims.namespaces.insert(self.number, ns.clone());
        }
        Ok(ns)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return;
        }
        if let Some(claims) = &mut *CLAIMS.lock().unwrap_or_else(PoisonError::into_inner) {
            // A lock that would not go is dropped with the program.
            let _ = lock(&claims.file, self.number, libc::F_UNLCK);
            claims.taken.remove(&self.number);
        }
    }
}

impl Claims {
    fn open(process: u32) -> Result<Self> {
        let dir = Path::new(DIRECTORY);
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(failed(Errno::of(&e)));
            }
            _ => {}
        }
        // Nobody else may have made it, to lock us out or lead us elsewhere.
        let meta = dir.symlink_metadata().map_err(|e| failed(Errno::of(&e)))?;
        if !meta.is_dir() || meta.uid() != 0 || meta.mode() & 0o077 != 0 {
            let failure = Failure::ours(
                ErrorKind::Conflict,
                format!("use {DIRECTORY}"),
                "it is not a directory of root's alone",
            );
            return Err(Error::new(
                Stage::IdMap,
                failure.remedy(format!("chmod 0700 {DIRECTORY}, owned by root")),
            ));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(dir.join("ids"))
            .map_err(|e| failed(Errno::of(&e)))?;
        let file = File::from(ireko_sys::above(10, file)?);
        let mut foreign = Vec::new();
        for file in ["/etc/subuid", "/etc/subgid"] {
            foreign.extend(subordinate(&std::fs::read_to_string(file).unwrap_or_default()));
        }
        Ok(Self { process, file, taken: BTreeSet::new(), foreign, namespaces: BTreeMap::new() })
    }
}

/// All ranges of a file such as `/etc/subuid`.
fn subordinate(text: &str) -> Vec<Range<u32>> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(1);
            let start: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.trim().parse().ok()?;
            Some(start..start.saturating_add(count))
        })
        .collect()
}

/// Sets the lock of one byte; `false` when another program has it.
fn lock(file: &File, number: u32, kind: i32) -> Result<bool, Errno> {
    // SAFETY: plain data, for which zero is a value.
    let mut what: libc::flock = unsafe { std::mem::zeroed() };
    what.l_type = kind as i16;
    what.l_whence = libc::SEEK_SET as i16;
    what.l_start = number.into();
    what.l_len = 1;
    loop {
        // SAFETY: an open file and a struct flock.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const what) } == 0 {
            return Ok(true);
        }
        match Errno::last().raw() {
            libc::EINTR => {}
            libc::EAGAIN | libc::EACCES => return Ok(false),
            _ => return Err(Errno::last()),
        }
    }
}

fn failed(errno: Errno) -> Error {
    Error::new(Stage::IdMap, Failure::kernel(format!("claim a range of ids in {DIRECTORY}"), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_of_others() {
        let found = subordinate("a:1879048192:65536\nbad\nb:5:x\nc:5:4294967295\n");
        assert_eq!(found, [FIRST..FIRST + RANGE, 5..u32::MAX]);
        assert_eq!(RANGES, 4096);
    }
}
