//! Finding the place, and saying what to do where there is none. Needs root.

mod common;

use common::{again, line, name, parent, part, said, shell};
use ireko_cgroups::{Cgroup, Controllers, ErrorKind, Hierarchy, Limits, Parent, Size, Template};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A part of the next test: what an ordinary user is told.
#[test]
fn root_part_ordinary_user() {
    let Some(_) = part() else { return };
    match Parent::detect() {
        Ok(parent) => println!("told: Ok {}", parent.controllers()),
        Err(error) => {
            println!("told: {:?} {error}", error.kind());
            println!("remedy: {}", error.remedy().unwrap_or("none"));
        }
    }
}

#[test]
fn root_an_ordinary_user_without_delegation_is_told_what_to_do() {
    let Some(parent) = parent() else { return };
    let mut command = again("root_part_ordinary_user", "");
    let Ok(mut child) = command.uid(65534).gid(65534).spawn() else {
        testkit::skip!("the test program cannot be run by nobody, or this is not root");
    };
    let told = said(&mut child, "told: ");
    assert!(told.starts_with("Denied make groups in /"), "{told}");
    let remedy = said(&mut child, "remedy: ");
    if parent.hierarchy() == Hierarchy::V2 {
        assert!(remedy.contains("systemd-run --user --scope -p Delegate=yes"), "{remedy}");
    } else {
        assert!(remedy.contains("run as root"), "{remedy}");
    }
    child.wait().unwrap();
}

#[test]
fn root_what_is_found_is_consistent() {
    let Some(parent) = parent() else { return };
    assert!(parent.controllers().intersects(Controllers::MEMORY | Controllers::PIDS));
    assert!(parent.paths().all(|path| path.join("cgroup.procs").exists()));
    // Nothing of the trying is left; other tests may be trying now.
    for path in parent.paths() {
        let prefix = format!("ireko-probe-{}-", std::process::id());
        let none = || {
            let mut names = std::fs::read_dir(path).unwrap().flatten().map(|e| e.file_name());
            !names.any(|name| name.to_string_lossy().starts_with(&prefix))
        };
        common::wait_until("a probe is left", none);
    }
    let again = parent.clone().enable(Controllers::PIDS).unwrap();
    assert_eq!(again.controllers(), parent.controllers());
}

#[test]
fn root_only_the_hierarchies_that_are_needed() {
    let Some(parent) = parent() else { return };
    if parent.hierarchy() == Hierarchy::V2 {
        testkit::skip!("v2 has one hierarchy");
    }
    let places = |template: &Template| template.places().count();
    let pids = Template::new(&parent, &Limits::new().pids_max(8)).unwrap();
    assert_eq!(places(&pids), 1);
    assert_eq!(pids.writes().count(), 1);
    let both = pids.clone().prefer(&Limits::new().memory_max(Size::mib(8))).unwrap();
    assert_eq!(places(&both), 2);
    if parent.hierarchy() == Hierarchy::Hybrid {
        let group = pids.v2_dir(true).create(&name("dirs")).unwrap();
        assert_eq!(group.paths().len(), 2);
        assert!(group.dir().is_some());
        assert_eq!(group.join_fds().len(), 1);
    }
}

#[test]
fn root_raw_files_go_where_they_live() {
    let Some(parent) = parent() else { return };
    let error = Template::new(&parent, &Limits::new().raw("nothing.max", "1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let file = if parent.hierarchy() == Hierarchy::V2 { "cpu.max.burst" } else { "cpuset.cpus" };
    let template = match Template::new(&parent, &Limits::new().raw(file, "0")) {
        Ok(template) => template,
        Err(error) => testkit::skip!("{error}"),
    };
    let group = template.create(&name("raw")).unwrap();
    let held = std::fs::read_to_string(group.paths()[0].join(file)).unwrap();
    assert_eq!(held.trim(), "0");
    // A v1 cpuset without memory nodes could not be joined.
    assert!(shell(&group, "true").wait().unwrap().success());
}

#[test]
fn root_at_takes_v2_alone() {
    let error = Parent::at("/proc").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(Parent::at("/nonexistent").unwrap_err().kind(), ErrorKind::NotFound);
}

/// A group in the v2 tree of this host that has a controller to pass on.
struct V2 {
    group: Cgroup,
    path: PathBuf,
    controller: Controllers,
    _restored: Restored,
}

/// On a hybrid host hugetlb may be the only controller in the v2 tree: it is enabled
/// for as long as a test needs it, one test at a time.
struct Restored(Option<PathBuf>, #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Drop for Restored {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            std::fs::write(file, "-hugetlb").unwrap();
        }
    }
}

fn v2(what: &str) -> Option<V2> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = &parent()?;
    let make = |parent: &Parent| {
        let group = Template::new(parent, &Limits::new()).unwrap().v2_dir(true);
        group.create(&name(what)).unwrap()
    };
    let mut group = make(parent);
    let mut enabled = None;
    if parent.hierarchy() == Hierarchy::Hybrid {
        let above = group.paths().pop().unwrap().parent().unwrap().join("cgroup.subtree_control");
        if !std::fs::read_to_string(&above).unwrap().contains("hugetlb") {
            enabled = Some(above);
        }
        match parent.clone().enable(Controllers::HUGETLB) {
            Ok(parent) => {
                drop(group);
                group = make(&parent);
            }
            Err(_) => enabled = None,
        }
    }
    let restored = Restored(enabled, alone);
    if group.dir().is_none() {
        testkit::skip!("no v2 tree");
    }
    let path = group.paths().pop().unwrap();
    let text = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    let known = [("hugetlb", Controllers::HUGETLB), ("memory", Controllers::MEMORY)];
    let found = known.into_iter().find(|(name, _)| text.split_whitespace().any(|t| t == *name));
    let Some((_, controller)) = found else {
        testkit::skip!("no controller in {}", path.display());
    };
    Some(V2 { group, path, controller, _restored: restored })
}

#[test]
fn root_a_v2_group_that_holds_processes_says_so() {
    let Some(v2) = v2("internal") else { return };
    let (group, path, controller) = (&v2.group, &v2.path, v2.controller);
    let mut child = shell(group, "echo in; read x");
    assert_eq!(line(&mut child), "in");
    let enabled = Parent::at(path).and_then(|at| at.enable(controller));
    let error = enabled.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.remedy().unwrap().contains("DelegateSubgroup"), "{error}");
    group.kill().unwrap();
    child.wait().unwrap();
    let at = Parent::at(path).unwrap().enable(controller).unwrap();
    assert!(at.controllers().contains(controller));
    assert_eq!(at.hierarchy(), Hierarchy::V2);
    let inner = Template::new(&at, &Limits::new()).unwrap().also(controller).unwrap();
    let inner = inner.create("inner").unwrap();
    assert_eq!(inner.paths(), [path.join("ireko-inner")]);
}

/// A part of the next test: a program that has a v2 group to itself.
#[test]
fn root_part_evacuates() {
    let Some(_) = part() else { return };
    match Parent::evacuate() {
        Ok(parent) => println!("told: {}", parent.controllers()),
        Err(error) => println!("told: {error}"),
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let v2 = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    println!("own: {v2}");
}

#[test]
fn root_a_program_makes_room_in_a_group_of_its_own() {
    let Some(v2) = v2("room") else { return };
    let (group, path, controller) = (&v2.group, &v2.path, v2.controller);
    let mut command = again("root_part_evacuates", "");
    let mut child = common::inside(group, &mut command).spawn().unwrap();
    let told = said(&mut child, "told: ");
    let own = said(&mut child, "own: ");
    assert!(own.ends_with(&format!("ireko-{}/main", name("room"))), "{own}: {told}");
    child.wait().unwrap();
    let at = Parent::at(path).unwrap().enable(controller).unwrap();
    assert!(at.controllers().contains(controller));
}
