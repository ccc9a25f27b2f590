//! What a capability would be useless without.

use crate::rule::Layer;
use crate::{Action, CapSet, Condition, Profile, arg, decision};
use ireko_capabilities::Cap;

/// As Docker gates them, and the ones that Standard has not.
const CALLS: &[(Cap, &[&str])] = &[
    (Cap::DacReadSearch, &["open_by_handle_at", "name_to_handle_at"]),
    (Cap::SysModule, &["delete_module", "finit_module", "init_module"]),
    (Cap::SysRawio, &["ioperm", "iopl"]),
    (Cap::SysChroot, &["chroot"]),
    (
        Cap::SysPtrace,
        &[
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
        ],
    ),
    (Cap::SysPacct, &["acct"]),
    (
        Cap::SysAdmin,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fanotify_mark",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "listmount",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "perf_event_open",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "statmount",
            "syslog",
            "umount2",
            "unshare",
        ],
    ),
    (Cap::SysBoot, &["reboot"]),
    (Cap::SysNice, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (Cap::SysTime, &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"]),
    (Cap::SysTtyConfig, &["vhangup"]),
    (Cap::Mknod, &["mknod", "mknodat"]),
    (Cap::Syslog, &["syslog"]),
    (Cap::Perfmon, &["perf_event_open"]),
    (Cap::Bpf, &["bpf"]),
];

const NETLINK: u32 = libc::AF_NETLINK as u32;
const NETFILTER: u32 = libc::NETLINK_NETFILTER as u32;
const GENERIC: u32 = libc::NETLINK_GENERIC as u32;
const AUDIT: u32 = libc::NETLINK_AUDIT as u32;

/// A family of sockets, and the protocol where it is one of a family's.
const SOCKETS: &[(Cap, u32, Option<u32>)] = &[
    (Cap::NetRaw, libc::AF_PACKET as u32, None),
    (Cap::NetAdmin, NETLINK, Some(NETFILTER)),
    (Cap::NetAdmin, NETLINK, Some(GENERIC)),
    (Cap::AuditWrite, NETLINK, Some(AUDIT)),
];

pub(crate) fn open(mut profile: Profile, set: CapSet) -> Profile {
    for name in CALLS.iter().filter(|(cap, _)| set.contains(*cap)).flat_map(|(_, names)| *names) {
        let list = decision::for_call(&profile, name);
        let open = list.iter().all(|entry| entry.then == Action::Allow);
        if !open && !has_own_rule(&profile, name) {
            profile.own_group().retain(|rule| rule.name != *name);
            profile.push(*name, Vec::new(), Action::Allow, Layer::Preset);
        }
    }
    for (_, family, protocol) in SOCKETS.iter().filter(|(cap, ..)| set.contains(*cap)) {
        let args = [u64::from(*family), 0, u64::from(protocol.unwrap_or(0)), 0, 0, 0];
        let list = decision::for_call(&profile, "socket");
        let entry = list.iter().find(|entry| entry.holds_for(args));
        let open = entry.is_some_and(|entry| entry.then == Action::Allow);
        if !open && !has_own_rule(&profile, "socket") {
            let mut when: Vec<Condition> = vec![arg(0).equals_int(*family)];
            when.extend(protocol.map(|protocol| arg(2).equals_int(protocol)));
            profile.push("socket", when, Action::Allow, Layer::Preset);
        }
    }
    profile
}

fn has_own_rule(profile: &Profile, name: &str) -> bool {
    profile.rules().any(|rule| rule.layer == Layer::Own && rule.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arch, Errno};

    const EPERM: Action = Action::Errno(Errno::EPERM);

    fn decided(profile: &Profile, name: &str, args: [u64; 6]) -> Action {
        profile.compile(Arch::X86_64).unwrap().decide(name, args).unwrap().action
    }

    #[test]
    fn the_sets_of_the_presets_open_nothing_in_them() {
        assert_eq!(Profile::standard().for_capabilities(CapSet::STANDARD), Profile::standard());
        assert_eq!(Profile::compat().for_capabilities(CapSet::COMPAT), Profile::compat());
    }

    #[test]
    fn sys_admin_brings_mount_and_new_namespaces() {
        let profile = Profile::standard().for_capabilities(Cap::SysAdmin.into());
        for (name, args) in [("mount", [0; 6]), ("clone3", [0; 6]), ("clone", [1 << 28; 6])] {
            assert_ne!(decided(&Profile::standard(), name, args), Action::Allow, "{name}");
            assert_eq!(decided(&profile, name, args), Action::Allow, "{name}");
        }
        assert_eq!(decided(&profile, "kexec_load", [0; 6]), EPERM);
    }

    #[test]
    fn net_raw_brings_packet_sockets_and_no_other() {
        let profile = Profile::standard().for_capabilities(Cap::NetRaw.into());
        assert_eq!(decided(&profile, "socket", [17, 3, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decided(&profile, "socket", [38, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(decided(&profile, "socket", [16, 0, 12, 0, 0, 0]), EPERM);
    }

    #[test]
    fn what_the_user_denied_stays_denied() {
        let denied = Profile::standard().deny(["ptrace", "socket"], Errno::EPERM);
        let profile = denied.clone().for_capabilities(CapSet::from_bits(u64::MAX));
        assert_eq!(decided(&profile, "ptrace", [0; 6]), EPERM);
        assert_eq!(decided(&profile, "socket", [17, 3, 0, 0, 0, 0]), EPERM);
        assert_eq!(decided(&profile, "kcmp", [0; 6]), Action::Allow);
    }

    #[test]
    fn every_name_is_one() {
        Profile::compat()
            .for_capabilities(CapSet::from_bits(u64::MAX))
            .compile(Arch::X86_64)
            .unwrap();
    }
}
