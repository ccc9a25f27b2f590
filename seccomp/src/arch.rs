use crate::table::{self, Table};
use crate::{ErrorKind, Result};
use ireko_sys::Failure;

/// Which numbers a filter is for. Default: those of this program.
///
/// A filter is for one architecture. What comes by another one (i386 by `int 0x80`, x32)
/// gets the answer of [`Profile::foreign`](crate::Profile::foreign).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// That of this program.
    #[default]
    Native,
    /// 64-bit x86, without x32.
    X86_64,
    /// 64-bit ARM. There is no table of its calls yet: `Unsupported`.
    Aarch64,
    /// 64-bit RISC-V. There is no table of its calls yet: `Unsupported`.
    Riscv64,
}

impl Arch {
    /// `Native` by its own name, where it has one here.
    pub(crate) fn named(self) -> Option<Self> {
        match self {
            Self::Native if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) => {
                Some(Self::X86_64)
            }
            Self::Native if cfg!(target_arch = "aarch64") => Some(Self::Aarch64),
            Self::Native if cfg!(target_arch = "riscv64") => Some(Self::Riscv64),
            Self::Native => None,
            named => Some(named),
        }
    }

    /// The numbers; `Unsupported` where there is no table of them yet.
    pub(crate) fn table(self) -> Result<&'static Table> {
        match self.named() {
            Some(Self::X86_64) => Ok(&table::X86_64),
            _ => Err(Failure::ours(
                ErrorKind::Unsupported,
                format!("compile for {self:?}"),
                "there is no table of its system calls",
            )
            .into()),
        }
    }
}
