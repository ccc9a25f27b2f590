//! The kernel's numbers, as this crate has them, beside those of the C library's headers.

use ireko_child::abi;
use std::collections::BTreeSet;

/// Compares each, and notes its name.
macro_rules! same {
    ($seen:ident: $($name:ident)*) => {$(
        assert_eq!(abi::$name as i128, libc::$name as i128, stringify!($name));
        $seen.insert(stringify!($name));
    )*};
}

/// Those that libc does not have, as the kernel's headers do.
macro_rules! known {
    ($seen:ident: $($name:ident = $value:expr, $header:literal;)*) => {$(
        assert_eq!(abi::$name as i128, $value as i128, "{} in {}", stringify!($name), $header);
        $seen.insert(stringify!($name));
    )*};
}

macro_rules! calls {
    ($seen:ident: $($name:ident $libc:ident)*) => {$(
        assert_eq!(abi::nr::$name as i128, libc::$libc as i128, stringify!($name));
        $seen.insert(stringify!($name));
    )*};
}

/// The names that a part of the source declares.
fn declared<'t>(text: &'t str, begin: &str, end: &str) -> BTreeSet<&'t str> {
    let part = text.split_once(begin).expect(begin).1.split_once(end).expect(end).0;
    let names = part.lines().filter_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("pub const ").unwrap_or(line);
        let name = line.split_once(':')?.0;
        name.bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            .then_some(name)
    });
    names.collect()
}

const SOURCE: &str = include_str!("../src/abi.rs");

#[test]
fn calls_have_the_numbers_of_this_machine() {
    let mut seen = BTreeSet::new();
    calls! {
        seen:
        READ SYS_read WRITE SYS_write CLOSE SYS_close POLL SYS_poll MMAP SYS_mmap
        RT_SIGACTION SYS_rt_sigaction RT_SIGPROCMASK SYS_rt_sigprocmask IOCTL SYS_ioctl
        GETPID SYS_getpid SOCKET SYS_socket RECVMSG SYS_recvmsg UNAME SYS_uname
        FCNTL SYS_fcntl GETCWD SYS_getcwd CHDIR SYS_chdir FCHDIR SYS_fchdir UMASK SYS_umask
        SETSID SYS_setsid GETGROUPS SYS_getgroups SETGROUPS SYS_setgroups
        SETRESUID SYS_setresuid GETRESUID SYS_getresuid SETRESGID SYS_setresgid
        GETRESGID SYS_getresgid GETSID SYS_getsid CAPGET SYS_capget CAPSET SYS_capset
        GETPRIORITY SYS_getpriority SETPRIORITY SYS_setpriority PIVOT_ROOT SYS_pivot_root
        PRCTL SYS_prctl UMOUNT2 SYS_umount2 SETHOSTNAME SYS_sethostname
        SETDOMAINNAME SYS_setdomainname EXIT_GROUP SYS_exit_group KEYCTL SYS_keyctl
        OPENAT SYS_openat MKDIRAT SYS_mkdirat SYMLINKAT SYS_symlinkat READLINKAT SYS_readlinkat
        UNSHARE SYS_unshare DUP3 SYS_dup3 PRLIMIT64 SYS_prlimit64 SETNS SYS_setns
        SECCOMP SYS_seccomp EXECVE SYS_execve EXECVEAT SYS_execveat STATX SYS_statx
        OPEN_TREE SYS_open_tree MOVE_MOUNT SYS_move_mount FSOPEN SYS_fsopen
        FSCONFIG SYS_fsconfig FSMOUNT SYS_fsmount SCHED_SETAFFINITY SYS_sched_setaffinity
        CLONE3 SYS_clone3 CLOSE_RANGE SYS_close_range OPENAT2 SYS_openat2
        MOUNT_SETATTR SYS_mount_setattr
    }
    // The same on every machine since calls are added for all of them at once; libc lacks them.
    for (name, ours, number) in
        [("STATMOUNT", abi::nr::STATMOUNT, 457), ("LISTMOUNT", abi::nr::LISTMOUNT, 458)]
    {
        assert_eq!(ours, number, "{name}");
        seen.insert(name);
    }
    let begin = format!("target_arch = \"{}\"", std::env::consts::ARCH);
    assert_eq!(seen, declared(SOURCE, &begin, "\n}"));
}

#[test]
fn constants_are_those_of_the_kernel() {
    let mut seen = BTreeSet::new();
    same! {
        seen:
        EPERM ENOENT EINTR EBADF EAGAIN EACCES EEXIST ENOTDIR EINVAL ENOSYS ELOOP ESTALE
        EUCLEAN AT_FDCWD AT_EMPTY_PATH AT_SYMLINK_NOFOLLOW AT_RECURSIVE O_RDONLY O_WRONLY
        O_CREAT O_EXCL O_CLOEXEC O_PATH RESOLVE_NO_XDEV RESOLVE_NO_MAGICLINKS
        RESOLVE_NO_SYMLINKS RESOLVE_BENEATH RESOLVE_IN_ROOT OPEN_TREE_CLONE
        MOVE_MOUNT_F_EMPTY_PATH MOVE_MOUNT_T_EMPTY_PATH FSOPEN_CLOEXEC FSMOUNT_CLOEXEC
        MOUNT_ATTR_RDONLY MOUNT_ATTR_NOSUID MOUNT_ATTR_NODEV MOUNT_ATTR_NOEXEC MS_PRIVATE
        MNT_DETACH STATX_MNT_ID STATX_MNT_ID_UNIQUE PR_SET_PDEATHSIG PR_GET_PDEATHSIG
        PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_KEEPCAPS PR_GET_SECCOMP PR_CAPBSET_READ
        PR_CAPBSET_DROP PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_CAP_AMBIENT
        PR_CAP_AMBIENT_IS_SET PR_CAP_AMBIENT_RAISE PR_CAP_AMBIENT_CLEAR_ALL SIGKILL SIG_SETMASK
        F_GETFD F_SETFD F_DUPFD_CLOEXEC FD_CLOEXEC CLOSE_RANGE_CLOEXEC POLLIN SIOCGIFFLAGS
        SIOCSIFFLAGS IFF_UP AF_INET SOCK_DGRAM SOL_SOCKET SCM_RIGHTS MSG_CMSG_CLOEXEC
        SECCOMP_SET_MODE_FILTER
        KEYCTL_JOIN_SESSION_KEYRING S_IFMT S_IFDIR S_IFCHR PROT_READ PROT_WRITE MAP_SHARED
        MAP_PRIVATE MAP_POPULATE MAP_FIXED_NOREPLACE CLONE_VM CLONE_VFORK CLONE_PIDFD
        CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID
        CLONE_NEWTIME CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER
        CLONE_NEWPID CLONE_NEWNET SIGCHLD
    }
    known! {
        seen:
        // Too large for the int that libc makes of them.
        CLONE_CLEAR_SIGHAND = 0x1_0000_0000u64, "linux/sched.h";
        CLONE_INTO_CGROUP = 0x2_0000_0000u64, "linux/sched.h";
        FSCONFIG_SET_FLAG = 0, "linux/mount.h";
        FSCONFIG_SET_STRING = 1, "linux/mount.h";
        FSCONFIG_CMD_CREATE = 6, "linux/mount.h";
        LSMT_ROOT = 0xffff_ffff_ffff_ffffu64, "linux/mount.h";
        STATMOUNT_MNT_BASIC = 2, "linux/mount.h";
        STATMOUNT_MNT_POINT = 16, "linux/mount.h";
        CAPABILITY_VERSION_3 = 0x2008_0522, "linux/capability.h";
        STATX_TYPE_MODE_INO = libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_INO, "linux/stat.h";
    }
    assert_eq!(seen, declared(SOURCE, "\nnumbers! {", "\n}"));
}
