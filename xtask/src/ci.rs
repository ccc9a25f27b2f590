//! What has to hold for a commit.

use crate::build::features;
use crate::command::{cargo, step};
use crate::summary::Summary;
use crate::{consumer, test};

/// Runs every check, then the tests.
pub(crate) fn run() -> Summary {
    let mut summary = Summary::default();
    let mut check = |name: &str, good: bool| {
        if !good {
            println!("failed: {name}");
            summary.add(Summary::failure(name));
        }
    };
    check("format", step("format", &mut cargo(["fmt", "--all", "--check"])));
    let mut clippy = cargo(["clippy", "--workspace", "--all-targets"]);
    check("lints", step("lints", clippy.args(features()).args(["--", "-D", "warnings"])));
    let mut doc = cargo(["doc", "--workspace", "--no-deps"]);
    check("documentation", step("documentation", doc.env("RUSTDOCFLAGS", "-D warnings")));
    match consumer::check() {
        Ok(said) => println!("{said}"),
        Err(error) => check(&format!("consumer: {error}"), false),
    }
    summary.add(licences());
    summary.add(test::run(&[]));
    summary
}

/// Bans, licences and sources of what we depend on.
fn licences() -> Summary {
    let name = "cargo deny";
    let there = || cargo(["deny", "--version"]).output().is_ok_and(|out| out.status.success());
    if !there() {
        step("cargo install cargo-deny", &mut cargo(["install", "--locked", "cargo-deny"]));
        if !there() {
            return Summary::skip(name, "cargo-deny is not here and cannot be installed");
        }
    }
    let good = step(name, &mut cargo(["deny", "check", "bans", "licenses", "sources"]));
    if good { Summary::default() } else { Summary::failure(name) }
}
