//! Propagation, by what shows up where.

use crate::common::{dirs, private};
use ireko_mounts::{Detached, ErrorKind, Filesystem, MountTable, Propagation, Size};
use std::path::Path;

fn tmpfs() -> Detached {
    Detached::tmpfs(Size::mib(1)).unwrap()
}

fn mounted(path: &Path) -> bool {
    MountTable::of_caller().unwrap().at(path).is_some()
}

/// What crosses between a shared source and a copy of it: in, and out.
fn crosses(dir: &Path, copy: impl FnOnce(&Path) -> Detached) -> (bool, bool) {
    let [source, at] = dirs(dir, ["source", "at"]);
    let shared = tmpfs().propagation(Propagation::Shared).unwrap().attach(&source).unwrap();
    dirs(&source, ["in", "out"]);
    let copy = copy(&source).attach(&at).unwrap();
    let in_source = tmpfs().attach(source.join("in")).unwrap();
    let in_copy = tmpfs().attach(at.join("out")).unwrap();
    let answer = (mounted(&at.join("in")), mounted(&source.join("out")));
    drop((in_source, in_copy));
    assert!(!mounted(&at.join("in")) && !mounted(&source.join("out")));
    copy.unmount().unwrap();
    shared.unmount().unwrap();
    answer
}

#[test]
fn root_copies_are_private_unless_said_otherwise() {
    private("propagation", |dir| {
        use Propagation::{Private, Shared, Slave};
        assert_eq!(crosses(dir, |s| Detached::bind(s).unwrap()), (false, false));
        assert_eq!(crosses(dir, |s| Detached::bind_recursive(s).unwrap()), (false, false));
        for (propagation, answer) in
            [(Private, (false, false)), (Slave, (true, false)), (Shared, (true, true))]
        {
            let bind = |s: &Path| Detached::bind_propagating(s, true, propagation).unwrap();
            assert_eq!(crosses(dir, bind), answer, "{propagation}");
        }
    });
}

#[test]
fn root_propagation_narrows() {
    private("narrows", |dir| {
        use Propagation::{Private, Shared, Slave};
        for (first, then, answer) in [
            (Shared, Slave, (true, false)),
            (Shared, Private, (false, false)),
            (Slave, Private, (false, false)),
        ] {
            let bind = |s: &Path| {
                Detached::bind_propagating(s, true, first).unwrap().propagation(then).unwrap()
            };
            assert_eq!(crosses(dir, bind), answer, "{first} {then}");
        }
        let error = tmpfs().propagation(Slave).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), "make tmpfs slave: it is private and has nobody to follow");
        assert_eq!(error.remedy(), Some("bind it with Detached::bind_propagating"));
    });
}

#[test]
fn root_the_table_tells_propagation() {
    private("told", |dir| {
        let [source, at] = dirs(dir, ["source", "at"]);
        let _shared = tmpfs().propagation(Propagation::Shared).unwrap().attach(&source).unwrap();
        let slave = Detached::bind_propagating(&source, false, Propagation::Slave).unwrap();
        let _slave = slave.attach(&at).unwrap();
        let table = MountTable::of_caller().unwrap();
        let (source, at) = (table.at(&source).unwrap(), table.at(&at).unwrap());
        assert_eq!(source.propagation(), Propagation::Shared);
        assert_eq!(at.propagation(), Propagation::Slave);
        assert_eq!(at.master(), source.shared());
        assert_eq!(table.at(dir).unwrap().propagation(), Propagation::Private);
    });
}

/// `mount --rbind / /mnt; umount -l /mnt` unmounts all of the host.
#[test]
fn root_dropping_a_shared_copy_leaves_the_source_whole() {
    private("rbind", |dir| {
        let [source, at] = dirs(dir, ["source", "at"]);
        let shared = tmpfs().propagation(Propagation::Shared).unwrap();
        let _shared = shared.attach(&source).unwrap();
        let [sub] = dirs(&source, ["sub"]);
        let _sub = tmpfs().attach(&sub).unwrap();
        for lazily in [true, false] {
            let copy = Detached::bind_propagating(&source, true, Propagation::Shared).unwrap();
            let copy = copy.attach(&at).unwrap();
            assert!(mounted(&at.join("sub")));
            if lazily {
                drop(copy)
            } else {
                copy.unmount().unwrap()
            }
            assert!(!mounted(&at) && mounted(&sub));
        }
    });
}

#[test]
fn root_a_copy_of_an_unbindable_mount_is_refused() {
    private("unbindable", |dir| {
        let [at] = dirs(dir, ["at"]);
        let _tmpfs = Filesystem::new("tmpfs").mount().unwrap().attach(&at).unwrap();
        let none = None::<&str>;
        nix::mount::mount(none, &at, none, nix::mount::MsFlags::MS_UNBINDABLE, none).unwrap();
        assert!(MountTable::of_caller().unwrap().at(&at).unwrap().is_unbindable());
        assert_eq!(Detached::bind(&at).unwrap_err().kind(), ErrorKind::Invalid);
    });
}
