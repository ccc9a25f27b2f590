//! The program that tests run inside containers: one static file, no crates, one verb a
//! task. It is started without Rust's own start-up code, so that signal dispositions and
//! closed descriptors are what the caller left. Output is lines of text, `key=value` where
//! there is a value; control characters come as `\xNN`. A verb that tries one thing prints
//! `ok …` and exits 0, or `error ERRNO NAME` and exits 1; a misuse exits 64.
//!
//! | verb | does |
//! |---|---|
//! | `true`, `false` | exit 0, 1; also when started by that name |
//! | `exit N` | exits with N |
//! | `kill SIG [PID]` | sends a signal, to itself by default; a number or a name without `SIG` |
//! | `segv`, `abort` | dies of SIGSEGV, of SIGABRT |
//! | `sleep SECONDS`, `pause` | sleeps; for ever. SECONDS may have a fraction, here and below |
//! | `spin SECONDS [THREADS]` | keeps the processor busy |
//! | `echo WORD…` | prints the words |
//! | `err WORD…` | prints the words on stderr |
//! | `seq VERB … , VERB …` | runs verbs one after another; the last exit status counts |
//! | `as UID GID VERB …` | drops groups, sets all ids, goes on with the verb |
//! | `exec PATH ARG…` | execve, with the environment as it is; `ARG` starts at argv\[0\] |
//! | `report` | everything below, and ids, names, limits, signals, cgroup, environment: see `report.rs` |
//! | `fds`, `caps`, `mounts` | the `fd=`, `Cap…=`, `mount=` lines of the report alone |
//! | `interfaces` | `interface=NAME`, sorted |
//! | `memhog MIB [SECONDS]` | touches memory, prints `touched MIB`, keeps it |
//! | `oomchild MIB` | a child hogs; prints `child=signal N` or `child=exit N`, exits 0 |
//! | `forkbomb N` | children that wait; prints `forked=K`, `errno=NAME` of the first failure or `none` |
//! | `threads N` | threads that wait; `started=K`, `errno=` |
//! | `thread-create` | `ok` when one thread was started and joined |
//! | `nofile N` | opens `/` up to N times; `opened=K`, `errno=` |
//! | `tree DEPTH WIDTH SECONDS` | a process tree in which everyone sleeps; prints `tree=PROCESSES` |
//! | `orphans N` | N orphans that end at once; then `zombies=K`, those of this /proc |
//! | `daemon SECONDS` | double fork and setsid; the orphan keeps stdout and stderr and sleeps; prints `daemon=PID`, exits 0 at once |
//! | `signal-wait SIG` | prints `ready`, exits 42 when the signal arrives |
//! | `ignore-term SECONDS` | ignores SIGTERM, prints `ready`, sleeps |
//! | `getppid-loop [SECONDS]` | prints `ppid=N` now and at every change |
//! | `flood BYTES [err]` | writes that much to stdout; with `err` as much to stderr, by turns |
//! | `cat`, `eof` | stdin to stdout; waits for the end of stdin and prints `eof=BYTES` |
//! | `tty` | `tty.N=yes` or `no` for 0 to 2, `ctty=`, `size=ROWSxCOLUMNS` |
//! | `pty` | opens a pseudoterminal: `pty=/dev/pts/N` |
//! | `read PATH`, `show PATH` | `ok N bytes`; the contents themselves |
//! | `write PATH [WORD]`, `append PATH [WORD]` | creates or truncates; appends to what exists |
//! | `fill PATH MIB` | writes up to so many MiB: `wrote=BYTES`, `errno=` |
//! | `stat PATH` | `owner= mode= type= rdev= size= links=`, of the name itself |
//! | `list DIR` | `entry=NAME`, sorted |
//! | `mkdir`, `unlink`, `rmdir PATH`, `symlink TARGET PATH`, `readlink PATH`, `chmod MODE PATH`, `chown UID GID PATH` | as the calls |
//! | `mknod PATH TYPE MAJOR MINOR` | TYPE is `c`, `b` or `p` |
//! | `install PATH` | copies this program, mode 0755 |
//! | `connect PATH` | a stream to a Unix socket, `@NAME` for an abstract one |
//! | `listen PATH` | the other end: prints `ready`, takes one connection, prints `ok` |
//! | `connect-tcp ADDR:PORT`, `listen-tcp ADDR:PORT` | the same; `ready PORT` |
//! | `bind-udp ADDR:PORT` | `ok PORT` |
//! | `syscall NR ARG…` | raw; `ret=N`, or `errno=NAME(N)` and exit 1. ARG is decimal, 0x…, 0o…, `@TEXT` (pointer to a C string), `buf:N` (pointer to N zero bytes) |
//! | `int80 NR ARG…` | through the 32-bit entry, numbers of that table |
//! | `x32 NR ARG…` | with bit 30 set |
//! | `ioctl FD REQUEST ARG` | as `syscall` |
//! | `unshare FLAGS` | as the call |
//! | `mount SOURCE TARGET TYPE FLAGS [DATA]`, `umount TARGET FLAGS` | as the calls; `-` is a null pointer |
//! | `ipc-put KEY`, `ipc-get KEY`, `ipc-remove KEY` | System V: `shm=` and `sem=`, `ok` or an errno's name |
//! | `mq NAME`, `mq-get NAME`, `mq-remove NAME` | a POSIX queue: made; opened; unlinked |
//! | `clock` | `monotonic=`, `boottime=`, `realtime=` in ns |
//! | `sethostname NAME` | as the call |

#![no_main]

use std::ffi::{OsString, c_char, c_int};
use std::fmt::Display;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

mod errno;
mod files;
mod process;
mod raw;
mod report;
mod stream;
mod sys;

/// What follows the verb.
type Args<'a> = &'a [OsString];

#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _values: *const *const c_char) -> c_int {
    let all: Vec<OsString> = std::env::args_os().collect();
    match all.first().map(PathBuf::from).as_ref().and_then(|name| name.file_name()) {
        Some(name) if name == "true" => 0,
        Some(name) if name == "false" => 1,
        _ => run(all.get(1..).unwrap_or_default()),
    }
}

/// Runs one verb.
fn run(all: Args) -> c_int {
    let Some((verb, args)) = all.split_first() else { usage("which verb?") };
    match verb.to_str().unwrap_or_default() {
        "true" => 0,
        "false" => 1,
        "seq" => args.split(|word| word == ",").fold(0, |_, one| run(one)),
        "echo" => say(words(args)),
        "report" => report::report(),
        "fds" => say(report::fds().trim_end()),
        "caps" => say(report::caps().trim_end()),
        "mounts" => say(report::mounts().trim_end()),
        verb => process::verb(verb, args)
            .or_else(|| stream::verb(verb, args))
            .or_else(|| files::verb(verb, args))
            .or_else(|| raw::verb(verb, args))
            .unwrap_or_else(|| usage(format!("no verb {verb:?}"))),
    }
}

/// Prints a line, whatever becomes of it, in one write where the kernel lets it.
fn say(line: impl Display) -> c_int {
    write_all(1, format!("{line}\n").as_bytes());
    0
}

/// Writes to a descriptor; false when that failed.
fn write_all(fd: c_int, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: `bytes` is readable for its length.
        let n = unsafe { sys::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) => bytes = &bytes[n..],
            Err(_) if errno::last() == sys::EINTR => {}
            Err(_) => return false,
        }
    }
    true
}

/// Prints how one attempt ended.
fn outcome(result: io::Result<impl Display>) -> c_int {
    match result {
        Ok(what) => say(format!("ok {what}").trim_end()),
        Err(error) => refused(&error),
    }
}

/// Prints the error of one attempt.
fn refused(error: &io::Error) -> c_int {
    let number = error.raw_os_error().unwrap_or(0);
    say(format_args!("error {number} {}", errno::name(number)));
    1
}

/// A call's result as `io::Result`.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn words(args: Args) -> String {
    args.iter().map(|word| text(word.as_bytes())).collect::<Vec<_>>().join(" ")
}

/// Bytes as one line of text.
fn text(bytes: &[u8]) -> String {
    let mut line = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        if c.is_ascii_control() && c != '\t' {
            line.push_str(&format!("\\x{:02x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    line
}

/// The argument at `index`.
fn arg<'a>(args: Args<'a>, index: usize) -> &'a OsString {
    args.get(index).unwrap_or_else(|| usage(format!("argument {} is missing", index + 1)))
}

/// The argument at `index` as a number: decimal, 0x…, 0o….
fn number(args: Args, index: usize) -> i64 {
    let word = arg(args, index).to_str().unwrap_or_default();
    parse(word).unwrap_or_else(|| usage(format!("not a number: {word:?}")))
}

/// The argument at `index` as an int.
fn int(args: Args, index: usize) -> c_int {
    number(args, index) as c_int
}

/// The argument at `index` as a size or a count.
fn count(args: Args, index: usize) -> usize {
    usize::try_from(number(args, index)).unwrap_or_else(|_| usage("a count is not negative"))
}

fn parse(word: &str) -> Option<i64> {
    if let Some(hex) = word.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok().map(|n| n as i64)
    } else if let Some(octal) = word.strip_prefix("0o") {
        i64::from_str_radix(octal, 8).ok()
    } else {
        word.parse().ok().or_else(|| word.parse::<u64>().ok().map(|n| n as i64))
    }
}

fn usage(why: impl Display) -> ! {
    write_all(2, format!("payload: {why}\n").as_bytes());
    sys::_exit(64)
}
