use crate::limits::Item;
use crate::{Controllers, Cpu, Size, Weight};

/// What the kernel really took, read back from its files. Files given
/// [raw](crate::Limits::raw) are not: their form is the kernel's own.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Enforced {
    pub(crate) held: Vec<(&'static str, Value)>,
    pub(crate) adjusted: Vec<Adjusted>,
}

impl Enforced {
    /// The limits in force of those that were asked for: v2 name and value.
    pub fn held(&self) -> impl Iterator<Item = (&'static str, Value)> {
        self.held.iter().copied()
    }

    /// Every value that is not the one asked for: v1 rounds, memory is in pages.
    #[must_use]
    pub fn adjusted(&self) -> &[Adjusted] {
        &self.adjusted
    }
}

/// A value that the kernel changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Adjusted {
    /// The limit's name on v2, `memory.max` say.
    pub name: &'static str,
    /// Whose it is.
    pub controller: Controllers,
    /// What was asked for.
    pub asked: Value,
    /// What is in force; `None`: no limit, or the host has none such.
    pub got: Option<Value>,
}

/// The value of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Bytes, or bytes per second.
    Size(Size),
    /// Processes, operations.
    Count(u64),
    /// Cpu time.
    Cpu(Cpu),
    /// A share.
    Weight(Weight),
    /// On or off.
    Switch(bool),
}

/// A limit that is not in force at all.
pub(crate) fn unheld(item: &Item) -> Adjusted {
    Adjusted { name: item.name, controller: item.controller, asked: item.value, got: None }
}

pub(crate) fn compare(items: &[(Item, Option<Value>)]) -> Enforced {
    let mut enforced = Enforced::default();
    for (item, got) in items {
        if let Some(got) = got {
            enforced.held.push((item.name, *got));
        }
        if *got != Some(item.value) {
            enforced.adjusted.push(Adjusted { got: *got, ..unheld(item) });
        }
    }
    enforced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn tells_what_was_rounded_and_what_was_not_taken() {
        let limits = Limits::new().memory_max(Size::bytes((1 << 20) + 1)).swap_max(Size::mib(1));
        let items = limits.items();
        let got = [Some(Value::Size(Size::mib(1))), None];
        let enforced = compare(&items.iter().copied().zip(got).collect::<Vec<_>>());
        assert_eq!(enforced.held().count(), 1);
        let adjusted = enforced.adjusted();
        assert_eq!(adjusted[0].got, Some(Value::Size(Size::mib(1))));
        assert_eq!((adjusted[1].name, adjusted[1].got), ("memory.swap.max", None));
    }
}
