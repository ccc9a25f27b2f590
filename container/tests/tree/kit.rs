//! What the tests of the tree share.

use ireko::{Builder, Container, Error, Mount, Output, Rootfs};
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use testkit::{TempDir, payload};

/// The default container, with the payload shown.
pub(crate) fn host() -> Builder {
    let program = Mount::bind(payload(), "/run/payload").read_only();
    Container::builder().mount(program).command("/run/payload")
}

/// A default container with this root.
pub(crate) fn in_root(root: impl Into<Rootfs>) -> Builder {
    Container::builder().rootfs(root).command("/bin/payload")
}

/// The arguments that run these verbs one after another.
pub(crate) fn words(verbs: &[&str]) -> Vec<String> {
    let mut words = vec!["seq".to_owned()];
    for verb in verbs {
        words.extend(verb.split(' ').map(str::to_owned));
        words.extend([",", "echo", "--", "--", ","].map(str::to_owned));
    }
    words.push("true".to_owned());
    words
}

/// What each of them said.
#[track_caller]
pub(crate) fn answers<const N: usize>(output: &Output) -> [String; N] {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let mut answers: Vec<String> =
        text.split("-- --\n").map(|one| one.trim_end().to_owned()).collect();
    answers.pop();
    answers.try_into().unwrap_or_else(|other| panic!("{N} answers: {other:?}"))
}

/// Runs verbs one after another in one container: what each said.
#[track_caller]
pub(crate) fn said<const N: usize>(builder: &Builder, verbs: [&str; N]) -> [String; N] {
    let output = builder.clone().args(words(&verbs)).output();
    answers(&output.unwrap_or_else(|error| panic!("{error} ({:?})", error.remedy())))
}

/// The error of a container that cannot be.
#[track_caller]
pub(crate) fn refused(builder: &Builder) -> Error {
    match builder.clone().args(["true"]).output() {
        Ok(output) => panic!("it ran: {output:?}"),
        Err(error) => error,
    }
}

/// A mount as the payload tells of it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) point: String,
    pub(crate) options: String,
    pub(crate) kind: String,
    pub(crate) all: String,
}

impl Line {
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }
}

/// The mounts in the answer of the verb `mounts`.
pub(crate) fn lines(answer: &str) -> Vec<Line> {
    let all = answer.lines().map(|line| line.strip_prefix("mount=").expect(line));
    all.map(|line| {
        let (left, right) = line.split_once(" - ").expect(line);
        let left: Vec<&str> = left.split(' ').collect();
        Line {
            point: left[4].to_owned(),
            options: left[5].to_owned(),
            kind: right.split(' ').next().unwrap_or_default().to_owned(),
            all: line.to_owned(),
        }
    })
    .collect()
}

/// A file or directory that is removed when the test ends.
#[derive(Debug)]
pub(crate) struct Made(pub(crate) PathBuf);

impl Made {
    /// A directory of the host's that everybody can enter; its name is new.
    pub(crate) fn dir(parent: &str) -> Self {
        let name = format!("ireko-test-{}-{}", std::process::id(), unique());
        let path = Path::new(parent).join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("our own directory");
        Self(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let path = &self.0;
        let removed = match path.symlink_metadata() {
            Ok(of) if of.is_dir() => fs::remove_dir_all(path),
            _ => fs::remove_file(path),
        };
        if let Err(error) = removed {
            eprintln!("cannot remove {}: {error}", path.display());
        }
    }
}

fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A socket of the host that somebody listens on.
#[derive(Debug)]
pub(crate) struct Socket {
    path: Made,
    _listener: UnixListener,
}

impl Socket {
    /// With this mode; the host can connect to it.
    pub(crate) fn new(path: impl Into<PathBuf>, mode: u32) -> Self {
        let path = path.into();
        let listener = UnixListener::bind(&path)
            .unwrap_or_else(|error| panic!("listen on {}: {error}", path.display()));
        let path = Made(path);
        fs::set_permissions(&path.0, Permissions::from_mode(mode)).expect("our own socket");
        drop(UnixStream::connect(&path.0).expect("the host gets there"));
        Self { path, _listener: listener }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path.0
    }
}

/// A tree, with all that a change of it would change.
pub(crate) fn fingerprint(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let of = dir.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let (changed, nanos) = (of.ctime(), of.ctime_nsec());
    let (mode, ino, links) = (of.mode(), of.ino(), of.nlink());
    let owner = (of.uid(), of.gid());
    let name = dir.display();
    all.push(format!("{name} {mode:o} {owner:?} {ino} {links} {changed}.{nanos}"));
    if of.is_file() {
        let sum = fs::read(dir).expect("a file of ours").iter().fold(0u64, |sum, byte| {
            sum.rotate_left(5).wrapping_add(u64::from(*byte)).wrapping_mul(0x9e37_79b9)
        });
        all.push(format!("{name} {} {sum:x}", of.len()));
    } else if of.is_symlink() {
        all.push(format!("{name} {:?}", fs::read_link(dir).expect("a link")));
    } else if of.is_dir() {
        let entries = fs::read_dir(dir).expect("a directory of ours");
        let mut entries: Vec<PathBuf> = entries.map(|one| one.unwrap().path()).collect();
        entries.sort();
        all.extend(entries.iter().flat_map(|one| fingerprint(one)));
    }
    all
}

/// A tree of the host that an attack would change: all of it writable for everybody.
#[derive(Debug)]
pub(crate) struct Canary {
    dir: TempDir,
    before: Vec<String>,
}

impl Canary {
    pub(crate) fn new() -> Self {
        let dir = TempDir::public();
        for name in ["", "b", "b/c", "proc", "sys", "dev", "dev/pts", "dev/shm", "etc", "tmp"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        }
        for name in ["secret", "b/secret", "etc/passwd", "dev/null"] {
            fs::write(dir.join(name), "the host's").unwrap();
            fs::set_permissions(dir.join(name), Permissions::from_mode(0o666)).unwrap();
        }
        let before = fingerprint(dir.path());
        Self { dir, before }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Nothing of it has changed, and nothing is mounted there.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(fingerprint(self.path()), self.before);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.path().to_str().unwrap()), "{mounts}");
    }
}

/// Exchanges two names, over and over, until it is stopped.
#[derive(Debug)]
pub(crate) struct Swap {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Swap {
    pub(crate) fn start(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Self {
        let [a, b] = [a.as_ref(), b.as_ref()]
            .map(|path| CString::new(path.as_os_str().as_bytes()).expect("no zero byte"));
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            // An even number, so that both are at the end what they were.
            while !until.load(Ordering::Relaxed) || swaps % 2 == 1 {
                // SAFETY: two strings that end in zero.
                let result = unsafe {
                    libc::renameat2(
                        libc::AT_FDCWD,
                        a.as_ptr(),
                        libc::AT_FDCWD,
                        b.as_ptr(),
                        libc::RENAME_EXCHANGE,
                    )
                };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
                swaps += 1;
                if swaps % 7 == 0 {
                    std::thread::yield_now();
                }
            }
            swaps
        });
        Self { stop, thread: Some(thread) }
    }

    /// How often they were exchanged.
    pub(crate) fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("every exchange worked")
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A directory that is root's alone, and in it the root directory of a container.
#[derive(Debug)]
pub(crate) struct ClosedRoot(TempDir);

impl ClosedRoot {
    pub(crate) fn new() -> Self {
        let above = TempDir::new();
        let root = above.join("root");
        for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "work", "home/user"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for (name, mode) in [("", 0o755), ("home", 0o755), ("tmp", 0o1777), ("work", 0o755)] {
            fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::chown(root.join("home/user"), Some(1000), Some(1000)).unwrap();
        // By another process, as testkit does it.
        let mut install = std::process::Command::new(payload());
        let status = install.arg("install").arg(root.join("bin/payload")).status();
        assert!(status.expect("the payload starts").success());
        Self(above)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.join("root")
    }

    pub(crate) fn above(&self) -> &Path {
        self.0.path()
    }
}

/// uid and gid on disk.
#[track_caller]
pub(crate) fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let of = path.as_ref().symlink_metadata();
    let of = of.unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    (of.uid(), of.gid())
}

/// A line of the payload's answer: `owner`, `mode`, `rdev` and so on.
pub(crate) fn value<'a>(answer: &'a str, key: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Opening for writing, without writing: the answer is `errno=…` or `ret=…`.
pub(crate) fn open_for_writing(path: &str) -> String {
    format!("syscall {} 0 @{path} 0x801 0", libc::SYS_openat)
}
