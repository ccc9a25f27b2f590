//! One spawn of a plan: what each gets of its own, and the start itself.

use crate::compile::Maps;
use crate::groups::Groups;
use crate::handle::Live;
use crate::ids::Claim;
use crate::plan::{Inner, Plan};
use crate::{Container, Error, ErrorKind, Id, Result, Stage, Stdio, remedy};
use ireko_mounts::{Attributes, Detached};
use ireko_namespaces::start::{Begun, Failed, Pipes, Start};
use ireko_namespaces::{IdMaps, Namespaces, NsFd};
use ireko_sys::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(crate) fn spawn(plan: &Plan, defaults: [Stdio; 3]) -> Result<Container> {
    let inner = &*plan.inner;
    let id = plan.id.clone().unwrap_or_else(Id::random);
    let claim = match inner.blueprint.shape.maps {
        Maps::Claimed => Some(Claim::take()?),
        Maps::None | Maps::Fixed(_) => None,
    };
    let maps = match (&claim, &inner.blueprint.shape.maps) {
        (Some(claim), _) => Some(claim.maps()),
        (None, Maps::Fixed(maps)) => Some(maps),
        _ => None,
    };
    // What the child is born with, or takes at once, is made before it. What it needs only
    // later is made while it is being made itself, and follows through the socket.
    let helped = inner.compiled.is_helped();
    let early = !helped || inner.place.is_born_in();
    let early_groups = if early { inner.place.make(&id)? } else { None };
    let early_trees = if helped { Vec::new() } else { copies(inner, claim.as_ref(), maps)? };
    let (pipes, streams) =
        Pipes::open(&plan.stdio, defaults).map_err(|e| Error::from(e).at(Stage::Process))?;
    let mut start = Start::new(&inner.compiled, inner.blueprint.shape.cloned())
        .stdio(streams.fds())
        .name(id.as_str());
    if let Some(maps) = maps {
        start = start.id_maps(maps);
    }
    let mut passed = Vec::new();
    for (index, (_, fd)) in inner.config.fds.iter().enumerate() {
        let fd = clear_of(&inner.config.fds, fd)?;
        start = start.slot(inner.blueprint.fd_slot(index), fd.as_raw_fd().into());
        passed.push(fd);
    }
    for (slot, namespace) in inner.blueprint.joined_slots.iter().zip(&inner.config.join) {
        start = start.slot(*slot, namespace.as_raw_fd().into());
    }
    if let Some(groups) = &early_groups {
        if let Some(dir) = groups.dir() {
            start = start.cgroup(dir);
        }
        for (slot, fd) in inner.blueprint.joins.iter().zip(groups.join_fds()) {
            start = start.slot(*slot, fd.as_raw_fd().into());
        }
    }
    for (tree, copy) in inner.blueprint.trees.iter().zip(&early_trees) {
        start = start.slot(tree.slot, copy.as_fd().as_raw_fd().into());
    }
    let mut late = None;
    let nothing_late = early || inner.place.is_nowhere();
    let begun = if helped && !(nothing_late && inner.blueprint.trees.is_empty()) {
        start.begin_meanwhile(|| {
            let groups = if early { Ok(None) } else { inner.place.make(&id) };
            late =
                Some(groups.and_then(|groups| Ok((groups, copies(inner, claim.as_ref(), maps)?))));
        })
    } else {
        start.begin()
    };
    drop(start);
    // A child that is there when this fails goes with `begun`.
    let (late_groups, late_trees) = late.transpose()?.unwrap_or_default();
    let groups = early_groups.or(late_groups);
    let explained = |failed| explain(inner, failed, groups.as_ref());
    let mut begun = begun.map_err(explained)?;
    let files: Vec<BorrowedFd<'_>> = if helped {
        let joins = groups.iter().flat_map(Groups::join_fds);
        joins.chain(late_trees.iter().map(AsFd::as_fd)).collect()
    } else {
        Vec::new()
    };
    begun.release(&files);
    // While the child goes on with its tree. An error here drops it before its exec, or
    // after the exec of one that was started in place. Once for each plan: later starts
    // take the same steps, which the kernel then answers as it did.
    let limits = inner.place.report(groups.as_ref());
    if !inner.seen.load(Ordering::Acquire) {
        match look(inner, groups.as_ref(), &begun) {
            Ok(()) => inner.seen.store(true, Ordering::Release),
            // One that has ended, in a step or with its program, is in no group and no
            // namespace any more: its steps tell.
            Err(_) if begun.has_ended() => {}
            Err(error) => return Err(error),
        }
    }
    let started = begun.go(&inner.compiled).map_err(explained)?;
    let began = Instant::now();
    inner.place.after_exec(groups.as_ref());
    drop((streams, early_trees, late_trees, passed));
    let enforcement = inner.enforcement(&started.missed, limits);
    let live = Live::new(inner, id, started, began, groups, claim);
    Ok(Container::new(live, pipes, enforcement, inner))
}

/// A copy under a number that no file is put under.
fn clear_of(fds: &[(u32, Arc<OwnedFd>)], fd: &OwnedFd) -> Result<OwnedFd> {
    let mut min = 10;
    loop {
        let copy = ireko_sys::above(min, fd)?;
        if !fds.iter().any(|(number, _)| i64::from(*number) == copy.as_raw_fd().into()) {
            return Ok(copy);
        }
        min = copy.as_raw_fd() + 1;
    }
}

/// Whether the child is where it should be.
fn look(inner: &Inner, groups: Option<&Groups>, begun: &Begun) -> Result<()> {
    let pid = begun.pid();
    if let Some(groups) = groups {
        // It joins by itself, after the word.
        if let Some(last) = inner.blueprint.last_join() {
            begun.wait_passed(last);
        }
        groups.check(pid)?;
    }
    if inner.compiled.is_helped() {
        inner.own.check(pid)?;
    }
    Ok(())
}

/// The mounts that the child cannot copy itself: of directories that only the host's
/// root can reach, and with owners shown through the maps.
fn copies(inner: &Inner, claim: Option<&Claim>, maps: Option<&IdMaps>) -> Result<Vec<Detached>> {
    let mut copies = Vec::new();
    let mut namespace: Option<NsFd> = None;
    for tree in &inner.blueprint.trees {
        let failed = |error: ireko_mounts::Error| {
            let mut failure = error.into_failure();
            failure.operation =
                format!("copy the mount for {}: {}", tree.name, failure.operation).into();
            Error::new(Stage::Mount, failure)
        };
        if tree.idmapped && namespace.is_none() {
            namespace = match (claim, maps) {
                (Some(claim), _) => Some(claim.namespace()?),
                (None, Some(maps)) => Some(maps.to_user_ns()?),
                (None, None) => None,
            };
        }
        let owners = namespace.as_ref().filter(|_| tree.idmapped).map(AsFd::as_fd);
        let attributes = Attributes::from_bits_truncate(tree.attributes);
        let copy = Detached::prepared(&tree.source, tree.recursive, attributes, owners).map_err(|error| {
            let idmap = error.kind() == ErrorKind::Unsupported && tree.idmapped;
            let error = failed(error);
            if !idmap {
                return error;
            }
            error.with_remedy(
                "the file system cannot show owners through id maps: copy the tree to one that can (ext4, xfs, btrfs, tmpfs from Linux 6.3)",
            )
        })?;
        copies.push(copy);
    }
    Ok(copies)
}

/// Which step it was, as an error with its stage and what to do.
fn explain(inner: &Inner, failed: Failed, groups: Option<&Groups>) -> Error {
    let step = failed.step.and_then(|index| inner.compiled.steps().get(index));
    let stage = step.map_or(Stage::Clone, |step| inner.blueprint.note(step.tag).stage);
    let in_user_ns = inner.blueprint.shape.has(Namespaces::USER);
    let oom = failed.killed.is_some() && groups.is_some_and(Groups::was_oom);
    // A copy of what is no longer anywhere cannot be attached.
    if let (Stage::Mount, Some(Errno::ENOENT), Some(tree)) =
        (stage, failed.error.errno(), inner.blueprint.trees.iter().find(|tree| tree.is_gone()))
    {
        let what = format!("mount what was planned for {}", tree.name);
        return Error::new(stage, remedy::stale(what));
    }
    remedy::explain(stage, step.map(|step| step.text.as_str()), failed, in_user_ns, oom)
}
