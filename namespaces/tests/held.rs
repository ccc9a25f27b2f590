//! Namespaces that are held, entered by one thread, and left to the others as they were.

use ireko_namespaces::{
    CgroupNs, ErrorKind, IpcNs, Namespaces, NetNs, NsFd, Pidfd, Spawn, Stdio, UtsNs, setns, unshare,
};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use testkit::{TempDir, alone, need, payload, within};

fn id(kind: Namespaces) -> u64 {
    NsFd::of_thread(kind).unwrap().id().unwrap()
}

/// Whether the threads are where they were; one that has just ended is seen a moment longer.
fn settles(name: &str, own: &[String]) -> bool {
    let end = Instant::now() + Duration::from_secs(2);
    while of_all_threads(name) != own {
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// The namespaces of one kind that the threads of this process are in.
fn of_all_threads(name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let link = |task: std::fs::DirEntry| std::fs::read_link(task.path().join("ns").join(name)).ok();
    let mut all: Vec<String> =
        tasks.filter_map(link).map(|link| link.display().to_string()).collect();
    all.sort();
    all.dedup();
    all
}

fn paused(kinds: Namespaces) -> ireko_namespaces::Child {
    // Should nobody end it, it ends by itself.
    let spawn = Spawn::new(payload()).args(["sleep", "60"]).namespaces(kinds);
    spawn.stderr(Stdio::Null).stdout(Stdio::Null).spawn().unwrap()
}

fn end(child: &ireko_namespaces::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn tells_kind_owner_and_parent() {
    for kind in Namespaces::all() {
        let name = kind.proc_name().unwrap();
        let ns = NsFd::of_thread(kind).unwrap();
        assert_eq!(ns.kind().unwrap(), kind);
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("{name}:[{}]", ns.id().unwrap()));
        // Clear of the numbers that a start gives to its own.
        assert!(ns.as_raw_fd() >= 10, "{}", ns.as_raw_fd());
    }
    let child = paused(Namespaces::USER | Namespaces::PID | Namespaces::NET);
    let of = |kind| NsFd::of_process(child.pidfd(), kind).unwrap();
    let user = of(Namespaces::USER);
    assert_ne!(user.id().unwrap(), id(Namespaces::USER));
    // What was made together belongs to the user namespace made with it.
    for kind in [Namespaces::PID, Namespaces::NET] {
        assert_eq!(of(kind).owner().unwrap().id().unwrap(), user.id().unwrap());
    }
    assert_eq!(user.owner().unwrap().id().unwrap(), id(Namespaces::USER));
    for kind in [Namespaces::USER, Namespaces::PID] {
        assert_eq!(of(kind).parent().unwrap().id().unwrap(), id(kind));
        assert_eq!(of(kind).parent().unwrap().kind().unwrap(), kind);
    }
    assert_eq!(of(Namespaces::NET).parent().unwrap_err().kind(), ErrorKind::Invalid);
    // Nobody is told what is around their own.
    let own = NsFd::of_thread(Namespaces::USER).unwrap();
    assert_eq!(own.parent().unwrap_err().kind(), ErrorKind::Denied);
    // Held, it outlives its processes.
    let net = of(Namespaces::NET);
    end(&child);
    assert_eq!(net.kind().unwrap(), Namespaces::NET);
    let gone = NsFd::of_process(child.pidfd(), Namespaces::NET).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    let file: OwnedFd = std::fs::File::open("/proc/self/status").unwrap().into();
    assert_eq!(NsFd::try_from(file).unwrap_err().kind(), ErrorKind::Invalid);
    let two = NsFd::of_thread(Namespaces::NET | Namespaces::UTS).unwrap_err();
    assert_eq!(two.kind(), ErrorKind::Invalid);
    let wrong = NetNs::try_from(NsFd::of_thread(Namespaces::UTS).unwrap()).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
    assert!(wrong.to_string().contains("it is of kind uts"), "{wrong}");
}

#[test]
fn root_tells_kind_owner_and_parent() {
    need!(root, userns);
    tells_kind_owner_and_parent();
}

#[test]
fn unpriv_tells_kind_owner_and_parent() {
    need!(unprivileged, userns);
    tells_kind_owner_and_parent();
}

/// In a mount namespace of a thread's own: nothing of it is on the host.
#[test]
fn root_a_pinned_namespace_lasts() {
    need!(root);
    let _alone = alone();
    let dir = TempDir::new();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = dir.join("net");
    let (pinned, other) = (path.clone(), dir.join("none").join("net"));
    let run = move || {
        unshare(Namespaces::MOUNT).unwrap();
        // SAFETY: texts that end in zero, and no data.
        let private = unsafe {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null())
        };
        assert_eq!(private, 0);
        let net = NetNs::create().unwrap();
        let number = net.as_ns_fd().id().unwrap();
        net.as_ns_fd().pin(&pinned).unwrap();
        let again = net.as_ns_fd().pin(&pinned).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Conflict, "{again}");
        let nowhere = net.as_ns_fd().pin(&other).unwrap_err();
        assert_eq!(nowhere.kind(), ErrorKind::NotFound, "{nowhere}");
        // Nobody holds it any more but the name.
        drop(net);
        let found = NetNs::open(&pinned).unwrap();
        assert_eq!(found.as_ns_fd().id().unwrap(), number);
        assert_eq!(found.run(|| id(Namespaces::NET)).unwrap(), number);
        assert_eq!(UtsNs::open(&pinned).unwrap_err().kind(), ErrorKind::Invalid);
    };
    std::thread::spawn(run).join().unwrap();
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    // The file was left, the mount on it went with its namespace.
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(NsFd::open(&path).unwrap_err().kind(), ErrorKind::Invalid);
}

/// `run` is on a thread of its own: none of the caller's is ever anywhere else.
#[test]
fn root_run_leaves_the_callers_threads_where_they_were() {
    need!(root);
    let _alone = alone();
    within(Duration::from_secs(60), || {
        let own = of_all_threads("net");
        let net = NetNs::create().unwrap();
        assert_ne!(net.as_ns_fd().id().unwrap(), id(Namespaces::NET));
        for _ in 0..100 {
            let (inside, caller) = net
                .run(|| {
                    let caller = std::fs::read_link("/proc/self/ns/net").unwrap();
                    (id(Namespaces::NET), caller.display().to_string())
                })
                .unwrap();
            assert_eq!(inside, net.as_ns_fd().id().unwrap());
            // The main thread's, seen from inside.
            assert!(own.contains(&caller), "{caller}");
            assert!(settles("net", &own));
        }
        // A panic goes on in the caller, and nothing is left in there.
        let panic = std::panic::catch_unwind(|| net.run(|| std::panic::panic_any(7)));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&7));
        assert!(settles("net", &own));
        // A socket made inside stays there.
        up(&net);
        let listener = net.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let at = listener.local_addr().unwrap();
        assert!(TcpStream::connect(at).is_err());
        assert!(net.run(|| TcpStream::connect(at)).unwrap().is_ok());
        // The same for the other three.
        let uts = UtsNs::create().unwrap();
        let name = uts
            .run(|| {
                // SAFETY: readable for its length.
                unsafe { libc::sethostname(c"other".as_ptr(), 5) };
                std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap()
            })
            .unwrap();
        assert_eq!(name.trim(), "other");
        let ours = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_ne!(ours.trim(), "other");
        let ipc = IpcNs::create().unwrap();
        assert_ne!(ipc.run(|| id(Namespaces::IPC)).unwrap(), id(Namespaces::IPC));
        let cgroup = CgroupNs::create().unwrap();
        assert_ne!(cgroup.run(|| id(Namespaces::CGROUP)).unwrap(), id(Namespaces::CGROUP));
    });
}

/// Brings its loopback up.
fn up(net: &NetNs) {
    let done = net.run(|| {
        let mut request = [0u8; 40];
        request[..2].copy_from_slice(b"lo");
        // SAFETY: an `ifreq`: the name, then the flags; IFF_UP.
        unsafe {
            let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            request[16] = 1;
            let done = libc::ioctl(socket, libc::SIOCSIFFLAGS, request.as_mut_ptr());
            libc::close(socket);
            done
        }
    });
    assert_eq!(done.unwrap(), 0);
}

/// A thread goes alone; what only a whole program may do is refused, with what to do.
#[test]
fn root_a_thread_goes_alone() {
    need!(root);
    let _alone = alone();
    let own: Vec<u64> =
        [Namespaces::UTS, Namespaces::NET, Namespaces::MOUNT].map(id).into_iter().collect();
    let net = NetNs::create().unwrap();
    std::thread::spawn(move || {
        unshare(Namespaces::UTS | Namespaces::MOUNT).unwrap();
        setns(net.as_ns_fd()).unwrap();
        assert_eq!(id(Namespaces::NET), net.as_ns_fd().id().unwrap());
        let other = [Namespaces::UTS, Namespaces::NET, Namespaces::MOUNT].map(id);
        // Those that wait for this one are where they were.
        let main = Pidfd::open(std::process::id()).unwrap();
        let theirs = NsFd::of_process(&main, Namespaces::UTS).unwrap().id().unwrap();
        assert_ne!(other[0], theirs);
    })
    .join()
    .unwrap();
    assert_eq!([Namespaces::UTS, Namespaces::NET, Namespaces::MOUNT].map(id).to_vec(), own);
    let error = unshare(Namespaces::USER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.remedy().unwrap().contains("Spawn"), "{error}");
    let child = paused(Namespaces::USER | Namespaces::MOUNT);
    for kind in [Namespaces::USER, Namespaces::MOUNT] {
        let error = setns(&NsFd::of_process(child.pidfd(), kind).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.remedy().unwrap().contains("Spawn::join"), "{error}");
    }
    end(&child);
    // Of a pid namespace only later children are: this thread has the number it had.
    let child = paused(Namespaces::PID);
    let pids = NsFd::of_process(child.pidfd(), Namespaces::PID).unwrap();
    std::thread::spawn(move || {
        setns(&pids).unwrap();
        assert_ne!(id(Namespaces::PID), pids.id().unwrap());
        let later = std::fs::read_link("/proc/thread-self/ns/pid_for_children").unwrap();
        assert_eq!(later.to_str().unwrap(), format!("pid:[{}]", pids.id().unwrap()));
    })
    .join()
    .unwrap();
    end(&child);
}

#[test]
fn unpriv_what_needs_root_says_so() {
    need!(unprivileged, userns);
    let error = NetNs::create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.remedy().unwrap().contains("Spawn"), "{error}");
    let error = unshare(Namespaces::USER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let child = paused(Namespaces::USER | Namespaces::NET);
    let net = NsFd::of_process(child.pidfd(), Namespaces::NET).unwrap();
    assert_eq!(setns(&net).unwrap_err().kind(), ErrorKind::Denied);
    let pinned = net.pin(TempDir::new().join("net")).unwrap_err();
    assert_eq!(pinned.kind(), ErrorKind::Denied, "{pinned}");
    let error = Spawn::new(payload()).namespaces(Namespaces::NET).arg("true").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    end(&child);
}
