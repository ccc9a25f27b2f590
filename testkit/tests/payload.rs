//! The verbs, as an ordinary process.

use std::collections::HashMap;
use std::process::{Command, Output, Stdio};
use testkit::{TempDir, need, payload};

fn run(args: &[&str]) -> Output {
    Command::new(payload()).args(args).stdin(Stdio::null()).output().expect("it starts")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_status() {
    assert_eq!(run(&["exit", "37"]).status.code(), Some(37));
    assert_eq!(run(&["true"]).status.code(), Some(0));
    assert_eq!(run(&["no-such-verb"]).status.code(), Some(64));
}

#[test]
fn no_start_up_code_changes_dispositions() {
    // std::process::Command puts SIGPIPE back for its child; glibc's posix_spawn makes it
    // ignore 32 and 33.
    let mask = |line: &str, key: &str| {
        let mask = line.strip_prefix(key).map(|mask| u64::from_str_radix(mask.trim(), 16));
        mask.map(|mask| mask.expect("a mask") & !(1 << (libc::SIGPIPE - 1) | 0b11 << 31))
    };
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let ours = status.lines().find_map(|line| mask(line, "SigIgn:"));
    let output = lines(&run(&["report"]));
    assert_eq!(output.iter().find_map(|line| mask(line, "SigIgn=")), ours, "{output:#?}");
    assert!(output.contains(&"SigCgt=0000000000000000".to_owned()), "{output:#?}");
    let sigpipe = lines(&run(&["seq", "kill", "PIPE", ",", "echo", "alive"]));
    assert_eq!(sigpipe, Vec::<String>::new());
}

#[test]
fn a_report_agrees_with_proc() {
    let mut command = Command::new(payload());
    let output = command.args(["seq", "report", ",", "show", "/proc/self/status"]).output();
    let output = lines(&output.expect("it starts"));
    let reported: HashMap<&str, &str> =
        output.iter().filter_map(|line| line.split_once('=')).collect();
    let status: HashMap<&str, &str> = output
        .iter()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(key, value)| (key, value.trim()))
        .collect();
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        assert_eq!(reported.get(key), status.get(key), "{key}");
    }
    for key in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(reported.get(key), status.get(key), "{key}");
    }
    let ids = ["uid", "euid", "suid"].map(|key| reported[key]).join("\t");
    assert!(status["Uid"].starts_with(&ids), "{ids} {}", status["Uid"]);
    assert_eq!(reported["umask"], status["Umask"]);
    assert_eq!(reported["pid"], status["Pid"]);
    assert_eq!(reported["ppid"], std::process::id().to_string());
    assert_eq!(reported["argv.1"], "seq");
}

#[test]
fn descriptors_do_not_count_the_look() {
    let output = run(&["fds"]);
    let pipes = lines(&output);
    let numbers: Vec<_> = pipes.iter().filter_map(|line| line.split([' ', '=']).nth(1)).collect();
    assert_eq!(&numbers[..3], ["0", "1", "2"], "{pipes:?}");
    assert!(!pipes.iter().any(|line| line.ends_with("/fd")), "{pipes:?}");
}

#[test]
fn attempts_name_their_errors() {
    assert_eq!(lines(&run(&["read", "/nothing"])), ["error 2 ENOENT"]);
    assert_eq!(lines(&run(&["syscall", "-1"])), ["errno=ENOSYS(38)"]);
    assert_eq!(lines(&run(&["kill", "0", "1999999999"])), ["error 3 ESRCH"]);
    assert_eq!(lines(&run(&["connect", "@ireko-nobody-listens"])), ["error 111 ECONNREFUSED"]);
}

#[test]
fn a_raw_call_takes_text_and_buffers() {
    let read_link = libc::SYS_readlink.to_string();
    let output = run(&["syscall", &read_link, "@/proc/self/ns/user", "buf:64", "64"]);
    let length = std::fs::read_link("/proc/self/ns/user").expect("a link").as_os_str().len();
    assert_eq!(lines(&output), [format!("ret={length}")]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_32_bit_entry() {
    // 20 is getpid there and writev here.
    let output = run(&["seq", "int80", "20", ",", "syscall", "39"]);
    let both = lines(&output);
    if both[0] == "errno=ENOSYS(38)" || both.len() != 2 {
        return; // a kernel without it
    }
    assert_eq!(both[0], both[1]);
}

#[test]
fn children_are_counted_and_gone() {
    assert_eq!(lines(&run(&["forkbomb", "7"])), ["forked=7", "errno=none"]);
    assert_eq!(lines(&run(&["threads", "7"])), ["started=7", "errno=none"]);
    assert_eq!(lines(&run(&["oomchild", "1"])), ["child=exit 0"]);
    assert_eq!(lines(&run(&["tree", "2", "2", "0"])), ["tree=7"]);
}

#[test]
fn a_flood_has_the_size_asked_for() {
    let output = run(&["flood", "100000", "err"]);
    assert_eq!((output.stdout.len(), output.stderr.len()), (100_000, 100_000));
}

#[test]
fn files_are_made_and_described() {
    let dir = TempDir::new();
    let path = |name: &str| dir.join(name).display().to_string();
    let file = path("file");
    assert_eq!(lines(&run(&["write", &file, "hello"])), ["ok"]);
    assert_eq!(lines(&run(&["append", &file, "!"])), ["ok"]);
    assert_eq!(lines(&run(&["show", &file])), ["hello!"]);
    assert_eq!(lines(&run(&["read", &file])), ["ok 6 bytes"]);
    assert_eq!(lines(&run(&["chmod", "4750", &file])), ["ok"]);
    let described = lines(&run(&["stat", &file]));
    assert_eq!(described[1..5], ["mode=4750", "type=file", "rdev=0:0", "size=6"]);
    let null = lines(&run(&["stat", "/dev/null"]));
    assert_eq!(null[2..4], ["type=char", "rdev=1:3"]);
    assert_eq!(lines(&run(&["fill", &path("full"), "1"])), ["wrote=1048576", "errno=none"]);
    assert_eq!(lines(&run(&["list", &path("")])), ["entry=file", "entry=full"]);
}

#[test]
fn a_signal_is_waited_for() {
    use std::io::{BufRead, BufReader};
    let mut child = Command::new(payload())
        .args(["signal-wait", "USR1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    // SAFETY: a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGUSR1) }, 0);
    assert_eq!(child.wait().expect("a status").code(), Some(42));
}

#[test]
fn root_gives_its_identity_up() {
    need!(root);
    let output = lines(&run(&["as", "65533", "65532", "report"]));
    for line in ["uid=65533", "suid=65533", "gid=65532", "groups=", "CapEff=0000000000000000"] {
        assert!(output.contains(&line.to_owned()), "{line} {output:#?}");
    }
}
