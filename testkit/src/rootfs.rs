//! A root directory without a distribution.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{TempDir, payload};

/// A root directory for containers, removed when dropped; see [`rootfs`].
#[derive(Debug)]
pub struct Rootfs {
    /// For everybody to pass, so that whatever a test maps root to can.
    directory: TempDir,
}

const DIRECTORIES: [&str; 23] = [
    "bin",
    "dev",
    "etc",
    "home",
    "home/user",
    "lib",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/lib",
    "var",
    "var/lib",
    "var/log",
    "var/tmp",
    "work",
];

/// Makes a root directory: `/bin/payload`, `/bin/true` and `/bin/false` (the payload under
/// other names), `/etc/{passwd,group,hostname,hosts,resolv.conf}` with the users root (0),
/// user (1000) and nobody (65534), and the usual directories, empty. All of it belongs to who
/// runs the test, and everybody can read it.
///
/// # Panics
/// When it cannot be made.
pub fn rootfs() -> Rootfs {
    let root = Rootfs { directory: TempDir::public() };
    for name in DIRECTORIES {
        root.mkdir(name, 0o755);
    }
    root.mkdir("tmp", 0o1777);
    root.mkdir("var/tmp", 0o1777);
    root.mkdir("root", 0o700);
    root.write(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/payload\n\
         user:x:1000:1000:user:/home/user:/bin/payload\n\
         nobody:x:65534:65534:nobody:/:/bin/false\n",
    );
    root.write("etc/group", "root:x:0:\nuser:x:1000:\ngames:x:60:user\nnogroup:x:65534:\n");
    root.write("etc/hostname", "rootfs\n");
    root.write("etc/hosts", "127.0.0.1\tlocalhost\n");
    root.write("etc/resolv.conf", "");
    root.program("bin/payload");
    for name in ["bin/true", "bin/false"] {
        fs::hard_link(root.join("bin/payload"), root.join(name)).expect("a second name");
    }
    root
}

impl Rootfs {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path of something in it; a leading slash does not matter.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        let name = name.as_ref();
        self.path().join(name.strip_prefix("/").unwrap_or(name))
    }

    /// Makes a directory, or changes the mode of one.
    ///
    /// # Panics
    /// When that fails.
    pub fn mkdir(&self, name: impl AsRef<Path>, mode: u32) -> PathBuf {
        let path = self.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Writes a file of mode 0644.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, contents)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Copies the payload to a new place.
    ///
    /// Another process does that: were the file open for writing in this one, children that
    /// other threads start would hold it open, and executing it would fail with "Text file
    /// busy".
    ///
    /// # Panics
    /// When that fails.
    pub fn program(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        let mut install = Command::new(payload());
        install.arg("install").arg(&path).stdin(Stdio::null());
        let output = install.output().expect("the payload starts");
        assert!(output.status.success(), "{}: {output:?}", path.display());
        path
    }
}

impl AsRef<Path> for Rootfs {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}
