//! The workspace's own commands.
//!
//! `cargo xtask test [NAME…]` runs the tests whose names contain one of the words, or all:
//! first every test binary except `unpriv_*`, as who runs it, then `unpriv_*` as an ordinary
//! user, then those in the documentation. The last line is `N passed, N failed, N skipped`.
//!
//! `cargo xtask ci` checks format, lints, documentation, dependencies and the package that uses
//! the crates from outside, then runs the tests.

use std::path::Path;
use std::process::ExitCode;

mod build;
mod ci;
mod command;
mod consumer;
mod debian;
mod run;
mod summary;
mod test;
mod tier;

const USAGE: &str = "usage: cargo xtask test [NAME…] | ci";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // This package's directory is one below the root.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    if root.is_none_or(|root| std::env::set_current_dir(root).is_err()) {
        eprintln!("the workspace is not where it was when xtask was built");
        return ExitCode::FAILURE;
    }
    let summary = match words.split_first() {
        Some((word, names)) if word == "test" => test::run(names),
        Some((word, [])) if word == "ci" => ci::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    summary.print();
    if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
