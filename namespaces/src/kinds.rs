use std::fmt;

bitflags::bitflags! {
    /// A set of namespace kinds, with the kernel's values. See
    /// [`namespaces(7)`](https://man7.org/linux/man-pages/man7/namespaces.7.html).
    ///
    /// Displays as `user pid mount`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Namespaces: u32 {
        /// Ids and what they may do.
        const USER = 0x1000_0000;
        /// The mount table.
        const MOUNT = 0x0002_0000;
        /// Process numbers.
        const PID = 0x2000_0000;
        /// Interfaces, addresses, routes, rules, sockets.
        const NET = 0x4000_0000;
        /// System V and POSIX message queues, semaphores, shared memory.
        const IPC = 0x0800_0000;
        /// Host name and domain name.
        const UTS = 0x0400_0000;
        /// What `/proc/self/cgroup` calls the root.
        const CGROUP = 0x0200_0000;
        /// Monotonic and boot-time clock offsets. Linux 5.6.
        const TIME = 0x0000_0080;
    }
}

impl Namespaces {
    /// The name of one kind below `/proc/PID/ns`; `None` for none or several.
    #[must_use]
    pub fn proc_name(self) -> Option<&'static str> {
        Some(match self {
            Self::USER => "user",
            Self::MOUNT => "mnt",
            Self::PID => "pid",
            Self::NET => "net",
            Self::IPC => "ipc",
            Self::UTS => "uts",
            Self::CGROUP => "cgroup",
            Self::TIME => "time",
            _ => return None,
        })
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> =
            self.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::Namespaces;

    #[test]
    fn has_the_kernels_values() {
        for (kind, value) in [
            (Namespaces::USER, libc::CLONE_NEWUSER),
            (Namespaces::MOUNT, libc::CLONE_NEWNS),
            (Namespaces::PID, libc::CLONE_NEWPID),
            (Namespaces::NET, libc::CLONE_NEWNET),
            (Namespaces::IPC, libc::CLONE_NEWIPC),
            (Namespaces::UTS, libc::CLONE_NEWUTS),
            (Namespaces::CGROUP, libc::CLONE_NEWCGROUP),
            (Namespaces::TIME, libc::CLONE_NEWTIME),
        ] {
            assert_eq!(kind.bits(), value as u32);
            assert!(kind.proc_name().is_some());
        }
    }

    #[test]
    fn displays_the_names() {
        assert_eq!((Namespaces::USER | Namespaces::PID).to_string(), "user pid");
        assert_eq!(Namespaces::empty().to_string(), "none");
    }
}
