//! Starts in the middle of a storm: a host program whose threads allocate, print, change the
//! environment and take signals without end, and find nothing changed about them.
//!
//! A binary of its own, so that nothing runs beside it, with an allocator that notices when
//! a child that shares the memory uses it.

#[path = "process/common.rs"]
mod common;

use common::{bare, confined, play, plays};
use ireko::capabilities::CapSet;
use ireko::namespaces::{IdMaps, Namespaces};
use ireko::{Builder, Container, Plan, Stdio};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::{Caller, alone, need, payload, within};

/// The process that this memory belongs to; 0: it is not known yet.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// How often another process used our allocator: it shared our memory then.
static FOREIGN_USES: AtomicUsize = AtomicUsize::new(0);
/// How often a handler of ours ran, and how often in another process.
static SIGNALS: AtomicUsize = AtomicUsize::new(0);
static FOREIGN_SIGNALS: AtomicUsize = AtomicUsize::new(0);

struct Watched;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn getpid() -> i32 {
    // The raw call: what the C library remembers would be the caller's.
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

fn note(counter: &AtomicUsize) {
    let owner = OWNER.load(Ordering::Relaxed);
    if owner != 0 && owner != getpid() {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator, looked at.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(&FOREIGN_USES);
        // SAFETY: as promised to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(&FOREIGN_USES);
        // SAFETY: as promised to us.
        unsafe { System.dealloc(place, layout) }
    }
}

extern "C" fn arrived(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
    note(&FOREIGN_SIGNALS);
}

static OVER: AtomicBool = AtomicBool::new(false);

/// The host program: eight threads of noise.
fn noise() -> Vec<std::thread::JoinHandle<()>> {
    // SAFETY: a handler that only counts.
    unsafe {
        for signal in [libc::SIGUSR1, libc::SIGWINCH] {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = arrived as extern "C" fn(libc::c_int) as usize;
            // Else the kernel itself would block the signal while its handler runs.
            action.sa_flags = libc::SA_RESTART | libc::SA_NODEFER;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
    (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut kept: Vec<Vec<u8>> = Vec::new();
                let mut turn = 0usize;
                while !OVER.load(Ordering::Relaxed) {
                    turn += 1;
                    // Locks of the allocator, of streams, of the environment.
                    kept.push(vec![n as u8; (turn * 37) % 5000 + 1]);
                    if kept.len() > 40 {
                        kept.clear();
                    }
                    let _ = writeln!(std::io::stdout(), "noise {n} {turn}");
                    let _ = std::env::var_os("HOME").map(|home| home.len());
                    // SAFETY: numbers. SIGWINCH goes to the whole process group, which is
                    // ours and our children's: who has no handler for it is not bothered.
                    unsafe {
                        match n % 4 {
                            0 => libc::kill(OWNER.load(Ordering::Relaxed), libc::SIGUSR1),
                            1 => libc::kill(0, libc::SIGWINCH),
                            _ => libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1),
                        };
                        libc::free(libc::malloc(turn % 3000 + 1));
                    }
                    // The others want to run as well.
                    std::thread::sleep(Duration::from_micros(500));
                }
            })
        })
        .collect()
}

/// The kinds of start, each with what is set in the child alone.
fn kinds() -> Vec<(&'static str, Builder)> {
    let six = Namespaces::all() - Namespaces::USER - Namespaces::TIME;
    vec![
        ("bare", bare(["true"])),
        ("bare, settings", bare(["true"]).umask(0o77).nice(1).current_dir("/").env_clear()),
        ("six namespaces", bare(["true"]).unshare(six)),
        ("a user", bare(["true"]).user(1000)),
        ("no capabilities", bare(["true"]).user((1000, 1000)).capabilities(CapSet::EMPTY)),
        ("a user namespace", bare(["true"]).id_maps(IdMaps::range(400_000..465_536))),
        ("confined", confined(["true"]).oom_score_adj(500).umask(0o27).nice(2)),
        ("confined, a user", confined(["true"]).user(1000).current_dir("/usr")),
        (
            "confined, limits",
            confined(["true"]).pids_limit(10).rlimit(ireko::Resource::Nofile, 50, 60),
        ),
        ("no program", Container::bare().command("/not/there")),
        ("no set-up", confined(["true"]).current_dir("/not/there")),
    ]
}

fn plans() -> Vec<(&'static str, Plan)> {
    let plan = |(name, builder): (_, Builder)| {
        let quiet = builder.stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null);
        (name, quiet.plan().unwrap())
    };
    kinds().into_iter().map(plan).collect()
}

fn run(name: &str, plan: &Plan) {
    match plan.spawn().and_then(|container| container.wait()) {
        Ok(status) => assert!(status.success(), "{name}: {status}"),
        Err(error) => {
            assert!(name.starts_with("no "), "{name}: {error}");
            assert_eq!(error.errno(), Some(ireko::Errno::ENOENT), "{name}: {error}");
        }
    }
}

/// Runs so many starts in so many threads, and looks at the caller meanwhile: what differs
/// from how it was.
fn storm(spawns: usize, threads: usize) {
    OWNER.store(getpid(), Ordering::Relaxed);
    let plans = plans();
    let noise = noise();
    // What is kept for the next start is made by the first: as many starters as threads.
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| plans.iter().for_each(|(name, plan)| run(name, plan)));
        }
    });
    let before = Caller::take();
    let maps_owner = owner("/proc/self/maps");
    static DONE: AtomicBool = AtomicBool::new(false);
    static SAMPLES: AtomicU64 = AtomicU64::new(0);
    let at_first = before.clone();
    let sampler = std::thread::spawn(move || {
        let mut differs = std::collections::BTreeSet::new();
        while !DONE.load(Ordering::Relaxed) {
            let now = Caller::take();
            // Files are open for a start while it is in progress.
            let all = Caller::diff(&at_first, &now).into_iter();
            differs.extend(all.filter(|line| !line.starts_with("fds:")));
            // What is too short for all of that.
            for _ in 0..200 {
                // SAFETY: numbers; nothing is changed.
                if unsafe { libc::prctl(libc::PR_GET_DUMPABLE) } != 1 {
                    differs.insert("dumpable in between".into());
                }
            }
            if owner("/proc/self/maps") != maps_owner {
                differs.insert("the owner of /proc/self/maps".into());
            }
            SAMPLES.fetch_add(1, Ordering::Relaxed);
        }
        differs
    });
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Each thread has its own state, which is nobody's to change either.
                let own = Caller::take_with_thread();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    // And as long as it takes to be looked at often enough.
                    let seen = SAMPLES.load(Ordering::Relaxed) > 100
                        && SIGNALS.load(Ordering::Relaxed) > 1000;
                    if n >= spawns && seen {
                        break;
                    }
                    let (name, plan) = &plans[n % plans.len()];
                    run(name, plan);
                }
                let differs = Caller::diff(&own, &Caller::take_with_thread());
                let of_thread: Vec<_> =
                    differs.iter().filter(|d| d.starts_with("thread.")).collect();
                assert!(of_thread.is_empty(), "{of_thread:#?}");
            });
        }
    });
    DONE.store(true, Ordering::Relaxed);
    let during = sampler.join().unwrap();
    assert!(during.is_empty(), "during: {during:#?}");
    assert!(SAMPLES.load(Ordering::Relaxed) > 100, "{SAMPLES:?}");
    let after = Caller::take();
    assert_eq!(Caller::diff(&before, &after), [""; 0], "after");
    OVER.store(true, Ordering::Relaxed);
    noise.into_iter().for_each(|thread| thread.join().unwrap());
    // The storm was one, and it stayed in this process.
    assert!(SIGNALS.load(Ordering::Relaxed) > 1000, "{SIGNALS:?}");
    assert_eq!(FOREIGN_SIGNALS.load(Ordering::Relaxed), 0);
    assert_eq!(FOREIGN_USES.load(Ordering::Relaxed), 0);
}

fn owner(path: &str) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or((u32::MAX, 0), |meta| (meta.uid(), meta.gid()))
}

/// Plays it in a process group of its own, whose output nobody reads.
fn in_its_own_group(mut command: std::process::Command) {
    use std::os::unix::process::CommandExt;
    let _alone = alone();
    payload();
    command.process_group(0);
    let began = Instant::now();
    within(Duration::from_secs(100), move || play(command));
    eprintln!("{:?}", began.elapsed());
}

#[test]
fn root_caller_is_untouched_in_a_storm() {
    need!(root, cgroup);
    if plays("storm") {
        return storm(2000, 4);
    }
    in_its_own_group(again!("storm"));
}

#[test]
fn root_p1_p2_p3_nothing_of_ours_runs_in_a_child_that_shares_our_memory() {
    need!(root, cgroup);
    if plays("storm") {
        return storm(330, 8);
    }
    in_its_own_group(again!("storm"));
}

#[test]
fn root_p3b_the_caller_stays_dumpable() {
    need!(root, cgroup);
    if !plays("dumpable") {
        return in_its_own_group(again!("dumpable"));
    }
    let owned = owner("/proc/self/maps");
    let plans = plans();
    let users: Vec<_> = plans.iter().filter(|(name, _)| name.contains("user")).collect();
    assert_eq!(users.len(), 3);
    for n in 0..1000 {
        let (name, plan) = users[n % users.len()];
        run(name, plan);
        // SAFETY: a number; nothing is changed.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 1, "{name} {n}");
    }
    assert_eq!(owner("/proc/self/maps"), owned);
}

#[test]
fn root_p7_sixteen_threads_change_nothing_of_the_caller() {
    need!(root, cgroup);
    if !plays("sixteen") {
        return in_its_own_group(again!("sixteen"));
    }
    let plans = plans();
    let all = || {
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let plans = &plans;
                scope.spawn(move || {
                    for n in 0..33 {
                        let (name, plan) = &plans[(thread + n) % plans.len()];
                        run(name, plan);
                    }
                });
            }
        });
    };
    all();
    let before = Caller::take_with_thread();
    all();
    assert_eq!(Caller::diff(&before, &Caller::take_with_thread()), [""; 0]);
}
