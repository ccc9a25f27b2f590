//! Ids, capabilities and the ways to more of them.

use crate::common::{Report, bare, confined, in_root, printed, said};
use ireko::capabilities::{Cap, CapSet, State};
use ireko::namespaces::{IdMaps, Namespaces};
use ireko::{Builder, ErrorKind, Feature, Resource, Signal, Stage, Stdio};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use testkit::{TempDir, need, rootfs};

const BIND: CapSet = CapSet::EMPTY.with(Cap::NetBindService);

fn set_of(caps: &[Cap]) -> u64 {
    caps.iter().fold(CapSet::EMPTY, |all, cap| all.with(*cap)).bits()
}

/// Whatever is combined with whatever, each privilege goes exactly as far as was asked: the
/// order in which they are given up leaves none over and needs none that is gone.
#[test]
fn root_c1_c2_order_of_privileges() {
    need!(root, userns);
    let root = rootfs();
    let words = ["seq", "report", ",", "unshare", "0x10000000", ",", "bind-udp", "127.0.0.1:80"];
    for uid in [0, 1000] {
        for keep in [CapSet::EMPTY, BIND] {
            for nnp in [true, false] {
                for seccomp in [true, false] {
                    for confined in [true, false] {
                        let what = format!("{uid} {keep} nnp {nnp} seccomp {seccomp} {confined}");
                        let mut builder = if confined {
                            in_root(&root, words).user((uid, uid))
                        } else {
                            bare(words).user((uid, uid)).net_ns()
                        };
                        builder = builder.capabilities(keep);
                        if !nnp {
                            builder = builder.dangerously_allow_new_privileges();
                        }
                        builder = match (seccomp, confined) {
                            (true, true) => builder,
                            (true, false) => builder.seccomp(ireko::seccomp::Profile::standard()),
                            (false, _) => builder.dangerously_disable_seccomp(),
                        };
                        let text = said(&builder);
                        let report = Report::parse(&text);
                        let expected = if uid == 0 {
                            [0, keep.bits(), keep.bits(), keep.bits(), 0]
                        } else {
                            [keep.bits(); 5]
                        };
                        assert_eq!(report.sets(), expected, "{what}");
                        let id = uid.to_string();
                        let ids = ["uid", "euid", "suid", "gid", "egid", "sgid"];
                        assert_eq!(ids.map(|key| report.get(key)), [id.as_str(); 6], "{what}");
                        assert_eq!(report.get("groups"), "", "{what}");
                        // A bare start gives privileges up for the filter's sake alone.
                        let gives_up = nnp && (confined || seccomp);
                        assert_eq!(
                            report.get("NoNewPrivs"),
                            ["0", "1"][usize::from(gives_up)],
                            "{what}"
                        );
                        assert_eq!(
                            report.get("Seccomp"),
                            ["0", "2"][usize::from(seccomp)],
                            "{what}"
                        );
                        // And by effect: the filter's answer, the kernel's, and the port.
                        let unshared = text.lines().rev().nth(1).unwrap();
                        let refused = unshared == "error 1 EPERM";
                        assert_eq!(refused, seccomp, "{what}: {unshared}");
                        let bound = text.lines().next_back().unwrap();
                        // Who has made a user namespace has left those capabilities behind.
                        if seccomp {
                            let wanted = if keep == BIND { "ok 80" } else { "error 13 EACCES" };
                            assert_eq!(bound, wanted, "{what}");
                        }
                    }
                }
            }
        }
    }
}

/// Another user than root has the capability because it is ambient.
#[test]
fn root_c4_ambient_lets_a_user_bind_port_80() {
    need!(root, userns);
    let root = rootfs();
    let bind = |set: Option<CapSet>| {
        let builder = in_root(&root, ["bind-udp", "127.0.0.1:80"]).user((1000, 1000));
        said(&set.map_or(builder.clone(), |set| builder.capabilities(set)))
    };
    assert_eq!(bind(Some(BIND)), "ok 80");
    assert_eq!(bind(Some(CapSet::STANDARD)), "error 13 EACCES");
    assert_eq!(bind(None), "error 13 EACCES");
    // It goes on to programs that it executes.
    let exec = in_root(&root, ["exec", "/bin/payload", "payload", "caps"]).user((1000, 1000));
    assert_eq!(Report::of(&exec.capabilities(BIND)).sets(), [BIND.bits(); 5]);
}

/// No capability for another user than root, unless it was named.
#[test]
fn root_no_capability_for_a_user_unless_named() {
    need!(root, userns);
    let root = rootfs();
    let sets = |builder: Builder| Report::of(&builder).sets();
    let standard = CapSet::STANDARD.bits();
    assert_eq!(sets(in_root(&root, ["caps"]).user(1000)), [0, 0, 0, standard, 0]);
    assert_eq!(sets(in_root(&root, ["caps"]).user("user")), [0, 0, 0, standard, 0]);
    let kill = CapSet::EMPTY.with(Cap::Kill);
    assert_eq!(sets(in_root(&root, ["caps"]).user(1000).capabilities(kill)), [kill.bits(); 5]);
    let none = in_root(&root, ["caps"]).user(1000).capabilities(CapSet::EMPTY);
    assert_eq!(sets(none), [0; 5]);
    // One that cannot become root again.
    let again = in_root(&root, ["as", "0", "0", "caps"]).user(1000);
    assert_eq!(said(&again), "error 1 EPERM");
}

/// An ordinary user's map is written after setgroups is denied, and so no group can be
/// dropped by which a file is closed to somebody.
#[test]
fn unpriv_c5_setgroups_is_denied_before_the_map() {
    need!(unprivileged, userns);
    let report = Report::of(&confined(["report"]));
    // SAFETY: these take nothing and cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    assert_eq!(report.get("setgroups"), "deny");
    assert_eq!(report.get("uid_map"), format!("0 {uid} 1"));
    assert_eq!(report.get("gid_map"), format!("0 {gid} 1"));
    assert_eq!(said(&confined(["syscall", "116", "0", "0"])), "errno=EPERM(1)");
    let error = confined(["true"]).groups([0]).plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.remedy().unwrap().contains("sub_ids"), "{error}");
}

/// With a range that root gave, groups are set, and exactly those that were named.
#[test]
fn root_c5_groups_are_those_that_were_named() {
    need!(root, userns);
    let root = rootfs();
    let report = Report::of(&in_root(&root, ["report"]).user((1000, 1000)).groups([7, 60, 7]));
    assert_eq!([report.get("setgroups"), report.get("groups")], ["allow", "7,60"]);
    // A file that is closed to a group stays so for whom is in it.
    let file = root.write("etc/closed", "text");
    std::os::unix::fs::chown(&file, Some(0), Some(60)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o604)).unwrap();
    let read = |groups: &[u32]| {
        let builder = in_root(&root, ["read", "/etc/closed"]).user((1000, 1000));
        said(&builder.groups(groups.iter().copied()))
    };
    assert_eq!(read(&[60]), "error 13 EACCES");
    assert_eq!(read(&[]), "ok 4 bytes");
}

/// Every capability that the kernel has can be dropped, those without a name here too; and
/// "all" is what this kernel has, not what a list says.
#[test]
fn root_c6_unknown_capabilities_are_dropped() {
    need!(root, userns);
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let last: u32 = last.trim().parse().unwrap();
    let kernel = u64::MAX >> (63 - last);
    assert_eq!(CapSet::all().bits(), kernel);
    let sets = |set: CapSet| Report::of(&confined(["caps"]).capabilities(set)).sets();
    assert_eq!(sets(CapSet::EMPTY), [0; 5]);
    assert_eq!(sets(CapSet::all()), [0, kernel, kernel, kernel, 0]);
    // Only the newest, which an old list would not know.
    let newest = CapSet::from_bits(1 << last);
    assert_eq!(sets(newest), [0, 1 << last, 1 << last, 1 << last, 0]);
    let rest = CapSet::from_bits(kernel ^ 1 << last);
    assert_eq!(sets(rest)[3], kernel ^ 1 << last);
    // One that this kernel does not have is an error, not a smaller set.
    let beyond = confined(["caps"]).capabilities(CapSet::from_bits(1 << (last + 1) | 1)).spawn();
    let error = beyond.unwrap_err();
    assert_eq!(error.stage(), Stage::Security, "{error}");
}

/// A program that its user may not read makes the process undumpable, and its files in
/// `/proc` root's: nothing of ours is in need of them, neither the maps nor the handle.
#[test]
fn root_c7_a_program_that_cannot_be_read_starts() {
    need!(root, userns);
    let root = rootfs();
    let secret = root.program("bin/secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o711)).unwrap();
    let start =
        |words: &[&str]| in_root(&root, []).command("/bin/secret").args(words).user((1000, 1000));
    let report = Report::of(&start(&["report"]));
    assert_ne!(report.get("dumpable"), "1");
    assert_eq!([report.get("uid"), report.get("pid")], ["1000", "1"]);
    let container = start(&["pause"]).spawn().unwrap();
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", container.pid())).unwrap();
    let root_inside: u32 = map.split_whitespace().nth(1).unwrap().parse().unwrap();
    let file = std::fs::metadata(format!("/proc/{}/environ", container.pid())).unwrap();
    assert_ne!(file.uid(), root_inside + 1000, "its files are its own");
    container.namespace(Namespaces::PID).unwrap();
    container.kill().unwrap();
    assert_eq!(container.wait().unwrap().signal(), Some(Signal::KILL));
    // The caller is as dumpable as before.
    let status = std::fs::metadata("/proc/self/environ").unwrap();
    assert_eq!(status.uid(), 0);
}

/// What a preset says is what there is: nothing of it comes from what the caller has.
#[test]
fn root_r9_sets_are_the_presets_own() {
    need!(root, userns);
    let standard = CapSet::STANDARD.bits();
    assert_eq!(
        standard,
        set_of(&[
            Cap::Chown,
            Cap::DacOverride,
            Cap::Fowner,
            Cap::Fsetid,
            Cap::Kill,
            Cap::Setgid,
            Cap::Setuid
        ])
    );
    let root = [0, standard, standard, standard, 0];
    assert_eq!(Report::of(&confined(["caps"])).sets(), root);
    assert_eq!(Report::of(&confined(["caps"]).share(Namespaces::USER)).sets(), root);
    // A caller with ambient capabilities of its own: a thread's, for they are a thread's.
    let mut state = State::of_thread().unwrap();
    state.inheritable = state.inheritable.with(Cap::NetRaw);
    state.ambient = state.ambient.with(Cap::NetRaw);
    std::thread::spawn(move || {
        state.apply().unwrap();
        assert_eq!(Report::of(&confined(["caps"])).sets(), root);
        assert_eq!(Report::of(&confined(["caps"]).share(Namespaces::USER)).sets(), root);
        let nobody = confined(["caps"]).user((65534, 65534));
        assert_eq!(Report::of(&nobody).sets(), [0, 0, 0, standard, 0]);
    })
    .join()
    .unwrap();
    // Exactly what is named, also beyond the preset.
    let other = CapSet::EMPTY.with(Cap::NetAdmin).with(Cap::SysPtrace);
    let bits = other.bits();
    let named = confined(["caps"]).capabilities(other);
    assert_eq!(Report::of(&named).sets(), [0, bits, bits, bits, 0]);
}

#[test]
fn unpriv_r9_sets_are_the_presets_own() {
    need!(unprivileged, userns);
    let standard = CapSet::STANDARD.bits();
    assert_eq!(Report::of(&confined(["caps"])).sets(), [0, standard, standard, standard, 0]);
    assert_eq!(Report::of(&confined(["caps"]).capabilities(CapSet::EMPTY)).sets(), [0; 5]);
    let own = confined(["caps"]).id_maps(IdMaps::caller_as_self());
    assert_eq!(Report::of(&own).sets(), [0, 0, 0, standard, 0]);
}

/// The host's root is nobody inside: neither mapped nor reached by what root inside does.
#[test]
fn root_r11_the_hosts_root_is_not_mapped() {
    need!(root, userns);
    let container = confined(["seq", "report", ",", "pause"]).stdout(Stdio::Piped).spawn().unwrap();
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", container.pid()));
    for file in ["uid_map", "gid_map"] {
        let text = read(file).unwrap();
        let numbers: Vec<u64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert_eq!((numbers.len(), numbers[0], numbers[2]), (3, 0, 65536), "{text}");
        assert!(numbers[1] >= 1_879_048_192 && numbers[1].is_multiple_of(65536), "{text}");
    }
    // A second one has another range.
    let other = confined(["pause"]).spawn().unwrap();
    let theirs = std::fs::read_to_string(format!("/proc/{}/uid_map", other.pid())).unwrap();
    assert_ne!(read("uid_map").unwrap(), theirs);
    drop((container, other));
    // Root's own files are nobody's inside, and closed to it.
    let dir = TempDir::public();
    let file = dir.join("secret");
    std::fs::write(&file, "text").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = file.to_str().unwrap();
    let shown = |words: [&str; 2]| confined(words).expose(dir.path());
    assert!(printed(&shown(["stat", path])).contains("owner=65534:65534"));
    assert_eq!(said(&shown(["read", path])), "error 13 EACCES");
    // Only by name.
    let named = shown(["read", path]).share(Namespaces::USER);
    assert_eq!(said(&named), "ok 4 bytes");
    assert_eq!(
        Report::of(&confined(["report"]).share(Namespaces::USER)).get("uid_map"),
        "0 0 4294967295"
    );
}

/// A restriction that cannot be had is an error, not a weaker container.
#[test]
fn unpriv_r19_what_cannot_be_had_is_an_error() {
    need!(unprivileged, userns);
    // No user namespace: the caller has no capability to pass on, nor another's ids.
    let error = bare(["true"]).capabilities(BIND).spawn().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Security), "{error}");
    let error = bare(["true"]).user((12, 12)).spawn().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Process), "{error}");
    let error = confined(["true"]).user((1000, 1000)).plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = bare(["true"]).net_ns().spawn().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Clone), "{error}");
    assert!(error.remedy().unwrap().contains("user namespace"), "{error}");
    // A limit above the caller's own.
    let (_, hard) = nofile();
    let raised = || confined(["report"]).rlimit(Resource::Nofile, 1, hard + 1);
    let error = raised().spawn().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Process), "{error}");
    assert!(error.remedy().unwrap().contains("CAP_SYS_RESOURCE"), "{error}");
    // Unless it was said to be preferred; then the answer says what is missing.
    let output = raised().prefer(Feature::Rlimits).output().unwrap();
    assert!(output.status.success());
    let missing: Vec<_> = output.enforcement.missing().map(|item| item.feature).collect();
    assert!(missing.contains(&Feature::Rlimits), "{}", output.enforcement);
}

/// As root, too: capabilities that a bare start cannot hand on.
#[test]
fn root_r19_what_cannot_be_had_is_an_error() {
    need!(root, userns);
    let all = CapSet::all();
    let own = State::of_thread().unwrap();
    let answer = bare(["caps"]).capabilities(all).output();
    if own.permitted == all && own.bounding == all {
        assert_eq!(
            Report::parse(&crate::common::text(&answer.unwrap().stdout)).sets()[1],
            all.bits()
        );
    } else {
        let error = answer.unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::Denied, Stage::Security), "{error}");
    }
    // An id that is not mapped is nobody to run as.
    let maps = IdMaps::range(400_000..400_010);
    let error = confined(["true"]).id_maps(maps).user((10, 0)).plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = confined(["true"]).user((0, 70_000)).plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// Soft and hard, from `/proc`.
fn nofile() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}
