//! What a killed owner leaves is collected, what lives is not touched. Needs root or
//! delegation.

mod common;

use common::{again, name, parent, part, said, shell};
use ireko_cgroups::{Cgroup, ErrorKind, Hierarchy, Limits, Parent, Pidfd, Size, Template, gc};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One at a time: `gc` sees the groups of all tests.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn template(parent: &Parent) -> Template {
    let limits = Limits::new().memory_max(Size::mib(64)).pids_max(32);
    Template::new(parent, &Limits::new()).unwrap().prefer(&limits).unwrap().v2_dir(true)
}

/// A part of the next test: makes a group with a process in it and waits to be killed.
#[test]
fn root_part_owner() {
    let Some(name) = part() else { return };
    let group = template(&Parent::detect().unwrap()).create(&name).unwrap();
    let mut child = shell(&group, "sleep 100 & sleep 100");
    for path in group.paths() {
        std::fs::create_dir_all(path.join("nested/deeper")).unwrap();
        println!("path: {}", path.display());
    }
    println!("ready: {}", child.id());
    child.wait().unwrap();
}

#[test]
fn root_what_a_killed_owner_leaves_is_collected() {
    let Some(parent) = parent() else { return };
    let _alone = alone();
    let living = template(&parent).create(&name("living")).unwrap();
    let mut inside = shell(&living, "read x");
    let mut owner = again("root_part_owner", &name("orphan")).spawn().unwrap();
    let count = template(&parent).places().count();
    let paths: Vec<PathBuf> = (0..count).map(|_| said(&mut owner, "path: ").into()).collect();
    let orphan: u32 = said(&mut owner, "ready: ").parse().unwrap();
    let orphan = Pidfd::open(orphan).unwrap();

    // Its owner lives: nothing is collected.
    gc(&parent).unwrap();
    assert!(paths.iter().all(|path| path.exists()), "{paths:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();

    assert!(!orphan.poll(Some(std::time::Duration::ZERO)).unwrap());
    // Other programs on this host may have left some too.
    assert!(gc(&parent).unwrap() >= 1);
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
    assert!(orphan.poll(Some(std::time::Duration::from_secs(5))).unwrap());

    assert!(inside.try_wait().unwrap().is_none());
    assert!(living.paths().iter().all(|path| path.exists()));
    drop(living);
    assert!(!inside.wait().unwrap().success());
}

#[test]
fn root_a_collector_in_the_middle_of_creation_does_no_harm() {
    let Some(parent) = parent() else { return };
    let _alone = alone();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    gc(&parent).unwrap();
                }
            });
        }
        let template = template(&parent);
        for n in 0..200 {
            let group = template.create(&name(&format!("race-{n}"))).unwrap();
            assert!(group.paths().iter().all(|path| path.join("cgroup.procs").exists()));
            group.enforced().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn root_a_kept_group_stays_until_it_is_opened_again() {
    let Some(parent) = parent() else { return };
    let _alone = alone();
    let name = name("kept");
    let group = template(&parent).create(&name).unwrap();
    let mut inside = shell(&group, "read x");
    assert_eq!(Cgroup::open(&parent, &name).unwrap_err().kind(), ErrorKind::Conflict);
    let paths = group.keep().unwrap();
    gc(&parent).unwrap();
    assert!(paths.iter().all(|path| path.exists()));
    assert!(inside.try_wait().unwrap().is_none());

    let group = Cgroup::open(&parent, &name).unwrap();
    assert_eq!(group.paths().len(), paths.len());
    assert_eq!(group.processes(), [inside.id()]);
    group.remove().unwrap();
    assert!(!inside.wait().unwrap().success());
    assert!(paths.iter().all(|path| !path.exists()));
    assert_eq!(Cgroup::open(&parent, &name).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn root_names_are_taken_once() {
    let Some(parent) = parent() else { return };
    let _alone = alone();
    let name = name("taken");
    let group = template(&parent).create(&name).unwrap();
    assert_eq!(template(&parent).create(&name).unwrap_err().kind(), ErrorKind::Conflict);
    assert!(group.paths().iter().all(|path| path.exists()));
    drop(group);
    let group = Cgroup::create(&parent, &name).unwrap();
    assert_eq!(group.paths().len(), 1);
    assert_eq!(group.dir().is_some(), parent.hierarchy() != Hierarchy::V1);
}
