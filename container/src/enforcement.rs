use super::{Feature, Policy};
use ireko_sys::Errno;
use std::fmt;
use std::sync::Arc;

/// What is in force, feature by feature. Displays as a table.
///
/// Made from what was read back: each step of a start checks what the kernel made of
/// it, and a step that is required and does not hold is an error, not an item.
#[derive(Clone, Debug, Default)]
pub struct Enforcement(pub(crate) Arc<[Item]>);

impl Enforcement {
    /// All that was asked for is in force.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.missing().next().is_none()
    }

    /// Every feature that was asked for.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.0
    }

    /// Those that are not wholly in force.
    pub fn missing(&self) -> impl Iterator<Item = &Item> {
        self.items().iter().filter(|item| item.got != Extent::Full)
    }

    /// What is known of one feature; `None`: nobody asked for it.
    #[must_use]
    pub fn get(&self, feature: Feature) -> Option<&Item> {
        self.0.iter().find(|item| item.feature == feature)
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &*self.0 {
            writeln!(f, "{item}")?;
        }
        Ok(())
    }
}

/// One feature: what was asked, what there is, and why.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Item {
    /// What it is about.
    pub feature: Feature,
    /// How it was asked for.
    pub asked: Policy,
    /// How much of it is in force.
    pub got: Extent,
    /// The value in force, as read back: `64 MiB`, say.
    pub value: Option<String>,
    /// Why not all.
    pub why: Option<Reason>,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:24} {:10} ", self.feature, self.asked)?;
        match (&self.value, &self.why) {
            (None, None) => write!(f, "{}", self.got),
            (None, Some(why)) => write!(f, "{:8} ({why})", self.got),
            (Some(value), None) => write!(f, "{:8} {value}", self.got),
            (Some(value), Some(why)) => write!(f, "{:8} {value} ({why})", self.got),
        }
    }
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent {
    /// All of it.
    Full,
    /// Some of it, as far as this host goes.
    Partial,
    /// Nothing.
    Absent,
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Absent => "absent",
        })
    }
}

/// Why something is not wholly in force. Displays in words.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The kernel does not have it, or is older than it.
    NotInKernel,
    /// The caller may not, or the kernel said something else.
    Refused(Errno),
    /// No cgroup that the caller may write to has this controller.
    NotDelegated {
        /// What to do about it.
        remedy: String,
    },
    /// The kernel took another value.
    Adjusted {
        /// Asked for.
        asked: String,
        /// In force.
        got: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInKernel => f.write_str("this kernel does not have it"),
            Self::Refused(errno) => write!(f, "{errno}"),
            Self::NotDelegated { remedy } => write!(f, "no cgroup to put it in; {remedy}"),
            Self::Adjusted { asked, got } => write!(f, "asked for {asked}, got {got}"),
        }
    }
}
