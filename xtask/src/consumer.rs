//! The package in `consumer/`, which sees the crates as others do.

use std::collections::BTreeSet;

use crate::command::{cargo, output, step};

const MANIFEST: [&str; 2] = ["--manifest-path", "consumer/Cargo.toml"];
/// How many crates a user of `ireko` may get at most, ours included.
const MOST: usize = 40;
/// What compiles C, or finds it compiled.
const C: [&str; 8] =
    ["autotools", "bindgen", "cc", "cmake", "nasm-rs", "pkg-config", "system-deps", "vcpkg"];
/// Named `-sys` without C: our own, and the constants of the kernel.
const NOT_C: [&str; 2] = ["ireko-sys", "linux-raw-sys"];

/// Builds it, and counts what `ireko` brings.
pub(crate) fn check() -> Result<String, String> {
    let mut build = cargo(["build"]);
    if !step("consumer", build.args(MANIFEST).args(["--target-dir", "target/consumer"])) {
        return Err("does not build".to_owned());
    }
    let normal = tree("normal")?;
    if normal.len() >= MOST {
        let list = normal.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!("ireko brings {MOST} crates or more: {list}"));
    }
    let with_c: Vec<String> =
        tree("normal,build")?.into_iter().filter(|line| compiles_c(line)).collect();
    if !with_c.is_empty() {
        return Err(format!("C would be compiled: {}", with_c.join(", ")));
    }
    Ok(format!("ireko brings {} crates, its own included, and no C", normal.len()))
}

/// The crates that `ireko` with its default features brings, each as `name version`.
fn tree(edges: &str) -> Result<BTreeSet<String>, String> {
    let mut tree = cargo(["tree", "--package", "ireko", "--prefix", "none"]);
    tree.args(MANIFEST).args(["--edges", edges, "--format", "{p}"]);
    let tree = output(&mut tree)?;
    Ok(tree.lines().filter_map(name_and_version).collect())
}

fn name_and_version(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

fn compiles_c(line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or_default();
    C.contains(&name) || name.ends_with("-sys") && !NOT_C.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_tree() {
        let line = name_and_version("libc v0.2.186 (*)");
        assert_eq!(line.as_deref(), Some("libc v0.2.186"));
        assert_eq!(name_and_version(""), None);
    }

    #[test]
    fn c_is_told_by_name() {
        let c = ["cc v1.2.3", "openssl-sys v0.9.1", "ireko-sys v0.1.0", "libc v0.2.1"];
        assert_eq!(c.map(compiles_c), [true, true, false, false]);
    }
}
