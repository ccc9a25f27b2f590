//! Names and numbers.

mod x86_64;

use std::sync::LazyLock;

/// The calls of one architecture.
#[derive(Debug)]
pub(crate) struct Table {
    /// `AUDIT_ARCH_*`, which a filter finds beside the number.
    pub(crate) audit: u32,
    /// By number.
    pub(crate) names: &'static [(u32, &'static str)],
    /// From where on the numbers are those of another ABI.
    pub(crate) foreign_from: Option<u32>,
    by_name: LazyLock<Vec<(&'static str, u32)>>,
}

pub(crate) static X86_64: Table = Table {
    audit: 0xc000_003e,
    names: x86_64::NAMES,
    // __X32_SYSCALL_BIT
    foreign_from: Some(0x4000_0000),
    by_name: LazyLock::new(|| by_name(x86_64::NAMES)),
};

/// All there are: a name that is in none of them is a mistake.
const ALL: &[&Table] = &[&X86_64];

fn by_name(names: &'static [(u32, &'static str)]) -> Vec<(&'static str, u32)> {
    let mut sorted: Vec<_> = names.iter().map(|(number, name)| (*name, *number)).collect();
    sorted.sort_unstable();
    sorted
}

impl Table {
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        let at = self.by_name.binary_search_by_key(&name, |(name, _)| name).ok()?;
        self.by_name.get(at).map(|(_, number)| *number)
    }

    pub(crate) fn name(&self, number: u32) -> Option<&'static str> {
        let at = self.names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.names.get(at).map(|(_, name)| *name)
    }
}

/// Whether any architecture has a call of this name.
pub(crate) fn is_known(name: &str) -> bool {
    ALL.iter().any(|table| table.number(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_names_unique() {
        for table in ALL {
            assert!(table.names.windows(2).all(|pair| pair[0].0 < pair[1].0));
            assert!(table.by_name.windows(2).all(|pair| pair[0].0 < pair[1].0));
            for (number, name) in table.names {
                assert_eq!(table.number(name), Some(*number));
                assert_eq!(table.name(*number), Some(*name));
            }
        }
        assert_eq!(X86_64.number("file_setattr"), Some(469));
        assert_eq!((X86_64.number(""), X86_64.name(337)), (None, None));
        assert!(is_known("read") && !is_known("reed"));
    }
}
