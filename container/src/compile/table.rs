//! The mounts that there must be at the end, for the child to compare.

use std::fmt::Write;

/// Entries of the table that CheckMounts takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(Vec<(char, String, &'static str)>);

pub(crate) const RDONLY: u64 = 1;
pub(crate) const NOSUID: u64 = 2;
pub(crate) const NODEV: u64 = 4;
pub(crate) const NOEXEC: u64 = 8;

fn options(attributes: u64) -> &'static str {
    const WORDS: [&str; 16] = [
        "",
        "ro",
        "nosuid",
        "ro,nosuid",
        "nodev",
        "ro,nodev",
        "nosuid,nodev",
        "ro,nosuid,nodev",
        "noexec",
        "ro,noexec",
        "nosuid,noexec",
        "ro,nosuid,noexec",
        "nodev,noexec",
        "ro,nodev,noexec",
        "nosuid,nodev,noexec",
        "ro,nosuid,nodev,noexec",
    ];
    WORDS[(attributes & 15) as usize]
}

impl Table {
    /// This one must be there.
    pub(crate) fn must(&mut self, path: &str, attributes: u64) {
        self.push('=', path, attributes);
    }

    /// This one may be there.
    pub(crate) fn may(&mut self, path: &str, attributes: u64) {
        self.push('?', path, attributes);
    }

    /// This one must be there, with whatever is mounted below.
    pub(crate) fn tree(&mut self, path: &str, attributes: u64) {
        self.push('+', path, attributes);
    }

    fn push(&mut self, mark: char, path: &str, attributes: u64) {
        self.0.push((mark, escaped(path), options(attributes)));
    }

    /// As the texts of a list.
    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .flat_map(|(mark, path, options)| [format!("{mark}{path}"), (*options).to_owned()])
    }
}

/// As procfs writes a path: absolute, without doubled slashes, blanks in octal.
fn escaped(path: &str) -> String {
    let mut text = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        text.push('/');
        for c in part.chars() {
            match c {
                ' ' | '\t' | '\n' | '\\' => {
                    let _ = write!(text, "\\{:03o}", c as u32);
                }
                c => text.push(c),
            }
        }
    }
    if text.is_empty() { "/".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_paths_as_procfs_does() {
        let mut table = Table::default();
        table.must("//a b/./c\\d/", RDONLY | NOSUID);
        table.may("/", 0);
        let texts: Vec<_> = table.texts().collect();
        assert_eq!(texts, ["=/a\\040b/c\\134d", "ro,nosuid", "?/", ""]);
    }
}
