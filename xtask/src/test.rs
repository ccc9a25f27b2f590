//! All tests, in tiers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build::{self, Binary, Built};
use crate::command::{cargo, output};
use crate::debian;
use crate::run;
use crate::summary::Summary;
use crate::tier::{Tier, is_root};

/// The names of tests that are an ordinary user's contain this.
const ORDINARY: &str = "unpriv_";

/// Builds and runs the tests whose names contain one of the words, or all.
pub(crate) fn run(words: &[String]) -> Summary {
    let mut summary = Summary::default();
    if is_root() {
        summary.add(debian::prepare());
    } else {
        summary.notes.push("run `sudo -E cargo xtask test` for the tests that need root".into());
    }
    let built = match build::build() {
        Ok(built) => built,
        Err(error) => {
            summary.add(Summary::failure(format!("build: {error}")));
            return summary;
        }
    };
    match Scratch::new() {
        Ok(scratch) => summary.add(tiers(&scratch.0, &built, words)),
        Err(error) => summary.add(Summary::failure(format!("a temporary directory: {error}"))),
    }
    summary
}

fn tiers(scratch: &Path, built: &Built, words: &[String]) -> Summary {
    let mut summary = Summary::default();
    let listed: Vec<(&Binary, Vec<String>)> =
        built.tests.iter().map(|binary| (binary, list(binary))).collect();
    let wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let ordinary = |name: &str| is_root() && name.contains(ORDINARY);
    let own = match Tier::own(scratch, built) {
        Ok(own) => own,
        Err(error) => return Summary::failure(format!("the directory for tests: {error}")),
    };
    summary.add(binaries(&own, &listed, |name| wanted(name) && !ordinary(name)));
    summary.add(documentation(&own, words));
    summary.take_skips(own.label, &own.noted());
    if is_root() {
        match Tier::ordinary(scratch, built) {
            Ok(user) => {
                summary.add(binaries(&user, &listed, |name| wanted(name) && ordinary(name)));
                summary.take_skips(user.label, &user.noted());
            }
            Err(error) => summary.add(Summary::failure(format!("an ordinary user: {error}"))),
        }
    }
    summary
}

/// The tests of a binary.
fn list(binary: &Binary) -> Vec<String> {
    let mut command = Command::new(&binary.path);
    command.args(["--list", "--format", "terse"]).stdin(Stdio::null());
    let names = output(&mut command).unwrap_or_default();
    names.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect()
}

fn binaries(
    tier: &Tier,
    listed: &[(&Binary, Vec<String>)],
    wanted: impl Fn(&str) -> bool,
) -> Summary {
    let mut summary = Summary::default();
    for (binary, names) in listed {
        let chosen: Vec<&String> = names.iter().filter(|name| wanted(name)).collect();
        if chosen.is_empty() {
            continue;
        }
        println!("== {}{}", tier.label, binary.name);
        let mut command = match tier.command(binary) {
            Ok(command) => command,
            Err(error) => {
                summary.add(Summary::failure(format!("{}{}: {error}", tier.label, binary.name)));
                continue;
            }
        };
        if chosen.len() < names.len() {
            command.arg("--exact").args(chosen);
        }
        let name = format!("{}{}", tier.label, binary.name);
        summary.add(run::run(&name, &mut command, run::LIMIT));
    }
    summary
}

fn documentation(tier: &Tier, words: &[String]) -> Summary {
    println!("== documentation");
    let mut command = cargo(["test", "--workspace", "--doc", "--no-fail-fast"]);
    command.args(build::features());
    if !words.is_empty() {
        command.arg("--").args(words);
    }
    tier.environment(&mut command);
    run::run("documentation", &mut command, run::LIMIT)
}

/// A directory that anybody can pass, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("ireko-xtask-{}", std::process::id()));
        // Fails when somebody has put something there.
        std::fs::create_dir(&path)?;
        let scratch = Self(path);
        std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o755))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
