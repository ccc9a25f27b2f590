//! What a process can say about itself. By calls rather than from /proc where there is one,
//! so that it works without /proc; `?` stands for what cannot be learned.

use std::ffi::{c_int, c_uint, c_ulong};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use crate::{say, sys, text};

/// The whole report, in one write where the kernel lets it.
pub(crate) fn report() -> c_int {
    // Before anything is opened.
    let fds = fds();
    let mut out = String::new();
    identity(&mut out);
    processes(&mut out);
    names(&mut out);
    out += &caps();
    modes(&mut out);
    signals(&mut out);
    limits(&mut out);
    out += &fds;
    from_proc(&mut out);
    out += &mounts();
    words(&mut out);
    say(out.trim_end())
}

fn line(out: &mut String, key: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{key}={value}");
}

fn or_unknown<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

fn identity(out: &mut String) {
    let (mut r, mut e, mut s): (c_uint, c_uint, c_uint) = (0, 0, 0);
    // SAFETY: three places to write to.
    let known = unsafe { sys::getresuid(&mut r, &mut e, &mut s) } == 0;
    for (key, id) in [("uid", r), ("euid", e), ("suid", s)] {
        line(out, key, or_unknown(known.then_some(id)));
    }
    // SAFETY: as above.
    let known = unsafe { sys::getresgid(&mut r, &mut e, &mut s) } == 0;
    for (key, id) in [("gid", r), ("egid", e), ("sgid", s)] {
        line(out, key, or_unknown(known.then_some(id)));
    }
    let mut groups = vec![0; 65536];
    // SAFETY: the list has room for as many as the kernel allows.
    let n = unsafe { sys::getgroups(65536, groups.as_mut_ptr()) };
    let list = usize::try_from(n).ok().map(|n| {
        groups.truncate(n);
        groups.sort_unstable();
        groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    });
    line(out, "groups", or_unknown(list));
    let mask = sys::umask(0o077);
    sys::umask(mask);
    line(out, "umask", format_args!("{mask:04o}"));
    for (key, name) in [("uid_map", "uid_map"), ("gid_map", "gid_map"), ("setgroups", "setgroups")]
    {
        match std::fs::read_to_string(format!("/proc/self/{name}")) {
            Ok(all) => all.lines().for_each(|one| {
                line(out, key, one.split_whitespace().collect::<Vec<_>>().join(" "));
            }),
            Err(_) => line(out, key, "?"),
        }
    }
}

fn processes(out: &mut String) {
    line(out, "pid", sys::getpid());
    line(out, "ppid", sys::getppid());
    line(out, "sid", sys::getsid(0));
    line(out, "pgid", sys::getpgid(0));
    line(out, "nice", sys::getpriority(0, 0));
    for name in ["oom_score_adj", "timerslack_ns", "personality", "comm", "attr/current"] {
        let value = std::fs::read(format!("/proc/self/{name}")).ok();
        line(out, name, or_unknown(value.map(|value| text(value.trim_ascii_end()))));
    }
    let threads = std::thread::available_parallelism().ok();
    line(out, "cpus", or_unknown(threads));
    line(out, "dumpable", sys::control(3, 0, 0));
    let mut signal: c_int = -1;
    // SAFETY: PR_GET_PDEATHSIG writes an int.
    unsafe { sys::prctl(2, &raw mut signal) };
    line(out, "pdeathsig", signal);
}

fn names(out: &mut String) {
    let mut uts = sys::Utsname { fields: [[0; 65]; 6] };
    // SAFETY: the structure is the C library's: six fields of 65 bytes.
    let known = unsafe { sys::uname(&mut uts) } == 0;
    for (key, index) in [("hostname", 1), ("domainname", 5), ("release", 2)] {
        let field = uts.fields[index].split(|b| *b == 0).next().unwrap_or_default();
        line(out, key, or_unknown(known.then(|| text(field))));
    }
    let cwd = std::env::current_dir().ok();
    line(out, "cwd", or_unknown(cwd.map(|path| text(path.as_os_str().as_bytes()))));
    for name in ["exe", "root"] {
        let target = std::fs::read_link(format!("/proc/self/{name}")).ok();
        line(out, name, or_unknown(target.map(|path| text(path.as_os_str().as_bytes()))));
    }
    line(out, "lo", loopback());
}

/// Whether the loopback interface is up.
fn loopback() -> &'static str {
    // AF_INET, SOCK_DGRAM | SOCK_CLOEXEC
    // SAFETY: three numbers.
    let fd = unsafe { sys::socket(2, 0o2_000_002, 0) };
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    // SIOCGIFFLAGS
    // SAFETY: `ifreq` has 40 bytes, the name first.
    let known = fd >= 0 && unsafe { sys::ioctl(fd, 0x8913, request.as_mut_ptr()) } == 0;
    if fd >= 0 {
        // SAFETY: made above, used nowhere else.
        drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
    }
    match (known, request[16] & 1) {
        (true, 1) => "up",
        (true, _) => "down",
        (false, _) => "?",
    }
}

/// The five sets, as in /proc/self/status.
pub(crate) fn caps() -> String {
    let mut out = String::new();
    let mut header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 writes two structures of three words.
    let known = unsafe { sys::capget(&mut header, &mut data) } == 0;
    let set = |index: usize| u64::from(data[index]) | u64::from(data[index + 3]) << 32;
    for (key, index) in [("CapInh", 2), ("CapPrm", 1), ("CapEff", 0)] {
        let value = known.then(|| format!("{:016x}", set(index)));
        line(&mut out, key, or_unknown(value));
    }
    // PR_CAPBSET_READ, PR_CAP_AMBIENT with PR_CAP_AMBIENT_IS_SET
    let bounding = mask(0..64, |cap| sys::control(23, cap, 0) == 1);
    let ambient = mask(0..64, |cap| sys::control(47, 1, cap) == 1);
    line(&mut out, "CapBnd", format_args!("{bounding:016x}"));
    line(&mut out, "CapAmb", format_args!("{ambient:016x}"));
    out
}

fn mask(range: std::ops::Range<c_ulong>, is_in: impl Fn(c_ulong) -> bool) -> u64 {
    range.filter(|n| is_in(*n)).fold(0, |all, n| all | 1 << n)
}

fn modes(out: &mut String) {
    let known = |value: c_int| or_unknown((value >= 0).then_some(value));
    line(out, "NoNewPrivs", known(sys::control(39, 0, 0)));
    line(out, "Seccomp", known(sys::control(21, 0, 0)));
    line(out, "securebits", known(sys::control(27, 0, 0)));
    line(out, "subreaper", {
        let mut is: c_int = -1;
        // SAFETY: PR_GET_CHILD_SUBREAPER writes an int.
        unsafe { sys::prctl(37, &raw mut is) };
        known(is)
    });
}

fn signals(out: &mut String) {
    let mut blocked = [0u64; 16];
    // SAFETY: with no new set the old one is written: 128 bytes.
    let known = unsafe { sys::sigprocmask(0, std::ptr::null(), &mut blocked) } == 0;
    line(out, "SigBlk", or_unknown(known.then(|| format!("{:016x}", blocked[0]))));
    // The C library's own call hides the two signals that it keeps for itself.
    let disposition = |signal: c_ulong| {
        let mut old = [0u64; 8];
        let none = std::ptr::null::<u8>();
        // SAFETY: with no new action the old one is written, four words, the handler first.
        let result =
            unsafe { sys::syscall(sys::RT_SIGACTION, signal, none, old.as_mut_ptr(), 8usize) };
        if result == 0 { old[0] } else { 0 }
    };
    let ignored = mask(0..64, |n| disposition(n + 1) == sys::IGNORE as u64);
    let caught = mask(0..64, |n| disposition(n + 1) > sys::IGNORE as u64);
    line(out, "SigIgn", format_args!("{ignored:016x}"));
    line(out, "SigCgt", format_args!("{caught:016x}"));
}

fn limits(out: &mut String) {
    let all = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    for (number, name) in all.into_iter().enumerate() {
        let mut limit = sys::Limit::default();
        // SAFETY: a place for two numbers.
        let known = unsafe { sys::getrlimit(number as c_uint, &mut limit) } == 0;
        let show = |n: c_ulong| if n == c_ulong::MAX { "unlimited".into() } else { n.to_string() };
        let value = known.then(|| format!("{}:{}", show(limit.soft), show(limit.hard)));
        line(out, &format!("rlimit.{name}"), or_unknown(value));
    }
}

/// `fd=N target`, without the one it takes to look.
pub(crate) fn fds() -> String {
    let mut out = String::new();
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let mut all: Vec<(u32, String)> = entries
            .flatten()
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.parse().ok()?;
                let target = std::fs::read_link(entry.path()).ok()?;
                Some((number, text(target.as_os_str().as_bytes())))
            })
            .collect();
        all.sort();
        let own = format!("/proc/{}/fd", sys::getpid());
        // Its target is by the pid in that procfs, which may be another namespace's.
        let looks = |target: &str| {
            target == own
                || target.strip_prefix("/proc/").and_then(|t| t.strip_suffix("/fd")).is_some()
        };
        let last = all.iter().rposition(|(_, target)| looks(target));
        for (index, (number, target)) in all.iter().enumerate() {
            if Some(index) != last {
                line(&mut out, "fd", format_args!("{number} {target}"));
            }
        }
    } else {
        for number in 0..4096 {
            if sys::is_open(number) {
                line(&mut out, "fd", format_args!("{number} ?"));
            }
        }
    }
    out
}

fn from_proc(out: &mut String) {
    for name in [
        "cgroup",
        "ipc",
        "mnt",
        "net",
        "pid",
        "pid_for_children",
        "time",
        "time_for_children",
        "user",
        "uts",
    ] {
        let target = std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
        let target = target.map(|path| text(path.as_os_str().as_bytes()));
        line(out, &format!("ns.{name}"), or_unknown(target));
    }
    match std::fs::read("/proc/self/cgroup") {
        Ok(all) => each_line(out, "cgroup", &all),
        Err(_) => line(out, "cgroup", "?"),
    }
}

/// `mount=` and a line of mountinfo.
pub(crate) fn mounts() -> String {
    let mut out = String::new();
    match std::fs::read("/proc/self/mountinfo") {
        Ok(all) => each_line(&mut out, "mount", &all),
        Err(_) => line(&mut out, "mount", "?"),
    }
    out
}

fn each_line(out: &mut String, key: &str, all: &[u8]) {
    for one in all.split(|b| *b == b'\n').filter(|one| !one.is_empty()) {
        line(out, key, text(one));
    }
}

fn words(out: &mut String) {
    for (index, word) in std::env::args_os().enumerate() {
        line(out, &format!("argv.{index}"), text(word.as_bytes()));
    }
    let mut all: Vec<_> = std::env::vars_os().collect();
    all.sort();
    for (name, value) in all {
        line(out, &format!("env.{}", text(name.as_bytes())), text(value.as_bytes()));
    }
}
