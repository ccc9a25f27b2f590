//! The calling process, before and after.

use std::collections::BTreeMap;
use std::fs;

use crate::proc;

/// What a library must not change about the process that calls it: ids, capabilities, signal
/// dispositions, umask, limits, directory, namespaces, mounts, cgroups, environment, and how
/// many descriptors are open.
///
/// It can be taken by any thread. What is a thread's own is that of the main thread, under the
/// names that `/proc/self/status` uses; [`take_with_thread`](Self::take_with_thread) adds that of
/// the calling one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(BTreeMap<String, String>);

/// The lines of a status file that only the process itself should change.
const STATUS: [&str; 18] = [
    "Umask",
    "TracerPid",
    "Uid",
    "Gid",
    "Groups",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed_list",
    "Mems_allowed_list",
];

/// Signals 32 and 33 are caught by the C library as soon as it has cancelled a thread or
/// changed an id in all of them.
const LIBRARY_SIGNALS: u64 = 0b11 << 31;

impl Caller {
    /// Notes the state of the process.
    pub fn take() -> Self {
        let mut all = BTreeMap::new();
        task("/proc/self", "", &mut all);
        let mut add = |key: &str, value: String| all.insert(key.to_owned(), value);
        for (key, path) in [
            ("mountinfo", "mountinfo"),
            ("cgroup", "cgroup"),
            ("oom_score_adj", "oom_score_adj"),
            ("coredump_filter", "coredump_filter"),
        ] {
            add(key, read(&format!("/proc/self/{path}")));
        }
        for name in ["cwd", "root", "exe"] {
            add(name, link(&format!("/proc/self/{name}")));
        }
        add("fds", proc::fds().len().to_string());
        // SAFETY: all of these take numbers and change nothing.
        let numbers = unsafe {
            [
                ("sid", libc::getsid(0)),
                ("pgid", libc::getpgid(0)),
                ("nice", libc::getpriority(libc::PRIO_PROCESS, std::process::id())),
                ("dumpable", libc::prctl(libc::PR_GET_DUMPABLE)),
                ("subreaper", subreaper()),
            ]
        };
        for (key, value) in numbers {
            add(key, value.to_string());
        }
        let mut environment: Vec<_> = std::env::vars_os().collect();
        environment.sort();
        add("environment", format!("{environment:?}"));
        Self(all)
    }

    /// The same with the state of the calling thread, keys beginning with `thread.`.
    pub fn take_with_thread() -> Self {
        let mut taken = Self::take();
        task("/proc/thread-self", "thread.", &mut taken.0);
        let mut signal: libc::c_int = 0;
        // SAFETY: PR_GET_PDEATHSIG writes an int.
        unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
        taken.0.insert("thread.pdeathsig".to_owned(), signal.to_string());
        taken
    }

    /// One value; `Uid`, `SigBlk`, `limit.Max open files`, `ns.mnt`, `fds`, `cwd` and so on.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// What differs, each as `key: before → after`.
    pub fn diff(before: &Self, after: &Self) -> Vec<String> {
        let keys: std::collections::BTreeSet<_> = before.0.keys().chain(after.0.keys()).collect();
        let show = |value: Option<&str>| value.unwrap_or("nothing").to_owned();
        keys.into_iter()
            .filter(|key| before.get(key) != after.get(key))
            .map(|key| format!("{key}: {} → {}", show(before.get(key)), show(after.get(key))))
            .collect()
    }
}

/// What one task's directory in /proc tells.
fn task(directory: &str, prefix: &str, all: &mut BTreeMap<String, String>) {
    let mut add = |key: &str, value: String| all.insert(format!("{prefix}{key}"), value);
    for line in read(&format!("{directory}/status")).lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        if key == "SigCgt" {
            let caught = u64::from_str_radix(&value, 16).unwrap_or_default();
            add(key, format!("{:016x}", caught & !LIBRARY_SIGNALS));
        } else if STATUS.contains(&key) {
            add(key, value);
        }
    }
    for line in read(&format!("{directory}/limits")).lines().skip(1) {
        // Columns of fixed width.
        let (name, values) = line.split_at_checked(26).unwrap_or((line, ""));
        let values = values.split_whitespace().collect::<Vec<_>>().join(" ");
        add(&format!("limit.{}", name.trim()), values);
    }
    for name in proc::names(format!("{directory}/ns")) {
        add(&format!("ns.{name}"), link(&format!("{directory}/ns/{name}")));
    }
    for name in ["comm", "personality", "timerslack_ns", "attr/current"] {
        add(name, read(&format!("{directory}/{name}")));
    }
}

fn read(path: &str) -> String {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

fn link(path: &str) -> String {
    fs::read_link(path).unwrap_or_default().display().to_string()
}

fn subreaper() -> i32 {
    let mut is: libc::c_int = 0;
    // SAFETY: PR_GET_CHILD_SUBREAPER writes an int.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is) };
    is
}
