//! Open files: those that are passed on, and those that must not be.

use crate::again;
use crate::common::{bare, both, confined, output, play, plays, printed, text, values};
use ireko::namespaces::Namespaces;
use ireko::{Builder, ErrorKind, Resource};
use std::fs::File;
use std::os::fd::AsRawFd;
use testkit::{TempDir, need, rootfs};

/// Fifty files of the host's that would survive any exec.
fn strays(directory: &TempDir) -> Vec<File> {
    (0..50)
        .map(|n| {
            let path = directory.join(format!("stray-{n}"));
            std::fs::write(&path, "secret").unwrap();
            let file = if n % 5 == 0 { File::open(directory) } else { File::open(path) }.unwrap();
            // SAFETY: an open file of ours.
            assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }, 0);
            file
        })
        .collect()
}

fn numbers(builder: &Builder) -> Vec<String> {
    let got = printed(builder);
    let numbers = values(&got, "fd").into_iter().map(|fd| fd.split(' ').next().unwrap().to_owned());
    numbers.collect()
}

#[test]
fn unpriv_p8_r6_fifty_stray_files_are_not_inherited() {
    need!(unprivileged, userns);
    // In a process of its own, since they would be inherited by others' children as well.
    if plays("strays") {
        let directory = TempDir::new();
        let strays = strays(&directory);
        let root = rootfs();
        let many = [
            confined(["fds"]),
            confined(["fds"]).rootfs(root.path()).command("/bin/payload"),
            confined(["fds"]).share(Namespaces::NET | Namespaces::PID),
            bare(["fds"]),
            bare(["fds"]).user_ns().pid_ns().mount_ns(),
        ];
        for (index, builder) in many.iter().enumerate() {
            assert_eq!(numbers(builder), ["0", "1", "2"], "{index}");
        }
        assert_eq!(strays.len(), 50);
        return;
    }
    play(again!("strays"));
}

#[test]
fn root_p8_r6_fifty_stray_files_are_not_inherited() {
    need!(root, cgroup);
    if plays("strays") {
        let directory = TempDir::new();
        let strays = strays(&directory);
        let net = ireko::namespaces::NetNs::create().unwrap().into();
        let many = [
            confined(["fds"]).pids_limit(20),
            confined(["fds"]).share(Namespaces::USER),
            confined(["fds"]).share(Namespaces::USER).join(&net),
            bare(["fds"]).unshare(Namespaces::all() - Namespaces::USER),
            bare(["fds"]).user((1000, 1000)),
            bare(["fds"]).join(&net).pids_limit(20),
        ];
        for (index, builder) in many.iter().enumerate() {
            assert_eq!(numbers(builder), ["0", "1", "2"], "{index}");
        }
        assert_eq!(strays.len(), 50);
        return;
    }
    play(again!("strays"));
}

#[test]
fn unpriv_pass_fd() {
    need!(unprivileged, userns);
    if plays("strays") {
        let directory = TempDir::new();
        let _strays = strays(&directory);
        let numbers = [3, 4, 5, 9, 100, 1023];
        // In an order in which each could lie in another's way.
        let opened: Vec<(u32, File)> = numbers
            .iter()
            .rev()
            .map(|n| (*n, File::create(directory.join(format!("for-{n}"))).unwrap()))
            .collect();
        if numbers.len() > 1 {
            // Few may be open in the caller: then there is nothing above to move things to.
            let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
            // SAFETY: this process is there for that.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        }
        for (name, mut builder) in both(["fds"]) {
            for (number, file) in &opened {
                builder = builder.pass_fd(*number, file.try_clone().unwrap());
            }
            let plan = builder.plan().unwrap();
            for _ in 0..2 {
                let got = text(&plan.output().unwrap().stdout);
                let fds = values(&got, "fd");
                assert_eq!(fds.len(), 3 + numbers.len(), "{name}: {got}");
                for (fd, number) in fds[3..].iter().zip(numbers) {
                    assert!(fd.starts_with(&format!("{number} ")), "{name}: {fd}");
                    assert!(fd.ends_with(&format!("/for-{number}")), "{name}: {fd}");
                }
            }
        }
        return;
    }
    play(again!("strays"));
}

#[test]
fn unpriv_pass_fd_whatever_numbers_ours_have() {
    need!(unprivileged, userns);
    // Sixteen in a row: wherever a start keeps its own, one of them lies there.
    let directory = TempDir::new();
    for first in [3, 10, 20, 100, 128, 140] {
        let numbers: Vec<u32> = (first..first + 16).collect();
        for (name, mut builder) in both(["fds"]) {
            for number in numbers.iter().rev() {
                let file = File::create(directory.join(format!("for-{number}"))).unwrap();
                builder = builder.pass_fd(*number, file);
            }
            let got = printed(&builder);
            let fds = values(&got, "fd");
            assert_eq!(fds.len(), 3 + 16, "{name}: {got}");
            for (fd, number) in fds[3..].iter().zip(&numbers) {
                assert!(fd.starts_with(&format!("{number} ")), "{name}: {fd}");
                assert!(fd.ends_with(&format!("/for-{number}")), "{name}: {fd}");
            }
        }
    }
}

#[test]
fn unpriv_pass_fd_is_the_same_open_file() {
    need!(unprivileged, userns);
    for (name, builder) in both(["write", "/proc/self/fd/3", "said"]) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let output = output(&builder.pass_fd(3, writer));
        assert!(output.status.success(), "{name}: {}", text(&output.stdout));
        let mut got = String::new();
        std::io::Read::read_to_string(&mut reader, &mut got).unwrap();
        assert_eq!(got.trim_end(), "said", "{name}");
    }
}

#[test]
fn unpriv_pass_fd_and_limits() {
    need!(unprivileged, userns);
    for (name, builder) in both(["fds"]) {
        let few = builder.clone().rlimit(Resource::Nofile, 50, 50);
        let file = || File::open("/dev/null").unwrap();
        assert_eq!(numbers(&few.clone().pass_fd(49, file())), ["0", "1", "2", "49"], "{name}");
        // One that is open may lie beyond the limit, which is for new ones.
        assert_eq!(numbers(&few.pass_fd(60, file())), ["0", "1", "2", "60"], "{name}");
        let mut many = builder;
        for number in 3..20 {
            many = many.pass_fd(number, file());
        }
        assert_eq!(many.plan().unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }
}
