use crate::{Action, Condition};
use std::borrow::Cow;
use std::fmt;

/// One rule of a [`Profile`](crate::Profile): a call, conditions, what happens.
///
/// Displays as a line of the text of a profile: `ioctl int1 == 0x5412 -> EPERM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(crate) name: Cow<'static, str>,
    /// All of them must hold; none: every call.
    pub(crate) when: Vec<Condition>,
    pub(crate) then: Action,
    pub(crate) layer: Layer,
}

/// Who said it: what the user says of a call takes the place of what a preset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Own,
    Preset,
}

impl Rule {
    /// The name of the call.
    #[must_use]
    pub fn syscall(&self) -> &str {
        &self.name
    }

    /// What it does when its conditions hold.
    #[must_use]
    pub fn action(&self) -> Action {
        self.then
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (n, condition) in self.when.iter().enumerate() {
            write!(f, "{}{condition}", if n == 0 { " " } else { " and " })?;
        }
        if self.then == Action::Allow { Ok(()) } else { write!(f, " -> {}", self.then) }
    }
}
