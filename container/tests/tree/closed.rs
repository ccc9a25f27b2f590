//! The host's tree as root: what it shows, and what it does not.

use crate::kit::{Made, Socket, answers, host, open_for_writing, said, words};
use ireko::Container;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use testkit::need;

/// Sockets as daemons, agents and the user's own programs have them.
fn sockets(more: &[&Path]) -> (Vec<Made>, Vec<Socket>) {
    let mut dirs = Vec::new();
    let mut sockets = Vec::new();
    let mut listen =
        |dir: &Made, name: &str, mode| sockets.push(Socket::new(dir.0.join(name), mode));
    let tmp = Made::dir("/tmp");
    listen(&tmp, "daemon.sock", 0o777);
    // As an agent has it, and as a display server has it.
    listen(&tmp, "agent.4711", 0o600);
    dirs.push(tmp);
    for place in more {
        let dir = Made::dir(place.to_str().expect("text"));
        listen(&dir, "open.sock", 0o777);
        listen(&dir, "own.sock", 0o600);
        dirs.push(dir);
    }
    (dirs, sockets)
}

/// A name without a file.
fn abstract_socket() -> (UnixListener, String) {
    let name = format!("ireko-test-closed-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    (UnixListener::bind_addr(&address).unwrap(), name)
}

fn closed(places: &[&Path], later: &Path) {
    let (_dirs, mut sockets) = sockets(places);
    let (_listener, name) = abstract_socket();
    let tree = Made::dir(later.to_str().expect("text"));
    // Whatever is listened on when the program runs, not only what was there before.
    let late = tree.0.join("late.sock");
    let mut verbs: Vec<String> =
        sockets.iter().map(|socket| format!("connect {}", socket.path().display())).collect();
    verbs.push(format!("connect {}", late.display()));
    verbs.push(format!("connect @{name}"));
    for path in ["/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket"] {
        verbs.push(format!("connect {path}"));
    }
    let docker = Path::new("/run/docker.sock");
    if !docker.exists() && sockets.iter().any(|socket| socket.path().starts_with("/run")) {
        sockets.push(Socket::new(docker, 0o666));
    }
    let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
    for user in [0, 1000] {
        // Only root has a second user to run as.
        let builder = if user == 0 { host() } else { host().user(1000) };
        if user != 0 && builder.plan().is_err() {
            continue;
        }
        let plan = builder.args(words(&verbs)).plan().unwrap();
        let socket = Socket::new(&late, 0o777);
        let output = plan.output().unwrap();
        drop(socket);
        let text = String::from_utf8(output.stdout).unwrap();
        let said: Vec<&str> = text.split("-- --\n").map(str::trim_end).collect();
        for (verb, said) in verbs.iter().zip(&said) {
            assert!(said.starts_with("error "), "as {user}, {verb}: {said}");
        }
        assert_eq!(said.len(), verbs.len() + 1, "{text}");
    }
    // The same word does reach a socket that is exposed by name.
    let named = sockets[0].path();
    let [exposed] =
        said(&host().expose(named.parent().unwrap()), [&format!("connect {}", named.display())]);
    assert_eq!(exposed, "ok");
}

/// What is there, and empty.
fn empty() {
    let verbs = [
        "list /tmp",
        "list /run",
        "list /var",
        "list /home",
        "list /root",
        "list /mnt",
        "list /srv",
        "list /",
        "report",
        "mounts",
    ];
    let [tmp, run, var, home, root, mnt, srv, top, report, mounts] = said(&host(), verbs);
    assert_eq!((tmp.as_str(), run.as_str(), var.as_str()), ("", "entry=payload", "entry=tmp"));
    assert_eq!([home, root, mnt, srv], [""; 4]);
    for name in ["boot", "media", "lost+found", "old_root", ".dockerenv"] {
        assert!(!top.lines().any(|line| line == format!("entry={name}")), "{top}");
    }
    // Nothing of the environment either: no SSH_AUTH_SOCK, no DOCKER_HOST.
    let env: Vec<_> = report.lines().filter(|line| line.starts_with("env.")).collect();
    assert!(env.len() == 1 && env[0].starts_with("env.PATH="), "{env:?}");
    // Whatever the host has mounted below its system directories is not there.
    for line in crate::kit::lines(&mounts) {
        let below =
            ["/usr/", "/etc/", "/opt/", "/lib/"].iter().any(|dir| line.point.starts_with(dir));
        assert!(!below && line.point != "/old_root", "{line:?}");
    }
}

#[test]
fn root_host_tree_is_closed() {
    need!(root);
    let places = ["/run", "/opt", "/etc", "/usr/local", "/var/tmp", "/root"].map(Path::new);
    closed(&places, Path::new("/usr/local"));
    empty();
}

#[test]
fn unpriv_host_tree_is_closed() {
    need!(unprivileged, userns);
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_dir());
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let temporary = std::env::temp_dir();
    let mut places = vec![temporary.as_path(), Path::new("/var/tmp")];
    places.extend(home.as_deref());
    places.extend(own.as_deref());
    closed(&places, &temporary);
    empty();
    let [shadow] = said(&host(), ["read /etc/shadow"]);
    assert_eq!(shadow, "error 13 EACCES");
}

#[test]
fn root_what_only_root_reads_stays_unreadable() {
    need!(root);
    let dir = Made::dir("/usr/local");
    for (name, mode) in [("key", 0o600), ("shared", 0o640), ("open", 0o644)] {
        fs::write(dir.0.join(name), "secret").unwrap();
        fs::set_permissions(dir.0.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let key = dir.0.join("key").display().to_string();
    let shown = dir.0.join("open").display().to_string();
    for builder in [host(), host().user(1000)] {
        let verbs = [
            &format!("read {key}"),
            "read /etc/shadow",
            "read /etc/gshadow",
            &format!("read {}", dir.0.join("shared").display()),
            &format!("read {shown}"),
            &format!("write {shown}"),
            &format!("stat {key}"),
        ];
        let [key, shadow, group, shared, open, write, stat] = said(&builder, verbs);
        assert_eq!([key, shadow, group, shared], ["error 13 EACCES"; 4]);
        assert_eq!(open, "ok 6 bytes");
        assert!(["error 13 EACCES", "error 30 EROFS"].contains(&write.as_str()), "{write}");
        // Root of the host is nobody here.
        assert!(stat.starts_with("owner=65534:65534\n"), "{stat}");
    }
}

#[test]
fn root_a_fifo_of_the_host_leads_nowhere() {
    need!(root);
    let dir = Made::dir("/opt");
    let fifo = dir.0.join("fifo");
    let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: a string that ends in zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }, 0);
    fs::set_permissions(&fifo, Permissions::from_mode(0o666)).unwrap();
    // Somebody of the host reads from it.
    let mut reader = fs::OpenOptions::new();
    let reader = reader.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
    let open = open_for_writing(fifo.to_str().unwrap());
    let [inside] = said(&host(), [&open]);
    assert_eq!(inside, "errno=ENXIO(6)", "no reader is there");
    let [exposed] = said(&host().expose(&dir.0), [&open]);
    assert!(exposed.starts_with("ret="), "{exposed}");
    drop(OwnedFd::from(reader));
}

fn cannot_be_changed() {
    let verbs = [
        "write /usr/bin/new",
        "mkdir /new",
        "write /etc/new",
        "unlink /etc/passwd",
        "write /tmp/new",
    ];
    let [bin, top, etc, passwd, tmp] = said(&host(), verbs);
    for denied in [bin, top, etc, passwd] {
        assert!(["error 30 EROFS", "error 13 EACCES"].contains(&denied.as_str()), "{denied}");
    }
    assert_eq!(tmp, "ok");
    let builder = || Container::builder().command("/bin/true");
    let writable = builder().rootfs(ireko::Rootfs::host().writable());
    let ephemeral = builder().rootfs(ireko::Rootfs::host().ephemeral(ireko::Size::mib(1)));
    for error in [writable, ephemeral].map(|builder| builder.plan().unwrap_err()) {
        assert_eq!(error.kind(), ireko::ErrorKind::Invalid);
        assert!(error.remedy().unwrap().contains(".expose_writable("), "{error}");
    }
}

#[test]
fn root_host_tree_cannot_be_changed() {
    need!(root);
    cannot_be_changed();
    // Nor by the host's own root, who is let in by name.
    let with_root = host().share(ireko::namespaces::Namespaces::USER);
    let [etc, top] = said(&with_root, [&open_for_writing("/etc/passwd"), "mkdir /new"]);
    assert_eq!((etc.as_str(), top.as_str()), ("errno=EROFS(30)", "error 30 EROFS"));
}

#[test]
fn unpriv_host_tree_cannot_be_changed() {
    need!(unprivileged, userns);
    cannot_be_changed();
}

/// What a plan shows of a tree that was moved afterwards.
#[test]
fn unpriv_exposed_is_shown_and_no_more() {
    need!(unprivileged, userns);
    let dir = testkit::TempDir::public();
    fs::create_dir(dir.join("shown")).unwrap();
    fs::write(dir.join("shown/file"), "12345").unwrap();
    fs::write(dir.join("other"), "x").unwrap();
    let (shown, at) = (dir.join("shown"), dir.path().display());
    let verbs: [&str; 4] = [
        &format!("read {at}/shown/file"),
        &format!("write {at}/shown/file"),
        &format!("write {at}/shown/new"),
        &format!("read {at}/other"),
    ];
    let [read, write, create, other] = said(&host().expose(&shown), verbs);
    assert_eq!((read.as_str(), other.as_str()), ("ok 5 bytes", "error 2 ENOENT"));
    assert_eq!((write.as_str(), create.as_str()), ("error 30 EROFS", "error 30 EROFS"));
    let builder =
        host().expose_writable(&shown).args(words(&[&format!("write {at}/shown/new hi")]));
    let [write] = answers(&builder.output().unwrap());
    assert_eq!(write, "ok");
    assert_eq!(fs::read(shown.join("new")).unwrap(), b"hi");
}
