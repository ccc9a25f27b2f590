//! A program starts where the thread stands that asks for it, whoever else has started one.

use ireko_namespaces::{Namespaces, NetNs, NsFd, Spawn, UtsNs};
use std::time::Duration;
use testkit::{need, within};

fn inode(name: &str) -> u64 {
    let output = Spawn::new("/bin/readlink").arg(format!("/proc/self/ns/{name}")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim()
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .trim_end_matches(']')
        .parse()
        .unwrap()
}

#[test]
fn root_a_start_is_where_its_thread_is() {
    need!(root);
    let own = |kind| NsFd::of_thread(kind).unwrap().id().unwrap();
    let (net, uts) = (NetNs::create().unwrap(), UtsNs::create().unwrap());
    for _ in 0..3 {
        assert_eq!(inode("net"), own(Namespaces::NET));
        assert_eq!(net.run(|| inode("net")).unwrap(), net.as_ns_fd().id().unwrap());
        assert_eq!(inode("uts"), own(Namespaces::UTS));
        assert_eq!(uts.run(|| inode("uts")).unwrap(), uts.as_ns_fd().id().unwrap());
    }
    // Moved by other code than ours.
    let moved = std::thread::spawn(|| {
        // SAFETY: a number; what changes is this thread's own.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) }, 0);
        let kinds = [("net", Namespaces::NET), ("mnt", Namespaces::MOUNT)];
        kinds.map(|(name, kind)| (inode(name), NsFd::of_thread(kind).unwrap().id().unwrap()))
    });
    let moved = moved.join().unwrap();
    assert!(moved.iter().all(|(child, thread)| child == thread), "{moved:?}");
    assert_eq!((inode("net"), inode("mnt")), (own(Namespaces::NET), own(Namespaces::MOUNT)));
}

/// What a thread has given up is its own affair.
#[test]
fn root_a_start_has_no_more_than_its_thread() {
    need!(root);
    let restriction = || {
        let output = Spawn::new("/bin/grep").args(["NoNewPrivs", "/proc/self/status"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(restriction().ends_with("0\n"));
    let restricted = std::thread::spawn(move || {
        // SAFETY: numbers; what changes is this thread's own.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
        restriction()
    });
    assert!(restricted.join().unwrap().ends_with("1\n"));
    assert!(restriction().ends_with("0\n"));
}

/// The C library has each thread change its ids, and waits for all of them.
#[test]
fn root_p2_setgid_of_the_caller_does_not_wait_for_ever() {
    need!(root);
    assert!(Spawn::new("/bin/true").status().unwrap().success());
    within(Duration::from_secs(20), || {
        for _ in 0..20 {
            assert!(Spawn::new("/bin/true").status().unwrap().success());
            // SAFETY: a number: the group that it is.
            assert_eq!(unsafe { libc::setgid(libc::getgid()) }, 0);
        }
    });
}
