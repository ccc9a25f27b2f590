//! The mounts that there must be at the end, for the child to compare.

/// Entries of the table that CheckMounts takes; see `ireko-child`'s `table.rs`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(Vec<String>);

/// For a step that makes a mount which is not in the table.
pub(crate) const UNLISTED: u64 = u64::MAX;

pub(crate) const RDONLY: u64 = 1;
pub(crate) const NOSUID: u64 = 2;
pub(crate) const NODEV: u64 = 4;
pub(crate) const NOEXEC: u64 = 8;

impl Table {
    /// This one must be there, with at least these attributes. The answer of these three
    /// is for the step that makes it.
    pub(crate) fn must(&mut self, path: &str, attributes: u64) -> u64 {
        self.push('=', path, attributes)
    }

    /// This one may be there, and must be when a step has made it.
    pub(crate) fn may(&mut self, path: &str, attributes: u64) -> u64 {
        self.push('?', path, attributes)
    }

    /// This one must be there, with whatever is mounted below.
    pub(crate) fn tree(&mut self, path: &str, attributes: u64) -> u64 {
        self.push('+', path, attributes)
    }

    fn push(&mut self, mark: char, path: &str, attributes: u64) -> u64 {
        let attributes = char::from(b'@' | (attributes & 15) as u8);
        self.0.push(format!("{mark}{attributes}{}", plain(path)));
        self.0.len() as u64 - 1
    }

    /// As the texts of a list.
    pub(crate) fn texts(&self) -> &[String] {
        &self.0
    }
}

/// As the kernel says a path: absolute, without doubled slashes.
fn plain(path: &str) -> String {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_marks_attributes_and_plain_paths() {
        let mut table = Table::default();
        table.must("//a b/./c/", RDONLY | NOSUID | NODEV | NOEXEC);
        assert_eq!(table.may("/", 0), 1);
        assert_eq!(table.texts(), ["=O/a b/c", "?@/"]);
    }
}
