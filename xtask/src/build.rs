//! Building everything that tests need, once.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::command::{cargo, output};

/// A test binary.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    /// As a person would call it: package and target.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Where its package is.
    pub(crate) package: PathBuf,
}

/// What there is to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Built {
    pub(crate) tests: Vec<Binary>,
    pub(crate) examples: Vec<PathBuf>,
    pub(crate) payload: Option<PathBuf>,
}

/// The features that tests want, as arguments for cargo.
pub(crate) fn features() -> Vec<String> {
    const WANTED: (&str, &str) = ("ireko", "fault-injection");
    let mut metadata = cargo(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata = output(&mut metadata).unwrap_or_default();
    let metadata: Value = serde_json::from_str(&metadata).unwrap_or_default();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let has = packages
        .filter(|package| package["name"] == WANTED.0)
        .any(|package| package["features"].get(WANTED.1).is_some());
    if has { vec!["--features".into(), format!("{}/{}", WANTED.0, WANTED.1)] } else { Vec::new() }
}

/// Builds.
pub(crate) fn build() -> Result<Built, String> {
    println!("== build");
    let mut command = cargo(["test", "--workspace", "--no-run"]);
    command.args(["--message-format", "json-render-diagnostics"]).args(features());
    let messages = output(command.stdout(Stdio::piped()))?;
    let mut built = parse(&messages);
    built.tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(built)
}

fn parse(messages: &str) -> Built {
    let mut built = Built::default();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let package = message["package_id"].as_str().unwrap_or_default();
        if message["reason"] == "build-script-executed" {
            if package.contains("/testkit#") {
                built.payload =
                    message["out_dir"].as_str().map(|dir| Path::new(dir).join("payload"));
            }
            continue;
        }
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let target = &message["target"];
        let kind = target["kind"][0].as_str().unwrap_or_default();
        if message["profile"]["test"] == true {
            let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
            let package = manifest.parent().unwrap_or(Path::new("")).to_owned();
            let directory = package.file_name().unwrap_or_default().to_string_lossy();
            let target = target["name"].as_str().unwrap_or_default();
            let name = match kind {
                "test" => format!("{directory}/tests/{target}"),
                "example" => format!("{directory}/examples/{target}"),
                _ => format!("{directory} ({target})"),
            };
            built.tests.push(Binary { name, path, package });
        } else if kind == "example" {
            built.examples.push(path);
        }
    }
    built
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let built = parse(concat!(
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/sys#ireko-sys@0.1.0","manifest_path":"/w/sys/Cargo.toml","target":{"kind":["lib"],"name":"ireko_sys"},"profile":{"test":false},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/sys#ireko-sys@0.1.0","manifest_path":"/w/sys/Cargo.toml","target":{"kind":["lib"],"name":"ireko_sys"},"profile":{"test":true},"executable":"/t/ireko_sys-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/container#ireko@0.1.0","manifest_path":"/w/container/Cargo.toml","target":{"kind":["test"],"name":"limits"},"profile":{"test":true},"executable":"/t/limits-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/container#ireko@0.1.0","manifest_path":"/w/container/Cargo.toml","target":{"kind":["example"],"name":"hello"},"profile":{"test":false},"executable":"/t/examples/hello"}"#,
            "\n",
            r#"{"reason":"build-script-executed","package_id":"path+file:///w/testkit#ireko-testkit@0.1.0","out_dir":"/t/out"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        ));
        let names: Vec<_> = built.tests.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["sys (ireko_sys)", "container/tests/limits"]);
        assert_eq!(built.tests[1].package, Path::new("/w/container"));
        assert_eq!(built.examples, [Path::new("/t/examples/hello")]);
        assert_eq!(built.payload.as_deref(), Some(Path::new("/t/out/payload")));
    }
}
