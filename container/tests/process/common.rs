//! What the tests of processes share.
#![allow(dead_code, reason = "each of the binaries uses its own part")]

use ireko::{Builder, Container, Output};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use testkit::payload;

/// How long one test may take at the most.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A default container that runs the payload: the host's tree, with the payload shown.
pub(crate) fn confined<const N: usize>(words: [&str; N]) -> Builder {
    Container::builder().expose(payload()).command(payload()).args(words)
}

/// A bare start of the payload.
pub(crate) fn bare<const N: usize>(words: [&str; N]) -> Builder {
    Container::bare().command(payload()).args(words)
}

/// Both of them, with a name.
pub(crate) fn both<const N: usize>(words: [&str; N]) -> [(&'static str, Builder); 2] {
    [("confined", confined(words)), ("bare", bare(words))]
}

#[track_caller]
pub(crate) fn output(builder: &Builder) -> Output {
    builder.output().unwrap_or_else(|error| panic!("{error}; {:?}", error.remedy()))
}

/// What the program printed. It must have ended with 0.
#[track_caller]
pub(crate) fn printed(builder: &Builder) -> String {
    let output = output(builder);
    let text = text(&output.stdout);
    assert!(output.status.success(), "{}: {text}{}", output.status, self::text(&output.stderr));
    text
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The value of the one line `key=…`.
#[track_caller]
pub(crate) fn value<'t>(text: &'t str, key: &str) -> &'t str {
    let all = values(text, key);
    assert_eq!(all.len(), 1, "{key} in {text}");
    all[0]
}

/// The values of the lines `key=…`.
pub(crate) fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.filter(|(known, _)| *known == key).map(|(_, value)| value).collect()
}

/// A word that no other process has on its command line.
pub(crate) fn token() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("token-{}-{n}-{:x}", std::process::id(), random())
}

/// Eight random bytes.
pub(crate) fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: room for eight bytes.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    u64::from_ne_bytes(bytes)
}

/// The processes that have this word on their command line, zombies not among them.
pub(crate) fn with_token(token: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for pid in pids() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.split(|b| *b == 0).any(|word| word == token.as_bytes()) {
            found.insert(pid);
        }
    }
    found
}

pub(crate) fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// State and parent, as the stat file has them.
pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = text(&stat);
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Waits until it holds; tells whether it did in time.
pub(crate) fn soon(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

const ROLE: &str = "IREKO_TEST_ROLE";

/// Whether this process was started by [`again`] to play this role.
pub(crate) fn plays(role: &str) -> bool {
    std::env::var_os(ROLE).is_some_and(|now| now == role)
}

/// The running test once more in a process of its own, where it [`plays`] this role: for what
/// would change the process that all tests share.
#[macro_export]
macro_rules! again {
    ($role:expr) => {{
        fn here() {}
        $crate::common::again(std::any::type_name_of_val(&here), $role)
    }};
}

pub(crate) fn again(here: &str, role: &str) -> Command {
    let name = here.strip_suffix("::here").unwrap_or(here).replace("::{{closure}}", "");
    let name = name.split_once("::").map_or("", |(_, name)| name).to_owned();
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command
        .args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::null());
    command
}

/// Runs it to its end, which must be a good one.
#[track_caller]
pub(crate) fn play(mut command: Command) -> String {
    let output = command.output().expect("it starts");
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
    // Else the name was wrong, and nothing has run.
    assert!(said.contains("1 passed"), "{said}");
    said
}

/// A path to the same place that is as long as this.
pub(crate) fn long_path(directory: &str, name: &str, length: usize) -> OsString {
    let mut path = directory.as_bytes().to_vec();
    path.push(b'/');
    while path.len() + name.len() + 2 <= length {
        path.extend_from_slice(b"./");
    }
    if path.len() + name.len() < length {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    assert_eq!(path.len(), length);
    OsString::from_vec(path)
}

/// The groups, in every hierarchy, that have this in their names.
pub(crate) fn groups_with(mark: &str) -> Vec<String> {
    fn walk(directory: &std::path::Path, mark: &str, found: &mut Vec<String>) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name().to_string_lossy().contains(mark) {
                found.push(entry.path().display().to_string());
            }
            walk(&entry.path(), mark, found);
        }
    }
    let mut found = Vec::new();
    walk(std::path::Path::new("/sys/fs/cgroup"), mark, &mut found);
    found
}
