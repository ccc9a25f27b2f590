//! Namespaces and ids. [`Container::builder`](crate::Container::builder)
//! has all of them but time; these calls say what must hold.

use super::Builder;
use ireko_namespaces::{IdMaps, Namespaces, NsFd};

impl Builder {
    /// A user namespace of its own. By default as root too: ids 0 to 65535 are then
    /// a high range that no other container of ours has. For others: the caller is
    /// root inside.
    pub fn user_ns(self) -> Self {
        self.unshare(Namespaces::USER)
    }

    /// Sees and signals its own processes only; all of them end with the first.
    pub fn pid_ns(self) -> Self {
        self.unshare(Namespaces::PID)
    }

    /// Mounts of its own.
    pub fn mount_ns(self) -> Self {
        self.unshare(Namespaces::MOUNT)
    }

    /// A network of its own: loopback alone.
    pub fn net_ns(self) -> Self {
        self.unshare(Namespaces::NET)
    }

    /// System V and POSIX queues, semaphores and shared memory of its own.
    pub fn ipc_ns(self) -> Self {
        self.unshare(Namespaces::IPC)
    }

    /// Host name and domain name of its own.
    pub fn uts_ns(self) -> Self {
        self.unshare(Namespaces::UTS)
    }

    /// Its own cgroup is the root it sees.
    pub fn cgroup_ns(self) -> Self {
        self.unshare(Namespaces::CGROUP)
    }

    /// Clocks of its own.
    pub fn time_ns(self) -> Self {
        self.unshare(Namespaces::TIME)
    }

    /// New namespaces of these kinds, or no container.
    pub fn unshare(mut self, kinds: Namespaces) -> Self {
        self.0.unshare |= kinds;
        self.0.share &= !kinds;
        self
    }

    /// The caller's own namespaces of these kinds: less isolation, by name. With
    /// `USER` root inside is the caller; with `PID` it sees every process of the host;
    /// with `NET` it reaches the host's loopback and abstract sockets.
    pub fn share(mut self, kinds: Namespaces) -> Self {
        self.0.share |= kinds;
        self.0.unshare &= !kinds;
        self
    }

    /// A namespace that is there already.
    ///
    /// A net, ipc or uts namespace owned by another user namespace than the
    /// container's cannot be its own: join that user namespace too, or share it. A pid
    /// namespace is `Unsupported`: the kernel moves only later children.
    pub fn join(mut self, namespace: &NsFd) -> Self {
        self.0.join.push(namespace.clone());
        self
    }

    /// Who is who in the user namespace, which this asks for.
    pub fn id_maps(mut self, maps: IdMaps) -> Self {
        self.0.maps = Some(maps);
        self.user_ns()
    }

    /// At most 64 bytes. Default: its id.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.0.hostname = Some(name.into());
        self
    }

    /// At most 64 bytes. Default: none.
    pub fn domainname(mut self, name: impl Into<String>) -> Self {
        self.0.domainname = Some(name.into());
        self
    }

    /// A kernel setting, `net.ipv4.ip_unprivileged_port_start` say: `Invalid` for one
    /// that does not belong to a namespace of the container's own.
    pub fn sysctl(mut self, key: &str, value: &str) -> Self {
        self.0.sysctls.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Moves the container's monotonic clock by so many seconds; asks for a time
    /// namespace. Linux 5.6.
    pub fn monotonic_offset(mut self, seconds: i64) -> Self {
        self.0.clocks.push(("monotonic", seconds));
        self.time_ns()
    }

    /// Moves the container's boot-time clock by so many seconds; asks for a time
    /// namespace. Linux 5.6.
    pub fn boottime_offset(mut self, seconds: i64) -> Self {
        self.0.clocks.push(("boottime", seconds));
        self.time_ns()
    }
}
