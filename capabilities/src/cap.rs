use crate::{Error, ErrorKind};
use ireko_sys::Failure;
use std::fmt;
use std::str::FromStr;

macro_rules! caps {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)+) => {
        /// One capability. Parses and displays as `CAP_NET_ADMIN`.
        ///
        /// Those of Linux 5.9, the newest there are in 6.18. See
        /// [`capabilities(7)`](https://man7.org/linux/man-pages/man7/capabilities.7.html).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Cap {
            $($(#[$meta])* #[doc(alias = $text)] $name = $number,)+
        }

        impl Cap {
            /// All that have a name here, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The kernel's name: `CAP_NET_ADMIN`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

caps! {
    /// Give files to anybody.
    Chown = 0, "CAP_CHOWN";
    /// Read, write and execute whatever the mode bits say.
    DacOverride = 1, "CAP_DAC_OVERRIDE";
    /// Read files and search directories whatever the mode bits say; open files by handle.
    DacReadSearch = 2, "CAP_DAC_READ_SEARCH";
    /// Do to anybody's files what their owner may.
    Fowner = 3, "CAP_FOWNER";
    /// Keep set-user-id bits when a file is changed.
    Fsetid = 4, "CAP_FSETID";
    /// Send signals to anybody's processes.
    Kill = 5, "CAP_KILL";
    /// Become any group; set supplementary groups.
    Setgid = 6, "CAP_SETGID";
    /// Become any user.
    Setuid = 7, "CAP_SETUID";
    /// Drop from the bounding set, and change securebits.
    Setpcap = 8, "CAP_SETPCAP";
    /// Change the immutable and append-only flags of files.
    LinuxImmutable = 9, "CAP_LINUX_IMMUTABLE";
    /// Bind ports below 1024.
    NetBindService = 10, "CAP_NET_BIND_SERVICE";
    /// Unused by the kernel.
    NetBroadcast = 11, "CAP_NET_BROADCAST";
    /// Configure interfaces, routes, firewalls.
    NetAdmin = 12, "CAP_NET_ADMIN";
    /// Raw and packet sockets.
    NetRaw = 13, "CAP_NET_RAW";
    /// Lock memory beyond the limit.
    IpcLock = 14, "CAP_IPC_LOCK";
    /// Pass the permission checks of System V IPC.
    IpcOwner = 15, "CAP_IPC_OWNER";
    /// Load and unload kernel modules.
    SysModule = 16, "CAP_SYS_MODULE";
    /// Ports and memory of the machine.
    SysRawio = 17, "CAP_SYS_RAWIO";
    /// Call chroot, and enter mount namespaces.
    SysChroot = 18, "CAP_SYS_CHROOT";
    /// Trace and read any process.
    SysPtrace = 19, "CAP_SYS_PTRACE";
    /// Process accounting.
    SysPacct = 20, "CAP_SYS_PACCT";
    /// Mount, set host names, and hundreds of other things: nearly root.
    SysAdmin = 21, "CAP_SYS_ADMIN";
    /// Reboot, and load another kernel.
    SysBoot = 22, "CAP_SYS_BOOT";
    /// Raise priorities, set the affinity of other processes.
    SysNice = 23, "CAP_SYS_NICE";
    /// Exceed resource limits.
    SysResource = 24, "CAP_SYS_RESOURCE";
    /// Set the clock.
    SysTime = 25, "CAP_SYS_TIME";
    /// Configure and hang up terminals.
    SysTtyConfig = 26, "CAP_SYS_TTY_CONFIG";
    /// Make device nodes.
    Mknod = 27, "CAP_MKNOD";
    /// Take leases on anybody's files.
    Lease = 28, "CAP_LEASE";
    /// Write to the audit log.
    AuditWrite = 29, "CAP_AUDIT_WRITE";
    /// Configure auditing.
    AuditControl = 30, "CAP_AUDIT_CONTROL";
    /// Set capabilities of files, and map the user id 0 of the parent namespace.
    Setfcap = 31, "CAP_SETFCAP";
    /// Override mandatory access control.
    MacOverride = 32, "CAP_MAC_OVERRIDE";
    /// Configure mandatory access control.
    MacAdmin = 33, "CAP_MAC_ADMIN";
    /// Read and clear the kernel's log.
    Syslog = 34, "CAP_SYSLOG";
    /// Wake the system by timers.
    WakeAlarm = 35, "CAP_WAKE_ALARM";
    /// Keep the system from sleeping.
    BlockSuspend = 36, "CAP_BLOCK_SUSPEND";
    /// Read the audit log.
    AuditRead = 37, "CAP_AUDIT_READ";
    /// Performance events. Linux 5.8.
    Perfmon = 38, "CAP_PERFMON";
    /// Load BPF programs. Linux 5.8.
    Bpf = 39, "CAP_BPF";
    /// Checkpoint and restore. Linux 5.9.
    CheckpointRestore = 40, "CAP_CHECKPOINT_RESTORE";
}

impl Cap {
    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The capability of this number, where it has a name here.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < Self::ALL.len() { Some(Self::ALL[number as usize]) } else { None }
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// In upper or lower case, with `CAP_` or without.
impl FromStr for Cap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut name = text.trim().to_ascii_uppercase();
        if !name.starts_with("CAP_") {
            name.insert_str(0, "CAP_");
        }
        name.parse::<caps::Capability>()
            .ok()
            .and_then(|cap| Self::from_number(cap.index()))
            .ok_or_else(|| {
                Failure::ours(
                    ErrorKind::Invalid,
                    format!("read the capability {text:?}"),
                    "no capability has this name",
                )
                .into()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_crate_caps() {
        let theirs = caps::all();
        assert_eq!(theirs.len(), Cap::ALL.len());
        for cap in theirs {
            let ours = Cap::from_number(cap.index()).unwrap();
            assert_eq!(ours.name(), cap.to_string());
            assert_eq!(u64::from(ours.number()), u64::from(cap.index()));
        }
        for (number, cap) in Cap::ALL.iter().enumerate() {
            assert_eq!(usize::from(cap.number()), number);
        }
        assert_eq!(Cap::from_number(41), None);
    }

    #[test]
    fn reads_names_as_people_write_them() {
        for text in ["CAP_NET_ADMIN", "NET_ADMIN", "net_admin", "Cap_Net_Admin", " cap_net_admin "]
        {
            assert_eq!(text.parse::<Cap>().unwrap(), Cap::NetAdmin, "{text}");
        }
        for cap in Cap::ALL {
            assert_eq!(cap.to_string().parse::<Cap>().unwrap(), *cap);
        }
        for text in ["", "CAP_", "CAP_CAP_CHOWN", "CHOWN,KILL", "12", "NETADMIN", "CAP_CHOWN\0"] {
            assert_eq!(text.parse::<Cap>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_one_line() {
        assert_eq!(
            "CAP_FLY".parse::<Cap>().unwrap_err().to_string(),
            "read the capability \"CAP_FLY\": no capability has this name"
        );
    }
}
