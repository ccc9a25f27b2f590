//! The helper: what can be seen of it, and where it must run.

use crate::again;
use crate::common::{confined, pids, play, plays, printed, stat, text, values};
use ireko::namespaces::{IdMaps, Namespaces, NetNs, NsFd, Spawn};
use ireko::{Container, Mount, Stdio};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::{TempDir, need, payload};

/// What a child of ours is at one moment.
#[derive(Debug)]
struct Seen {
    exe: String,
    environment: Vec<u8>,
    words: String,
    /// Whether nobody may look into it; `None` where the kernel does not tell.
    hidden: Option<bool>,
    /// In the network that it joins.
    joined: bool,
}

/// Watches the children of this process until it is told to end.
fn watch(over: &AtomicBool, net: &NsFd) -> Vec<Seen> {
    let own = std::process::id();
    let joined = format!("net:[{}]", net.id().unwrap());
    let mut all = Vec::new();
    while !over.load(Ordering::Relaxed) {
        for pid in pids().into_iter().filter(|pid| *pid > own) {
            if stat(pid).is_none_or(|(_, parent)| parent != own) {
                continue;
            }
            let link = |name: &str| {
                let link = std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
                link.display().to_string()
            };
            // Once more and again, while it is there.
            while !over.load(Ordering::Relaxed)
                && std::path::Path::new("/proc").join(pid.to_string()).exists()
            {
                let (before, joined) = (link("exe"), link("ns/net") == joined);
                let hidden = hidden(pid);
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                // An exec in between would mix two programs.
                if before == link("exe") && !before.is_empty() {
                    all.push(Seen {
                        exe: before,
                        environment,
                        words: text(&words),
                        hidden,
                        joined,
                    });
                }
            }
        }
    }
    all
}

/// Whether a process is undumpable, as the kernel says since 6.16.
fn hidden(pid: u32) -> Option<bool> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        rest: [u32; 13],
        coredump_mask: u32,
        more: [u32; 2],
    }
    const COREDUMP: u64 = 1 << 4;
    const REQUEST: libc::c_ulong = 0xC000_FF0B | (size_of::<Info>() as libc::c_ulong) << 16;
    let mut info = Info { mask: COREDUMP, ..Info::default() };
    // SAFETY: a structure of the size that is part of the request; the pidfd is closed below.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        if fd < 0 {
            return None;
        }
        let answer = libc::ioctl(fd, REQUEST, &raw mut info);
        libc::close(fd);
        if answer < 0 || info.mask & COREDUMP == 0 {
            return None;
        }
    }
    // PIDFD_COREDUMP_SKIP, PIDFD_COREDUMP_USER
    match (info.coredump_mask >> 1 & 1, info.coredump_mask >> 2 & 1) {
        (1, _) => Some(true),
        (_, 1) => Some(false),
        _ => None,
    }
}

#[test]
fn root_r7_r8_r18_the_helper_between_worlds() {
    need!(root);
    if plays("watched") {
        between_worlds();
        return;
    }
    let mut command = again!("watched");
    command.env("SECRET", "sesame").env("LD_LIBRARY_PATH", "/tmp");
    play(command);
}

fn between_worlds() {
    static OVER: AtomicBool = AtomicBool::new(false);
    let net: NsFd = NetNs::create().unwrap().into();
    let mut builder =
        confined(["true"]).share(Namespaces::USER).join(&net).env("LD_PRELOAD", "/x.so");
    // Something to do, so that it can be seen.
    for n in 0..40 {
        builder = builder.mount(Mount::tmpfs(format!("/tmp/{n}")));
    }
    let plan = builder.plan().unwrap();
    plan.output().unwrap();
    let watched = net.clone();
    let watch = std::thread::spawn(move || watch(&OVER, &watched));
    for _ in 0..60 {
        assert!(plan.output().unwrap().status.success());
    }
    OVER.store(true, Ordering::Relaxed);
    let seen = watch.join().unwrap();
    let host = std::env::current_exe().unwrap().display().to_string();
    let program = payload().file_name().unwrap().to_string_lossy().into_owned();
    let mut between = 0;
    for one in seen.iter().filter(|one| one.joined) {
        // Never the host's program, which could be written to from there.
        assert_ne!(one.exe, host, "{one:?}");
        if one.exe.ends_with(&program) {
            continue;
        }
        assert!(one.exe.contains("memfd:ireko-helper"), "{one:?}");
        between += 1;
        assert_ne!(one.hidden, Some(false), "{one:?}");
        // It is told nothing of the caller, nor of the program.
        assert_eq!(one.environment, b"", "{one:?}");
        assert_eq!(one.words, "ireko\0", "{one:?}");
    }
    assert!(between > 20, "{between} of {}", seen.len());
    if seen.iter().any(|one| one.hidden.is_some()) {
        assert!(seen.iter().any(|one| one.joined && one.hidden == Some(true)));
        // Who looks sees the difference.
        assert_eq!(hidden(std::process::id()), Some(false));
    }
}

#[test]
fn root_r8_the_helper_cannot_be_changed() {
    need!(root);
    printed(&confined(["true"]));
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let files: Vec<_> = entries
        .filter(|entry| {
            let link = std::fs::read_link(entry.path()).unwrap_or_default();
            link.to_string_lossy().starts_with("/memfd:ireko-helper")
        })
        .collect();
    assert!(!files.is_empty());
    for file in files {
        let number: i32 = file.file_name().to_str().unwrap().parse().unwrap();
        // SAFETY: a number; nothing is changed.
        let seals = unsafe { libc::fcntl(number, libc::F_GET_SEALS) };
        let all = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
        assert_eq!(seals & all, all);
        // Root itself cannot write to it.
        let writer = std::fs::File::options().write(true).open(file.path()).unwrap();
        let error = std::io::Write::write(&mut &writer, b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert!(writer.set_len(0).is_err());
        let byte = *b"x";
        // SAFETY: one byte of this stack.
        let n = unsafe { libc::pwrite(writer.as_raw_fd(), byte.as_ptr().cast(), 1, 0) };
        assert_eq!(n, -1);
    }
}

#[test]
fn unpriv_r18_r21_no_program_of_the_environments() {
    need!(unprivileged, userns);
    if plays("lured") {
        // Whatever comes of it on this host.
        if let Ok(maps) = IdMaps::sub_ids() {
            let _ = confined(["true"]).id_maps(maps).output();
        }
        let maps = IdMaps::caller_as_root();
        printed(&confined(["true"]).id_maps(maps));
        printed(&Container::bare().user_ns().command(payload()).args(["true"]));
        let marker = std::env::var_os("MARKER").unwrap();
        assert!(!std::path::Path::new(&marker).exists());
        return;
    }
    let directory = TempDir::new();
    let marker = directory.join("marker");
    let script = format!("#!/bin/sh\n: >{}\n", marker.display());
    for name in ["newuidmap", "newgidmap", "ireko", "ireko-helper", "helper"] {
        std::fs::write(directory.join(name), &script).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.join(name), mode).unwrap();
    }
    let mut command = again!("lured");
    command.env("PATH", directory.path()).env("MARKER", &marker).current_dir(directory.path());
    play(command);
}

#[test]
fn root_helper_runs_where_memfds_may_not() {
    need!(root, memfd_noexec);
    if plays("inside") {
        without_memfds();
        return;
    }
    // A pid namespace of its own, so that the setting is nobody else's, with its own /proc.
    let command = again!("inside");
    let mut spawn =
        Spawn::new(command.get_program()).namespaces(Namespaces::PID | Namespaces::MOUNT);
    spawn = spawn.mount_proc().args(command.get_args());
    for (key, value) in command.get_envs() {
        spawn = spawn.env(key, value.unwrap_or_default());
    }
    let before = std::fs::read_to_string("/proc/sys/vm/memfd_noexec").unwrap();
    let child = spawn.stdin(Stdio::Null).stdout(Stdio::Piped).stderr(Stdio::Piped).spawn().unwrap();
    let (mut out, mut err) = (child.take_stdout().unwrap(), child.take_stderr().unwrap());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut out, &mut said).unwrap();
    std::io::Read::read_to_string(&mut err, &mut said).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() && said.contains("1 passed"), "{status}\n{said}");
    assert_eq!(std::fs::read_to_string("/proc/sys/vm/memfd_noexec").unwrap(), before);
}

fn without_memfds() {
    assert_eq!(std::process::id(), 1);
    let files = |what: &str| {
        let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().contains(what)).count()
    };
    std::fs::write("/proc/sys/vm/memfd_noexec", "2").unwrap();
    // SAFETY: a string that ends in zero, and flags: MFD_CLOEXEC | MFD_EXEC.
    let refused = unsafe { libc::memfd_create(c"x".as_ptr(), 0x11) };
    assert_eq!(refused, -1);
    let builders = || {
        [
            confined(["echo", "well"]),
            confined(["echo", "well"]).share(Namespaces::USER),
            Container::bare().user((1000, 1000)).command("/bin/echo").args(["well"]),
            Container::bare().unshare(Namespaces::all()).command("/bin/echo").args(["well"]),
        ]
    };
    for (index, builder) in builders().iter().enumerate() {
        assert_eq!(printed(builder), "well\n", "{index}");
    }
    // A file without a name is what was executed.
    assert_eq!((files("memfd:ireko-helper"), files(" (deleted)") > 0), (0, true));
    let report = printed(&confined(["report"]));
    assert_eq!(values(&report, "fd").len(), 3);
}
