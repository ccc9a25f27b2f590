use crate::{Error, Instruction, Program};

/// A program of `seccompiler`, for the architecture of this program. Needs the feature
/// `seccompiler`.
///
/// # Errors
/// As [`Program::from_instructions`].
impl TryFrom<seccompiler::BpfProgram> for Program {
    type Error = Error;

    fn try_from(program: seccompiler::BpfProgram) -> Result<Self, Error> {
        Self::from_instructions(program.into_iter().map(|i| Instruction {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        }))
    }
}
