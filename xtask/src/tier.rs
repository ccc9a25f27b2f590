//! As whom tests run.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{Binary, Built};
use crate::command::in_ci;
use crate::debian;

/// The uid and gid of the ordinary user when there is none with a name.
const NAMELESS: u32 = 65533;

/// A way to run test binaries.
#[derive(Debug)]
pub(crate) struct Tier {
    /// Goes before the names of what it skips.
    pub(crate) label: &'static str,
    /// What `IREKO_REQUIRE` is in CI, unless set from outside.
    require: &'static str,
    user: Option<User>,
    skips: PathBuf,
    payload: PathBuf,
    examples: PathBuf,
}

/// An ordinary user with directories of its own.
#[derive(Debug)]
struct User {
    uid: u32,
    gid: u32,
    base: PathBuf,
}

/// Names that an ordinary user's tests may have from our environment.
const KEPT: [&str; 6] = ["CI", "LANG", "PATH", "RUST_BACKTRACE", "RUST_TEST_THREADS", "TERM"];

impl Tier {
    /// As who runs this.
    pub(crate) fn own(scratch: &Path, built: &Built) -> io::Result<Self> {
        let root = is_root();
        let skips = scratch.join("skips");
        fs::write(&skips, "")?;
        let examples = built.examples.first().and_then(|path| path.parent());
        Ok(Self {
            label: "",
            require: if root { "root,userns,cgroup" } else { "unprivileged" },
            user: None,
            skips,
            payload: built.payload.clone().unwrap_or_default(),
            examples: examples.unwrap_or(Path::new("")).to_owned(),
        })
    }

    /// As an ordinary user, from copies that anybody can read.
    pub(crate) fn ordinary(scratch: &Path, built: &Built) -> io::Result<Self> {
        let (uid, gid) = debian::user().unwrap_or((NAMELESS, NAMELESS));
        let base = scratch.join("user");
        fs::create_dir(&base)?;
        fs::set_permissions(&base, Permissions::from_mode(0o755))?;
        for (name, mode) in [("home", 0o755), ("tmp", 0o755), ("run", 0o700)] {
            let path = base.join(name);
            DirBuilder::new().mode(mode).create(&path)?;
            chown(&path, Some(uid), Some(gid))?;
        }
        let skips = base.join("skips");
        fs::write(&skips, "")?;
        chown(&skips, Some(uid), Some(gid))?;
        let user = User { uid, gid, base };
        let examples = user.base.join("examples");
        fs::create_dir(&examples)?;
        fs::set_permissions(&examples, Permissions::from_mode(0o755))?;
        for path in &built.examples {
            copy(path, &examples)?;
        }
        let payload = match &built.payload {
            Some(path) => copy(path, &user.base)?,
            None => PathBuf::new(),
        };
        let require = "unprivileged,userns";
        Ok(Self { label: "as a user: ", require, user: Some(user), skips, payload, examples })
    }

    /// The command that runs one binary.
    pub(crate) fn command(&self, binary: &Binary) -> io::Result<Command> {
        let mut command;
        match &self.user {
            None => {
                command = Command::new(&binary.path);
                command.current_dir(&binary.package);
            }
            Some(user) => {
                command = Command::new(copy(&binary.path, &user.base)?);
                // With the uid set and no groups given, std drops the supplementary ones.
                command.uid(user.uid).gid(user.gid).env_clear();
                for name in KEPT {
                    if let Some(value) = std::env::var_os(name) {
                        command.env(name, value);
                    }
                }
                for (name, directory) in
                    [("HOME", "home"), ("TMPDIR", "tmp"), ("XDG_RUNTIME_DIR", "run")]
                {
                    command.env(name, user.base.join(directory));
                }
                let open = is_open(&binary.package);
                command.current_dir(if open { &binary.package } else { &user.base });
            }
        }
        self.environment(&mut command);
        command.env("CARGO_MANIFEST_DIR", &binary.package);
        Ok(command)
    }

    /// Sets what `testkit` reads.
    pub(crate) fn environment(&self, command: &mut Command) {
        command
            .env("IREKO_SKIPS", &self.skips)
            .env("IREKO_PAYLOAD", &self.payload)
            .env("IREKO_EXAMPLES", &self.examples);
        if let Some(value) = std::env::var_os("IREKO_REQUIRE") {
            command.env("IREKO_REQUIRE", value);
        } else if in_ci() {
            command.env("IREKO_REQUIRE", self.require);
        }
    }

    /// What was skipped so far.
    pub(crate) fn noted(&self) -> String {
        fs::read_to_string(&self.skips).unwrap_or_default()
    }
}

/// Copies a program where anybody can read and execute it.
fn copy(from: &Path, into: &Path) -> io::Result<PathBuf> {
    let to = into.join(from.file_name().unwrap_or_default());
    if !to.exists() {
        fs::copy(from, &to)?;
        fs::set_permissions(&to, Permissions::from_mode(0o755))?;
    }
    Ok(to)
}

/// Whether anybody can get there.
fn is_open(path: &Path) -> bool {
    path.ancestors().all(|one| one.metadata().is_ok_and(|of| of.mode() & 0o1 != 0))
}

/// Whether this runs as root, by whose our own /proc entry is.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0)
}
