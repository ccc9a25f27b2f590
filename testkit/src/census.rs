//! What there is, so that what is left can be told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{proc, tempdir};

/// A list of what a container could leave behind: descriptors, threads, children and zombies of
/// this process; processes, mounts, cgroups, namespaces, interfaces, System V objects and files
/// of the machine.
///
/// A test that compares two has to run [`alone`](crate::alone).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    all: BTreeSet<String>,
    left_out: BTreeSet<String>,
}

impl Census {
    /// Looks around.
    pub fn take() -> Self {
        let mut all = BTreeSet::new();
        let mut add = |kind: &str, names: Vec<String>| {
            all.extend(names.into_iter().map(|name| format!("{kind}: {name}")));
        };
        let own = std::process::id();
        add("fd", proc::fds().into_iter().map(|(fd, target)| format!("{fd} {target}")).collect());
        let threads = proc::threads(own).into_iter();
        add("thread", threads.map(|(tid, name)| format!("{tid} {name}")).collect());
        let processes = proc::processes();
        let children = processes.iter().filter(|one| one.parent == own);
        // A child that has just become a zombie is not a new one.
        add("child", children.map(|one| format!("{} {}", one.pid, one.started)).collect());
        let zombies = processes.iter().filter(|one| one.parent == own && one.state == 'Z');
        add("zombie", zombies.map(|one| format!("{} {}", one.pid, one.comm)).collect());
        add("process", processes.iter().filter(|one| is_ours(one)).map(show).collect());
        add("mount", mounts());
        add("cgroup", cgroups(Path::new("/sys/fs/cgroup")));
        add("namespace", namespaces(&processes));
        add("interface", proc::names("/sys/class/net").into_iter().collect());
        add("ipc", ipc());
        add("file", files());
        Self { all, left_out: BTreeSet::new() }
    }

    /// Looks around until there is nothing more than before, or the time is up: the kernel
    /// takes some things away a little later.
    pub fn settled(before: &Self, limit: Duration) -> Self {
        let end = Instant::now() + limit;
        let kinds: Vec<&str> = before.left_out.iter().map(String::as_str).collect();
        loop {
            let now = Self::take().without(&kinds);
            if Self::diff(before, &now).is_empty() || Instant::now() > end {
                return now;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What has been added, each as `kind: what`.
    pub fn diff(before: &Self, after: &Self) -> Vec<String> {
        after.all.difference(&before.all).cloned().collect()
    }

    /// Those of one kind: `fd`, `thread`, `child`, `zombie`, `process`, `mount`, `cgroup`,
    /// `namespace`, `interface`, `ipc` or `file`.
    pub fn of(&self, kind: &str) -> Vec<&str> {
        let all = self.all.iter().filter_map(|line| line.split_once(": "));
        all.filter(|(one, _)| *one == kind).map(|(_, what)| what).collect()
    }

    /// Without some kinds, which [`settled`](Self::settled) then leaves out too.
    #[must_use]
    pub fn without(mut self, kinds: &[&str]) -> Self {
        self.left_out.extend(kinds.iter().map(|kind| (*kind).to_owned()));
        let left_out = |line: &str| self.left_out.contains(line.split(": ").next().unwrap_or(""));
        self.all.retain(|line| !left_out(line));
        self
    }
}

/// Whether a process is the helper or the payload, by its name or its executable.
fn is_ours(one: &proc::Process) -> bool {
    let is = |name: &str| {
        name == "payload" || name.starts_with("ireko-") || name.starts_with("memfd:ireko-")
    };
    let exe = fs::read_link(format!("/proc/{}/exe", one.pid)).unwrap_or_default();
    let exe = exe.file_name().unwrap_or_default().to_string_lossy();
    // A test's own executable begins so as well.
    one.pid != std::process::id() && (is(&one.comm) || is(&exe))
}

fn show(one: &proc::Process) -> String {
    format!("{} {} started {}", one.pid, one.comm, one.started)
}

fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().map(str::to_owned).collect()
}

fn cgroups(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with("ireko-") {
            found.push(path.display().to_string());
        }
        found.extend(cgroups(&path));
    }
    found
}

/// Those that some process is in.
fn namespaces(processes: &[proc::Process]) -> Vec<String> {
    let links = |pid: u32| {
        let directory = PathBuf::from(format!("/proc/{pid}/ns"));
        let names = proc::names(&directory).into_iter();
        names.filter_map(move |name| fs::read_link(directory.join(name)).ok())
    };
    let all: BTreeSet<PathBuf> = processes.iter().flat_map(|one| links(one.pid)).collect();
    all.into_iter().map(|one| one.display().to_string()).collect()
}

/// Keys and numbers of System V objects.
fn ipc() -> Vec<String> {
    let mut all = Vec::new();
    for kind in ["shm", "sem", "msg"] {
        let table = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let id: Vec<_> = line.split_whitespace().take(2).collect();
            all.push(format!("{kind} {}", id.join(" ")));
        }
    }
    all
}

fn files() -> Vec<String> {
    let mut all = Vec::new();
    for root in ["/run/ireko", "/var/lib/ireko", "/dev/shm", "/dev/mqueue"] {
        walk(Path::new(root), &mut all);
    }
    for variable in ["XDG_RUNTIME_DIR", "XDG_DATA_HOME"] {
        if let Some(base) = std::env::var_os(variable) {
            walk(&Path::new(&base).join("ireko"), &mut all);
        }
    }
    let temporary = std::env::temp_dir();
    let ours = proc::names(&temporary).into_iter().filter(|name| name.starts_with("ireko-"));
    // Those of other tests' processes come and go.
    let own = format!("{}{}-", tempdir::PREFIX, std::process::id());
    let ours = ours.filter(|name| !name.starts_with(tempdir::PREFIX) || name.starts_with(&own));
    all.extend(ours.map(|name| temporary.join(name).display().to_string()));
    all
}

fn walk(directory: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        all.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), all);
        }
    }
}
