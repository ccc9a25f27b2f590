//! Getting the machine ready, where that is possible.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{exists, in_ci};
use crate::summary::Summary;

/// Programs that tests compare with or call, and the packages that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("bwrap", "bubblewrap"),
    ("crun", "crun"),
    ("runc", "runc"),
    ("newuidmap", "uidmap"),
    ("gcc", "gcc"),
];

/// The ordinary user that CI makes: one with a name has subordinate ids.
pub(crate) const USER: &str = "ireko-test";

/// Installs what is missing, as root; without it the tests that need it are skipped.
pub(crate) fn prepare() -> Summary {
    let mut summary = Summary::default();
    let missing = PROGRAMS.iter().filter(|(program, _)| !exists(program));
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !packages.is_empty() {
        let list = packages.join(" ");
        if !exists("apt-get") {
            summary.notes.push(format!("not installed, and there is no apt-get: {list}"));
        } else if !install(&packages) {
            summary.notes.push(format!("apt-get cannot install: {list}"));
        }
    }
    if in_ci() && user().is_none() && exists("useradd") {
        let made = run(Command::new("useradd")
            .args(["--no-create-home", "--shell"])
            .args(["/usr/sbin/nologin", USER]));
        if !made {
            summary.notes.push(format!("useradd cannot make the user {USER}"));
        }
    }
    summary
}

fn install(packages: &[&str]) -> bool {
    println!("== apt-get install {}", packages.join(" "));
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(words);
        run(&mut command)
    };
    let install = [&["install", "--no-install-recommends"], packages].concat();
    apt(&install) || apt(&["update"]) && apt(&install)
}

fn run(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Uid and gid of [`USER`].
pub(crate) fn user() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [USER, _, uid, gid, ..] = fields[..] else { return None };
        Some((uid.parse().ok()?, gid.parse().ok()?))
    })
}
