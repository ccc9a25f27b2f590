//! Verbs about processes, time, memory and signals.

use std::ffi::{CString, OsString, c_int};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Args, arg, check, count, errno, int, number, outcome, refused, run, say, sys, usage};

/// Runs the verb when it is one of these.
pub(crate) fn verb(verb: &str, args: Args) -> Option<c_int> {
    Some(match verb {
        "exit" => sys::_exit(int(args, 0)),
        "kill" => kill(args),
        // Not through a bad pointer, which the compiler may do anything with.
        "segv" => outcome(check(sys::kill(sys::getpid(), signal("SEGV"))).map(|_| "")),
        "abort" => sys::abort(),
        "sleep" => sleep_and(0, seconds(args, 0)),
        "pause" => loop {
            sys::pause();
        },
        "spin" => spin(seconds(args, 0), if args.len() > 1 { count(args, 1) } else { 1 }),
        "as" => change_to(args),
        "exec" => exec(args),
        "memhog" => memhog(args),
        "oomchild" => oomchild(count(args, 0)),
        "forkbomb" => forkbomb(count(args, 0)),
        "threads" => threads(count(args, 0)),
        "thread-create" => outcome(one_thread()),
        "nofile" => nofile(count(args, 0)),
        "tree" => tree(args),
        "orphans" => orphans(count(args, 0)),
        "daemon" => daemon(seconds(args, 0)),
        "signal-wait" => signal_wait(signal_at(args, 0)),
        "ignore-term" => {
            set_handler(sys::SIGTERM, sys::IGNORE);
            say("ready");
            sleep_and(0, seconds(args, 0))
        }
        "getppid-loop" => getppid_loop(args),
        "clock" => clock(),
        _ => return None,
    })
}

fn seconds(args: Args, index: usize) -> Duration {
    let word = arg(args, index).to_str().and_then(|word| word.parse().ok());
    let time = word.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.unwrap_or_else(|| usage("not a number of seconds"))
}

fn sleep_and(status: c_int, time: Duration) -> c_int {
    sleep(time);
    status
}

fn signal_at(args: Args, index: usize) -> c_int {
    let word = arg(args, index).to_str().unwrap_or_default();
    word.parse().unwrap_or_else(|_| signal(word))
}

fn signal(name: &str) -> c_int {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = name.strip_prefix("SIG").unwrap_or(name);
    match NAMES.iter().position(|one| *one == name) {
        Some(index) => index as c_int + 1,
        None => usage(format!("no signal {name:?}")),
    }
}

fn kill(args: Args) -> c_int {
    let to = if args.len() > 1 { int(args, 1) } else { sys::getpid() };
    outcome(check(sys::kill(to, signal_at(args, 0))).map(|_| ""))
}

fn spin(time: Duration, threads: usize) -> c_int {
    let until = Instant::now() + time;
    let busy = move || {
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    };
    let others: Vec<_> = (1..threads).map(|_| std::thread::spawn(busy)).collect();
    busy();
    others.into_iter().for_each(|other| drop(other.join()));
    0
}

fn change_to(args: Args) -> c_int {
    let (uid, gid) = (number(args, 0) as u32, number(args, 1) as u32);
    // SAFETY: an empty list.
    let groups = unsafe { sys::setgroups(0, std::ptr::null()) };
    let result = check(groups)
        .and_then(|_| check(sys::setresgid(gid, gid, gid)))
        .and_then(|_| check(sys::setresuid(uid, uid, uid)));
    match result {
        Ok(_) => run(args.get(2..).unwrap_or_default()),
        Err(_) => outcome(result),
    }
}

fn exec(args: Args) -> c_int {
    let c = |word: &OsString| CString::new(word.as_bytes()).unwrap_or_default();
    let path = c(arg(args, 0));
    let words: Vec<CString> = args[1..].iter().map(c).collect();
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: strings that end in zero, a list that ends in null.
    outcome(check(unsafe { sys::execv(path.as_ptr(), pointers.as_ptr()) }))
}

/// Maps memory and writes to each of its pages.
fn hog(mib: usize) -> std::io::Result<()> {
    let size = mib << 20;
    // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    // SAFETY: a new mapping, at no place in particular.
    let at = unsafe { sys::mmap(std::ptr::null_mut(), size.max(4096), 3, 0x22, -1, 0) };
    if at.addr() == usize::MAX {
        return Err(std::io::Error::last_os_error());
    }
    for offset in (0..size).step_by(4096) {
        // SAFETY: within the mapping, which nothing else knows.
        unsafe { at.cast::<u8>().add(offset).write_volatile((offset >> 12) as u8 | 1) };
    }
    Ok(())
}

fn memhog(args: Args) -> c_int {
    let mib = count(args, 0);
    match hog(mib) {
        Ok(()) => say(format_args!("touched {mib}")),
        Err(error) => return refused(&error),
    };
    sleep_and(0, if args.len() > 1 { seconds(args, 1) } else { Duration::ZERO })
}

/// Waits for a child and says how it ended.
fn ended(child: c_int) -> String {
    let mut status = 0;
    // SAFETY: a place for the status.
    while unsafe { sys::waitpid(child, &mut status, 0) } < 0 {
        if errno::last() != sys::EINTR {
            return format!("unknown {}", errno::last_name());
        }
    }
    match status & 0x7f {
        0 => format!("exit {}", status >> 8 & 0xff),
        signal => format!("signal {signal}"),
    }
}

fn oomchild(mib: usize) -> c_int {
    match sys::fork() {
        0 => sys::_exit(if hog(mib).is_ok() { 0 } else { 1 }),
        child if child > 0 => say(format_args!("child={}", ended(child))),
        _ => refused(&std::io::Error::last_os_error()),
    }
}

/// How many of `n` attempts worked, and the error of the first that did not.
fn tally(key: &str, n: usize, mut attempt: impl FnMut() -> bool) {
    let worked = (0..n).take_while(|_| attempt()).count();
    let error = if worked < n { errno::last_name() } else { "none" };
    say(format_args!("{key}={worked}\nerrno={error}"));
}

fn forkbomb(n: usize) -> c_int {
    let mut children = Vec::with_capacity(n);
    tally("forked", n, || match sys::fork() {
        0 => loop {
            sys::pause();
        },
        child => {
            children.extend((child > 0).then_some(child));
            child > 0
        }
    });
    for child in &children {
        sys::kill(*child, sys::SIGKILL);
    }
    children.into_iter().for_each(|child| drop(ended(child)));
    0
}

fn threads(n: usize) -> c_int {
    tally("started", n, || {
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(std::thread::park);
        thread.is_ok()
    });
    0
}

fn one_thread() -> std::io::Result<&'static str> {
    let thread = std::thread::Builder::new().spawn(|| 7)?;
    match thread.join() {
        Ok(7) => Ok(""),
        _ => Err(std::io::Error::other("the thread did not end well")),
    }
}

fn nofile(n: usize) -> c_int {
    let mut files = Vec::with_capacity(n);
    tally("opened", n, || File::open("/").map(|file| files.push(file)).is_ok());
    0
}

fn tree(args: Args) -> c_int {
    let (depth, width, time) = (count(args, 0), count(args, 1), seconds(args, 2));
    let total = (1..=depth).fold(1, |below, _| 1 + width * below);
    if grow(depth, width) {
        say(format_args!("tree={total}"));
    }
    sleep_and(0, time)
}

/// Forks the levels below; true in the root of the tree.
fn grow(depth: usize, width: usize) -> bool {
    for _ in 0..if depth > 0 { width } else { 0 } {
        if sys::fork() == 0 {
            grow(depth - 1, width);
            return false;
        }
    }
    true
}

fn orphans(n: usize) -> c_int {
    for _ in 0..n {
        match sys::fork() {
            0 => {
                if sys::fork() == 0 {
                    sleep(Duration::from_millis(20));
                }
                sys::_exit(0)
            }
            child => drop(ended(child)),
        }
    }
    sleep(Duration::from_millis(300));
    let zombies = std::fs::read_dir("/proc").map(|all| {
        let stats = all.flatten().filter_map(|entry| std::fs::read(entry.path().join("stat")).ok());
        let state =
            |stat: &[u8]| stat.rsplit(|b| *b == b')').next().map(|rest| rest.get(1) == Some(&b'Z'));
        stats.filter(|stat| state(stat) == Some(true)).count().to_string()
    });
    say(format_args!("zombies={}", zombies.unwrap_or_else(|_| "?".into())))
}

fn daemon(time: Duration) -> c_int {
    let Ok((ours, theirs)) = UnixDatagram::pair() else {
        return refused(&std::io::Error::last_os_error());
    };
    match sys::fork() {
        0 => {
            sys::setsid();
            if sys::fork() == 0 {
                let _ = theirs.send(&sys::getpid().to_ne_bytes());
                drop((ours, theirs));
                sleep(time);
            }
            sys::_exit(0)
        }
        child => {
            ended(child);
            let mut pid = [0; 4];
            let _ = ours.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = ours.recv(&mut pid);
            say(format_args!("daemon={}", i32::from_ne_bytes(pid)))
        }
    }
}

fn set_handler(signal: c_int, handler: usize) {
    // SAFETY: the handler is SIG_IGN or `arrived`, which may run at any moment.
    unsafe { sys::signal(signal, handler) };
}

extern "C" fn arrived(_: c_int) {
    sys::_exit(42)
}

fn signal_wait(signal: c_int) -> c_int {
    set_handler(signal, arrived as extern "C" fn(c_int) as usize);
    say("ready");
    loop {
        sys::pause();
    }
}

fn getppid_loop(args: Args) -> c_int {
    let end = (!args.is_empty()).then(|| Instant::now() + seconds(args, 0));
    let mut last = -1;
    while end.is_none_or(|end| Instant::now() < end) {
        let now = sys::getppid();
        if now != last {
            say(format_args!("ppid={now}"));
            last = now;
        }
        sleep(Duration::from_millis(5));
    }
    0
}

fn clock() -> c_int {
    for (name, clock) in [("monotonic", 1), ("boottime", 7), ("realtime", 0)] {
        let mut time = sys::Timespec::default();
        // SAFETY: a place for the time.
        match check(unsafe { sys::clock_gettime(clock, &mut time) }) {
            Ok(_) => {
                let ns = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
                say(format_args!("{name}={ns}"))
            }
            Err(_) => say(format_args!("{name}=?")),
        };
    }
    0
}
