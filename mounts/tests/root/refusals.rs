//! What the kernel says when it refuses.

use crate::common::private;
use ireko_mounts::{Detached, Errno, ErrorKind, Filesystem, Size};

#[test]
fn root_a_refused_option_tells_the_kernels_words() {
    private("words", |_| {
        for (filesystem, words) in [
            (
                Filesystem::new("tmpfs").option("colour", "red"),
                "mount tmpfs with colour: tmpfs: Unknown parameter 'colour' (EINVAL)",
            ),
            (
                Filesystem::new("tmpfs").option("size", "large"),
                "mount tmpfs with size: tmpfs: Bad value for 'size' (EINVAL)",
            ),
            (
                Filesystem::new("proc").flag("a,b c"),
                "mount proc with a,b c: proc: Unknown parameter 'a,b c' (EINVAL)",
            ),
        ] {
            let error = filesystem.mount().unwrap_err();
            assert_eq!(error.to_string(), words);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.errno(), Some(Errno::EINVAL));
        }
    });
}

#[test]
fn root_a_filesystem_that_is_not_there_is_unsupported() {
    private("unknown", |_| {
        let error = Filesystem::new("nosuchfs").mount().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let words = "mount nosuchfs: this kernel has no such filesystem (ENODEV)";
        assert_eq!(error.to_string(), words);
    });
}

#[test]
fn root_a_value_that_is_too_long_says_so() {
    private("long", |_| {
        let long = "x".repeat(300);
        let error = Filesystem::new("tmpfs").source(&long).mount().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let words = "mount tmpfs with source: fsconfig takes 255 bytes, these are 300 (EINVAL)";
        assert_eq!(error.to_string(), words);
        assert!(Filesystem::new("tmpfs").source(&long[..255]).mount().is_ok());
    });
}

/// Makes a call answer `ENOSYS` in the calling thread, as an old kernel would.
fn hide(call: libc::c_long) {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call that copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}

#[test]
fn root_a_call_that_is_not_there_is_named_with_the_kernel() {
    let here = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for (call, name) in [
        (libc::SYS_fsopen, "fsopen"),
        (libc::SYS_fsconfig, "fsconfig"),
        (libc::SYS_fsmount, "fsmount"),
        (libc::SYS_open_tree, "open_tree"),
        (libc::SYS_mount_setattr, "mount_setattr"),
        (libc::SYS_move_mount, "move_mount"),
    ] {
        let here = here.trim().to_owned();
        private(name, move |dir| {
            hide(call);
            let error = Detached::tmpfs(Size::mib(1))
                .and_then(|tmpfs| tmpfs.attach(dir))
                .and_then(|_| Detached::bind(dir))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert_eq!(error.errno(), Some(Errno::ENOSYS));
            assert!(error.to_string().contains(&format!("Linux {here} has {name}")), "{error}");
        });
    }
}
