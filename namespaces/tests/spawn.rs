//! Programs in new namespaces, with this crate alone.

use ireko_namespaces::{ErrorKind, IdMap, IdMaps, Namespaces, NetNs, NsFd, Pidfd, Spawn, Stdio};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use testkit::{Caller, TempDir, alone, need, payload};

const SIX: Namespaces = Namespaces::USER
    .union(Namespaces::PID)
    .union(Namespaces::MOUNT)
    .union(Namespaces::NET)
    .union(Namespaces::IPC)
    .union(Namespaces::UTS);

fn run<const N: usize>(words: [&str; N]) -> Spawn {
    Spawn::new(payload()).args(words)
}

#[track_caller]
fn printed(spawn: &Spawn) -> String {
    let output = spawn.output().unwrap_or_else(|error| panic!("{error}; {:?}", error.remedy()));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// All values of a key of the payload's report.
fn all<'t>(report: &'t str, key: &str) -> Vec<&'t str> {
    report.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[track_caller]
fn get<'t>(report: &'t str, key: &str) -> &'t str {
    let values = all(report, key);
    assert_eq!(values.len(), 1, "{key} in {report}");
    values[0]
}

/// Ids, maps and effective capabilities.
fn who(report: &str) -> [&str; 6] {
    ["uid", "gid", "uid_map", "gid_map", "setgroups", "CapEff"].map(|key| get(report, key))
}

fn caller() -> (u32, u32) {
    // SAFETY: these take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

fn own(name: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string()
}

fn all_caps() -> String {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    format!("{:016x}", u64::MAX >> (63 - last.trim().parse::<u32>().unwrap()))
}

const NONE: &str = "0000000000000000";

fn new_namespaces_and_no_others() {
    let names = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"];
    let report = printed(&run(["report"]).namespaces(SIX | Namespaces::CGROUP).mount_proc());
    for name in names {
        assert_ne!(get(&report, &format!("ns.{name}")), own(name));
    }
    assert_eq!(get(&report, "ns.time"), own("time"));
    assert_eq!([get(&report, "pid"), get(&report, "ppid")], ["1", "0"]);
    assert_eq!(get(&report, "lo"), "down", "it does what was asked for and no more");
    let report = printed(&run(["report"]));
    for name in names {
        assert_eq!(get(&report, &format!("ns.{name}")), own(name));
    }
    let report = printed(&run(["report"]).namespaces(Namespaces::USER | Namespaces::UTS));
    for name in ["pid", "mnt", "net", "ipc", "cgroup"] {
        assert_eq!(get(&report, &format!("ns.{name}")), own(name));
    }
}

#[test]
fn root_new_namespaces_and_no_others() {
    need!(root, userns);
    new_namespaces_and_no_others();
}

#[test]
fn unpriv_new_namespaces_and_no_others() {
    need!(unprivileged, userns);
    new_namespaces_and_no_others();
}

#[test]
fn root_a_range_runs_as_its_root() {
    need!(root, userns);
    let maps = IdMaps::range(300_000..365_536);
    let report = printed(&run(["report"]).id_maps(maps));
    let map = "0 300000 65536";
    assert_eq!(who(&report), ["0", "0", map, map, "allow", &all_caps()]);
    assert_eq!(get(&report, "groups"), "");
    // As seen from outside, it is the range's first.
    let child = waiting(run([]).id_maps(IdMaps::range(300_000..300_001)));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    assert!(status.contains("\nUid:\t300000\t300000\t300000\t300000\n"), "{status}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn root_explicit_maps() {
    need!(root, userns);
    let map = |inside, outside, count| IdMap { inside, outside, count };
    // The caller is in them: it is who they say.
    let maps = IdMaps::new().uids(map(5, 0, 1)).uids(map(100, 400_000, 10)).gids(map(7, 0, 1));
    let report = printed(&run(["report"]).id_maps(maps));
    assert_eq!(all(&report, "uid_map"), ["5 0 1", "100 400000 10"]);
    assert_eq!(all(&report, "gid_map"), ["7 0 1"]);
    assert_eq!([get(&report, "uid"), get(&report, "gid")], ["5", "7"]);
    // It is not: then the first that there is, without root's capabilities.
    let maps = IdMaps::new().uids(map(20, 500_000, 2)).gids(map(30, 500_000, 2));
    let report = printed(&run(["report"]).id_maps(maps));
    assert_eq!([get(&report, "uid"), get(&report, "gid")], ["20", "30"]);
    assert_eq!([get(&report, "CapEff"), get(&report, "CapAmb")], [NONE, NONE]);
    // What means nothing is told before anything is started.
    for maps in [
        IdMaps::new(),
        IdMaps::range(5..5),
        IdMaps::range(0..10).uids(map(9, 100, 1)),
        IdMaps::range(0..10).gids(map(10, 9, 1)),
    ] {
        let error = run(["true"]).id_maps(maps).spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

fn caller_as_root_and_as_itself(setgroups: &str) {
    let (uid, gid) = caller();
    let (uid_map, gid_map) = (format!("0 {uid} 1"), format!("0 {gid} 1"));
    let expected = ["0", "0", &uid_map, &gid_map, setgroups, &all_caps()];
    let report = printed(&run(["report"]).id_maps(IdMaps::caller_as_root()));
    assert_eq!(who(&report), expected);
    // It is the default.
    let report = printed(&run(["report"]).namespaces(Namespaces::USER));
    assert_eq!(who(&report), expected);
    let report = printed(&run(["report"]).id_maps(IdMaps::caller_as_self()));
    let (uid_map, gid_map) = (format!("{uid} {uid} 1"), format!("{gid} {gid} 1"));
    let (uid, gid) = (uid.to_string(), gid.to_string());
    assert_eq!(who(&report)[..5], [&uid, &gid, &uid_map, &gid_map, setgroups]);
    if uid != "0" {
        // Its own id has none of the capabilities with which the start was made.
        assert_eq!([get(&report, "CapEff"), get(&report, "CapAmb")], [NONE, NONE]);
    }
}

#[test]
fn root_caller_as_root_and_as_itself() {
    need!(root, userns);
    caller_as_root_and_as_itself("allow");
}

#[test]
fn unpriv_caller_as_root_and_as_itself() {
    need!(unprivileged, userns);
    caller_as_root_and_as_itself("deny");
    let error = run(["true"]).id_maps(IdMaps::range(300_000..300_010)).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.remedy().unwrap().contains("sub_ids"), "{error}");
}

/// Run by the next test as a user with ranges; by itself where there is one.
#[test]
fn unpriv_sub_ids_through_the_helpers() {
    need!(unprivileged, newuidmap);
    let (uid, _) = caller();
    let maps = IdMaps::sub_ids().unwrap();
    assert!(maps.groups_allowed());
    let report = printed(&run(["report"]).id_maps(maps.clone()));
    assert_eq!([get(&report, "uid"), get(&report, "gid")], ["0", "0"]);
    let lines = all(&report, "uid_map");
    assert_eq!(lines[0], format!("0 {uid} 1"));
    let second: Vec<&str> = lines[1].split(' ').collect();
    assert_eq!(second[0], "1");
    assert_eq!(lines.len(), maps.uid_maps().len());
    assert_eq!(all(&report, "gid_map").len(), maps.gid_maps().len());
    // Others than root can be had, and groups be set.
    let other = printed(&run(["as", "9", "9", "report"]).id_maps(maps));
    assert_eq!([get(&other, "uid"), get(&other, "gid"), get(&other, "groups")], ["9", "9", ""]);
}

/// The test before, by a user who has a name and ranges in a mount namespace alone.
#[test]
fn root_sub_ids_for_a_user_made_up() {
    need!(root, userns);
    let programs = ["newuidmap", "newgidmap"].map(|name| PathBuf::from("/usr/bin").join(name));
    if !programs.iter().all(|program| program.exists()) {
        eprintln!("SKIP root_sub_ids_for_a_user_made_up: newuidmap is not installed");
        return;
    }
    let dir = TempDir::public();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    write("passwd", &format!("{passwd}made-up:x:61234:61234::/:/bin/false\n"));
    write("subuid", "made-up:700000:65536\n");
    write("subgid", "made-up:800000:65536\nmade-up:900000:10\n");
    let copy = |from: &std::path::Path, name: &str| {
        let status = Command::new("cp").arg(from).arg(dir.join(name)).status().unwrap();
        assert!(status.success());
    };
    copy(&std::env::current_exe().unwrap(), "test");
    copy(payload(), "payload");
    std::fs::create_dir(dir.join("tmp")).unwrap();
    std::os::unix::fs::chown(dir.join("tmp"), Some(61234), Some(61234)).unwrap();
    let script = "for f in passwd subuid subgid; do mount --bind $0/$f /etc/$f || exit 9; done
        exec setpriv --reuid 61234 --regid 61234 --clear-groups env TMPDIR=$0/tmp \
        IREKO_PAYLOAD=$0/payload IREKO_REQUIRE=newuidmap,unprivileged \
        $0/test --exact unpriv_sub_ids_through_the_helpers --nocapture";
    let inner = Spawn::new("/bin/sh")
        .args(["-c", script])
        .arg(dir.path())
        .namespaces(Namespaces::MOUNT | Namespaces::PID)
        .mount_proc();
    let output = inner.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn mount_proc_shows_its_own_processes() {
    let list = |spawn: Spawn| {
        let text = printed(&spawn.arg("list").arg("/proc"));
        let names = text.lines().filter_map(|line| line.strip_prefix("entry="));
        names.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).count()
    };
    let kinds = Namespaces::USER | Namespaces::PID;
    assert_eq!(list(run([]).namespaces(kinds).mount_proc()), 1);
    // Ours is as it was, and what is mounted inside is not ours.
    assert!(list(run([])) > 1);
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = printed(&run(["mounts"]).namespaces(kinds).mount_proc());
    assert!(mounts.lines().filter(|line| line.contains(" /proc ")).count() >= 1, "{mounts}");
    assert!(!mounts.contains(" shared:") && !mounts.contains(" master:"), "{mounts}");
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    let error = run(["true"]).namespaces(Namespaces::USER).mount_proc().spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("Namespaces::PID"), "{error}");
}

#[test]
fn root_mount_proc_shows_its_own_processes() {
    need!(root, userns);
    let _alone = alone();
    mount_proc_shows_its_own_processes();
}

#[test]
fn unpriv_mount_proc_shows_its_own_processes() {
    need!(unprivileged, userns);
    let _alone = alone();
    mount_proc_shows_its_own_processes();
}

fn output_is_what_was_printed() {
    let new = |words: [&str; 3]| run([]).args(words).namespaces(Namespaces::USER);
    // More than the pipes hold, on both.
    let output = new(["flood", "3000000", "err"]).output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, 3_000_000));
    let output = new(["seq", "err", "a b"]).output().unwrap();
    assert_eq!((output.stdout, output.stderr), (b"".to_vec(), b"a b\n".to_vec()));
    // Nothing to read from, unless it is given.
    assert_eq!(printed(&run(["eof"])), "eof=0\n");
    let child = run(["cat"]).stdin(Stdio::Piped).stdout(Stdio::Piped).spawn().unwrap();
    child.take_stdin().unwrap().write_all(b"through").unwrap();
    let mut text = String::new();
    child.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    assert!(child.wait().unwrap().success());
    assert!(child.take_stdout().is_none());
    // How it ended, each in its own way.
    assert_eq!(run(["exit", "7"]).status().unwrap().code(), Some(7));
    assert_eq!(new(["seq", "kill", "TERM"]).status().unwrap().signal(), Some(15));
    let error = Spawn::new("/no/such/program").namespaces(Namespaces::USER).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    // Along a PATH of which not all may be looked into, it is what std says.
    let error = Spawn::new("no-such-program").spawn().unwrap_err();
    let standard = Command::new("no-such-program").spawn().unwrap_err();
    assert_eq!(error.errno().map(|errno| errno.raw()), standard.raw_os_error(), "{error}");
    let dir = TempDir::public();
    let report = printed(&run(["report"]).current_dir(dir.path()).env_clear().env("A", "b"));
    assert_eq!(get(&report, "cwd"), dir.path().to_str().unwrap());
    let environment: Vec<&str> = report.lines().filter(|line| line.starts_with("env.")).collect();
    assert_eq!(environment, ["env.A=b"]);
}

#[test]
fn root_output_is_what_was_printed() {
    need!(root, userns);
    output_is_what_was_printed();
}

#[test]
fn unpriv_output_is_what_was_printed() {
    need!(unprivileged, userns);
    output_is_what_was_printed();
}

/// A started program that waits, once it is there; for a minute, should nobody end it.
fn waiting(spawn: Spawn) -> ireko_namespaces::Child {
    let child = spawn.args(["seq", "echo", "ready", ",", "sleep", "60"]);
    let child = child.stdout(Stdio::Piped).stderr(Stdio::Null).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.take_stdout().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn join_enters_what_is_there() {
    let kinds =
        [Namespaces::USER, Namespaces::NET, Namespaces::IPC, Namespaces::UTS, Namespaces::MOUNT];
    let other = waiting(run([]).namespaces(SIX).mount_proc());
    let of = |kind: Namespaces| NsFd::of_process(other.pidfd(), kind).unwrap();
    let joined = waiting(kinds.iter().fold(run([]), |spawn, kind| spawn.join(&of(*kind))));
    for kind in kinds {
        let inside = NsFd::of_process(joined.pidfd(), kind).unwrap().id().unwrap();
        assert_eq!(inside, of(kind).id().unwrap(), "{kind}");
        assert_ne!(inside, NsFd::of_thread(kind).unwrap().id().unwrap(), "{kind}");
    }
    joined.kill().unwrap();
    joined.wait().unwrap();
    // Of a pid namespace the kernel lets only later children be: that is said.
    let error = run(["true"]).join(&of(Namespaces::PID)).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    // One kind alone: the others stay.
    let report = printed(&run(["report"]).join(&of(Namespaces::USER)).join(&of(Namespaces::UTS)));
    assert_eq!(get(&report, "ns.net"), own("net"));
    assert_ne!(get(&report, "ns.uts"), own("uts"));
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    assert_eq!(other.wait().unwrap().signal(), Some(9));
}

#[test]
fn root_join_enters_what_is_there() {
    need!(root, userns);
    join_enters_what_is_there();
    // A network that nobody is in, held by one fd of a low number.
    let net = NetNs::create().unwrap();
    let report = printed(&run(["report"]).join(net.as_ns_fd()));
    let wanted = format!("net:[{}]", net.as_ns_fd().id().unwrap());
    assert_eq!(get(&report, "ns.net"), wanted);
}

#[test]
fn unpriv_join_enters_what_is_there() {
    need!(unprivileged, userns);
    join_enters_what_is_there();
    // Not without the user namespace that owns it.
    let other = waiting(run([]).namespaces(Namespaces::USER | Namespaces::NET));
    let net = NsFd::of_process(other.pidfd(), Namespaces::NET).unwrap();
    let error = run(["true"]).join(&net).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Where cgroup v2 is mounted, if it is, and our own group there.
fn unified() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(line.split(' ').nth(4)?).join(own))
}

#[test]
fn root_into_cgroup_is_there_from_the_first_instruction() {
    need!(root, cgroup);
    let Some(parent) = unified() else {
        eprintln!("SKIP root_into_cgroup_is_there_from_the_first_instruction: no cgroup v2");
        return;
    };
    let name = format!("ireko-test-{}", std::process::id());
    let dir = parent.join(&name);
    std::fs::create_dir(&dir).unwrap();
    let here = |kinds| {
        let spawn = run(["report"]).namespaces(kinds).into_cgroup(File::open(&dir).unwrap());
        let report = spawn.output().map(|output| String::from_utf8(output.stdout).unwrap());
        report.map(|text| {
            let own = all(&text, "cgroup").into_iter().find(|line| line.starts_with("0::"));
            own.unwrap_or_default().to_owned()
        })
    };
    let (plain, helped) = (here(Namespaces::empty()), here(Namespaces::USER | Namespaces::UTS));
    let error = run(["true"]).into_cgroup(File::open("/tmp").unwrap()).spawn();
    std::fs::remove_dir(&dir).unwrap();
    assert!(plain.unwrap().ends_with(&name));
    assert!(helped.unwrap().ends_with(&name));
    assert!(error.is_err());
}

/// Nothing of the caller changes, and a child that is dropped runs on.
#[test]
fn root_the_caller_is_as_before() {
    need!(root, userns);
    let _alone = alone();
    printed(&run(["true"]).namespaces(SIX));
    let before = Caller::take_with_thread();
    for _ in 0..20 {
        printed(&run(["true"]).namespaces(SIX).id_maps(IdMaps::range(300_000..300_010)));
    }
    let mut differs = Caller::diff(&before, &Caller::take_with_thread());
    // Other tests of this binary open and close some meanwhile.
    differs.retain(|line| !line.starts_with("fds:"));
    assert_eq!(differs, Vec::<String>::new());
    let child = waiting(run([]).namespaces(SIX));
    let pidfd = Pidfd::open(child.pid()).unwrap();
    drop(child);
    assert!(!pidfd.poll(Some(std::time::Duration::from_millis(50))).unwrap());
    pidfd.signal(ireko_sys::Signal::KILL).unwrap();
    pidfd.wait().unwrap();
}

#[test]
fn root_time_is_unshared_elsewhere() {
    need!(root, userns);
    let error = run(["true"]).namespaces(Namespaces::TIME).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}
