//! What the tests of confinement, limits and read-back share.
#![allow(dead_code, reason = "each of the binaries uses its own part")]

use ireko::{Builder, Container, Output};
use std::path::Path;
use std::time::Duration;
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

/// A container with this directory as its root, in which `/bin/payload` runs.
pub(crate) fn in_root<const N: usize>(root: impl AsRef<Path>, words: [&str; N]) -> Builder {
    Container::builder().rootfs(root.as_ref()).command("/bin/payload").args(words)
}

/// What the program printed. It must have ended with 0.
#[track_caller]
pub(crate) fn printed(builder: &Builder) -> String {
    let output = builder.output().unwrap_or_else(|error| panic!("{error}; {:?}", error.remedy()));
    assert!(output.status.success(), "{}: {}", output.status, both(&output));
    text(&output.stdout)
}

/// What the program printed, however it ended.
#[track_caller]
pub(crate) fn said(builder: &Builder) -> String {
    let output = builder.output().unwrap_or_else(|error| panic!("{error}; {:?}", error.remedy()));
    text(&output.stdout).trim_end().to_owned()
}

pub(crate) fn both(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines `key=value` that the payload prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report(Vec<(String, String)>);

impl Report {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    #[track_caller]
    pub(crate) fn of(builder: &Builder) -> Self {
        Self::parse(&printed(builder))
    }

    /// The one value of a key.
    #[track_caller]
    pub(crate) fn get(&self, key: &str) -> &str {
        let all = self.all(key);
        assert_eq!(all.len(), 1, "{key} in {self:?}");
        all[0]
    }

    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == key).map(|(_, value)| value.as_str()).collect()
    }

    /// The keys that begin so.
    pub(crate) fn keys(&self, start: &str) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str()).filter(move |key| key.starts_with(start))
    }

    /// A hexadecimal value: a set of capabilities or signals.
    #[track_caller]
    pub(crate) fn bits(&self, key: &str) -> u64 {
        let value = self.get(key);
        u64::from_str_radix(value, 16).unwrap_or_else(|_| panic!("{key}={value}"))
    }

    /// Inheritable, permitted, effective, bounding, ambient.
    #[track_caller]
    pub(crate) fn sets(&self) -> [u64; 5] {
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|key| self.bits(key))
    }

    /// The options of the topmost mount at this place.
    #[track_caller]
    pub(crate) fn options_at(&self, place: &str) -> &str {
        let mut mounts = self.all("mount").into_iter().filter_map(|line| {
            let mut fields = line.split(' ');
            Some((fields.nth(4)?, fields.next()?))
        });
        let found = mounts.rfind(|(at, _)| *at == place);
        found.unwrap_or_else(|| panic!("no mount on {place}: {self:#?}")).1
    }

    /// The mount points, sorted.
    pub(crate) fn mount_points(&self) -> Vec<&str> {
        let lines = self.all("mount").into_iter();
        let mut points: Vec<_> = lines.filter_map(|line| line.split(' ').nth(4)).collect();
        points.sort_unstable();
        points
    }

    /// Without what differs from one start to the next.
    pub(crate) fn steady(&self) -> Vec<(String, String)> {
        let one = |(key, value): &(String, String)| {
            let value = match key.as_str() {
                "mount" => steady_mount(value),
                "hostname" | "pid" | "sid" | "pgid" | "ppid" => return None,
                "uid_map" | "gid_map" => value.split(' ').next().unwrap_or_default().to_owned(),
                "fd" => value.split([':', '[']).next().unwrap_or_default().to_owned(),
                _ if key.starts_with("ns.") => return None,
                _ => value.clone(),
            };
            Some((key.clone(), value))
        };
        self.0.iter().filter_map(one).collect()
    }
}

/// A line of mountinfo without numbers and file systems' own options.
fn steady_mount(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    if words.len() < 6 {
        return line.to_owned();
    }
    let kind = words.iter().position(|word| *word == "-").and_then(|at| words.get(at + 1));
    format!("{} {} {}", words[4], words[5], kind.unwrap_or(&""))
}

/// The link below `/proc/self/ns` of this process.
pub(crate) fn own_namespace(name: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{name}"));
    link.map_or_else(|error| panic!("{name}: {error}"), |link| link.display().to_string())
}
