//! What became of the tests.

use std::collections::BTreeSet;

/// Sums and names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// What failed, tests or not.
    pub(crate) failures: Vec<String>,
    /// What was skipped and why.
    pub(crate) skips: BTreeSet<(String, String)>,
    /// What the person at the terminal should know.
    pub(crate) notes: Vec<String>,
}

impl Summary {
    /// One failure that is not a test's.
    pub(crate) fn failure(what: impl Into<String>) -> Self {
        Self { failed: 1, failures: vec![what.into()], ..Self::default() }
    }

    /// One skip that is not a test's.
    pub(crate) fn skip(what: impl Into<String>, reason: impl Into<String>) -> Self {
        let skips = BTreeSet::from([(what.into(), reason.into())]);
        Self { skips, ..Self::default() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.skips.extend(other.skips);
        self.notes.extend(other.notes);
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0
    }

    pub(crate) fn line(&self) -> String {
        let skipped = self.skips.len();
        format!("{} passed, {} failed, {skipped} skipped", self.passed, self.failed)
    }

    pub(crate) fn print(&self) {
        println!();
        for (what, reason) in &self.skips {
            println!("skipped: {what}: {reason}");
        }
        for note in &self.notes {
            println!("note: {note}");
        }
        for what in &self.failures {
            println!("failed: {what}");
        }
        println!("{}", self.line());
    }

    /// The tests that ended early for want of something, one a line: name, tab, reason. To the
    /// harness they passed.
    pub(crate) fn take_skips(&mut self, of: &str, noted: &str) {
        let mut seen = BTreeSet::new();
        for line in noted.lines() {
            let (test, reason) = line.split_once('\t').unwrap_or((line, "no reason given"));
            if seen.insert(test) {
                self.passed = self.passed.saturating_sub(1);
                self.skips.insert((format!("{of}{test}"), reason.to_owned()));
            }
        }
    }

    /// A binary's output, a line of it.
    pub(crate) fn take_line(&mut self, binary: &str, line: &str) -> Option<Totals> {
        if let Some(totals) = Totals::parse(line) {
            self.passed += totals.passed;
            self.failed += totals.failed;
            return Some(totals);
        }
        let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
        if result == "FAILED" {
            self.failures.push(format!("{binary}: {name}"));
        } else if let Some(reason) = result.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            let reason = if reason.is_empty() { "ignored" } else { reason };
            self.skips.insert((format!("{binary}: {name}"), reason.to_owned()));
        }
        None
    }
}

/// What the last line of the test harness says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Totals {
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            let mut parts = counts.split("; ").map(str::trim);
            parts.find_map(|part| part.strip_suffix(what)?.trim().parse().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_is_read() {
        let mut summary = Summary::default();
        for line in [
            "running 4 tests",
            "test a ... ok",
            "test b::c ... FAILED",
            "test d ... ignored",
            "test e ... ignored, needs an oven",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.37s",
        ] {
            summary.take_line("bin", line);
        }
        assert_eq!((summary.passed, summary.failed), (1, 1));
        assert_eq!(summary.failures, ["bin: b::c"]);
        let skips: Vec<_> = summary.skips.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(skips, [("bin: d", "ignored"), ("bin: e", "needs an oven")]);
        assert_eq!(summary.line(), "1 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn a_skip_did_not_pass() {
        let mut summary = Summary { passed: 3, ..Summary::default() };
        summary.take_skips("", "one\tno root\ntwo\tno oven\none\tno root\n");
        assert_eq!(summary.line(), "1 passed, 0 failed, 2 skipped");
    }
}
