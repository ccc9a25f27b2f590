//! Other tools, asked for as much of the same as their options go.

use ireko::capabilities::CapSet;
use ireko::seccomp::{Action, Arch, Profile};
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// A program of this name that works.
pub(crate) fn find(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(more).map(|dir| dir.join(name));
    places.find(|path| path.is_file()).map(|path| path.to_string_lossy().into_owned())
}

/// Runs it; an error when it fails.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

pub(crate) struct Peer {
    name: String,
    program: String,
    root: PathBuf,
    /// Of an OCI runtime.
    bundle: PathBuf,
    /// The Standard profile, as bubblewrap reads it.
    filter: PathBuf,
}

impl Peer {
    pub(crate) fn new(root: &Path, words: &[String]) -> Option<Self> {
        let [name, program, bundle @ ..] = words else { return None };
        let beside = root.parent().unwrap_or(root);
        let filter = beside.join("filter");
        if name == "bwrap" {
            let program = Profile::standard().compile(Arch::Native).ok()?;
            let bytes: Vec<u8> = program.as_slice().iter().flat_map(|i| i.to_bytes()).collect();
            fs::write(&filter, bytes).ok()?;
        }
        let bundle = bundle.first().map(PathBuf::from).unwrap_or_default();
        let (name, program) = (name.clone(), program.clone());
        Some(Self { name, program, root: root.to_owned(), bundle, filter })
    }

    pub(crate) fn command(&self) -> Result<Command, String> {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        if self.name == "bwrap" {
            let filter = File::open(&self.filter).map_err(|error| error.to_string())?;
            command
                .args(["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"])
                .args(["--unshare-cgroup", "--die-with-parent", "--new-session"])
                .arg("--ro-bind")
                .args([self.root.as_path(), Path::new("/")])
                .args(["--proc", "/proc", "--dev", "/dev", "--mqueue", "/dev/mqueue"])
                .args(["--cap-drop", "ALL"]);
            for cap in CapSet::STANDARD.to_string().split(',') {
                command.args(["--cap-add", cap]);
            }
            command.args(["--seccomp", "0", "/bin/true"]).stdin(filter);
            return Ok(command);
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("ireko-bench-{}-{next}", std::process::id());
        let state = self.bundle.join(&self.name);
        command.arg("--root").arg(state).args(["run", "--bundle"]).arg(&self.bundle).arg(id);
        Ok(command)
    }
}

/// crun refuses hosts whose hybrid v2 tree has any controller, so it is measured where that
/// tree is not to be seen.
pub(crate) fn hide_unified() {
    // SAFETY: this process has one thread; numbers and static texts.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) == 0 {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null());
            libc::umount2(c"/sys/fs/cgroup/unified".as_ptr(), libc::MNT_DETACH);
        }
    }
}

/// What Docker asks its runtime for by default, and limits of memory, cpu and processes.
pub(crate) fn write_bundle(bundle: &Path, root: &Path) -> Result<(), String> {
    let profile = Profile::compat();
    let mut names: Vec<&str> = profile
        .rules()
        .filter(|rule| rule.action() == Action::Allow)
        .map(|rule| rule.syscall())
        .collect();
    names.sort_unstable();
    names.dedup();
    let caps: Vec<String> = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP \
                             SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
        .split_whitespace()
        .map(|name| format!("CAP_{name}"))
        .collect();
    let device = |major: i64, minor: Option<i64>| {
        let mut device = json!({"allow": true, "type": "c", "access": "rwm", "major": major});
        if let Some(minor) = minor {
            device["minor"] = json!(minor);
        }
        device
    };
    let mut devices = vec![json!({"allow": false, "access": "rwm"})];
    devices.extend([3, 5, 7, 8, 9].map(|minor| device(1, Some(minor))));
    devices.extend([0, 1, 2].map(|minor| device(5, Some(minor))));
    devices.push(device(136, None));
    let mount = |to: &str, kind: &str, options: &str| {
        let options: Vec<&str> = options.split(',').collect();
        json!({"destination": to, "type": kind, "source": kind, "options": options})
    };
    // A group for each: one that another has just left may still be busy.
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    let group = format!("/ireko-bench-{}-{name}", std::process::id());
    let namespaces = ["mount", "network", "uts", "pid", "ipc", "cgroup"];
    let namespaces = namespaces.map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "oomScoreAdj": 0,
        },
        "root": {"path": root, "readonly": true},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
            mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
            mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        ],
        "linux": {
            "cgroupsPath": group,
            "resources": {
                "devices": devices,
                "memory": {"limit": 64 << 20},
                "cpu": {"quota": 100_000, "period": 100_000},
                "pids": {"limit": 64},
            },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                "/sys/firmware",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
            },
        },
    });
    let write = || {
        fs::create_dir_all(bundle)?;
        fs::write(bundle.join("config.json"), config.to_string())
    };
    write().map_err(|error: std::io::Error| format!("{}: {error}", bundle.display()))
}
