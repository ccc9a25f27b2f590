//! What the kernel asks of a filter of system calls before it takes it; see
//! `seccomp_check_filter` and `bpf_check_classic`.

use crate::Instruction;
use crate::instruction::code as c;

/// The most that the kernel takes.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;
/// Of `seccomp_data`.
const DATA_BYTES: u32 = 64;
const MEMORY_WORDS: u32 = 16;

pub(crate) fn check(program: &[Instruction]) -> Result<(), String> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(format!("{} instructions, not 1 to {MAX_INSTRUCTIONS}", program.len()));
    }
    // Which words of memory every path to an instruction has stored.
    let mut stored = vec![u16::MAX; program.len()];
    let mut now = 0;
    for (at, instruction) in program.iter().enumerate() {
        now &= stored[at];
        let Instruction { code, jt, jf, k } = *instruction;
        let wrong = |what: &str| Err(format!("instruction {at}: {what}"));
        let mut target = |skip: usize| match stored.get_mut(at + 1 + skip) {
            Some(words) => {
                *words &= now;
                true
            }
            None => false,
        };
        match code {
            c::LD_ABS if k % 4 != 0 || k >= DATA_BYTES => return wrong("loads past the call"),
            c::LD_ABS | c::LD_LEN | c::LDX_LEN | c::LD_IMM | c::LDX_IMM => {}
            c::TAX | c::TXA | c::NEG | c::RET_K | c::RET_A => {}
            c::ST | c::STX | c::LD_MEM | c::LDX_MEM if k >= MEMORY_WORDS => {
                return wrong("no such word of memory");
            }
            c::ST | c::STX => now |= 1 << k,
            c::LD_MEM | c::LDX_MEM => {
                if now & 1 << k == 0 {
                    return wrong("loads what was not stored");
                }
            }
            c::JA => {
                if !target(k as usize) {
                    return wrong("jumps past the end");
                }
                now = u16::MAX;
            }
            _ if is_jump(code) => {
                if !target(usize::from(jt)) || !target(usize::from(jf)) {
                    return wrong("jumps past the end");
                }
                now = u16::MAX;
            }
            _ if is_arithmetic(code) => match (code & 0xf0, code & c::X) {
                (0x30, 0) if k == 0 => return wrong("divides by zero"),
                (0x60 | 0x70, 0) if k >= 32 => return wrong("shifts by more than there are bits"),
                _ => {}
            },
            _ => return wrong("not one that a filter can have"),
        }
    }
    match program.last() {
        Some(Instruction { code: c::RET_K | c::RET_A, .. }) => Ok(()),
        _ => Err("the last instruction does not return".to_owned()),
    }
}

/// Equal, greater, greater or equal, any bit of; with k or X.
pub(crate) fn is_jump(code: u16) -> bool {
    code & 0x07 == c::JMP && code & !c::X & !0x07 != 0 && code & !c::X <= c::JSET_K
}

/// Add, subtract, multiply, divide, or, and, shifts, exclusive or; with k or X.
pub(crate) fn is_arithmetic(code: u16) -> bool {
    code & 0x07 == c::ALU && matches!(code & !c::X & !0x07, 0x00..=0x70 | 0xa0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(program: &[Instruction]) -> String {
        check(program).unwrap_err()
    }

    const RET: Instruction = Instruction::new(c::RET_K, 0);

    #[test]
    fn refuses_what_the_kernel_refuses() {
        let i = Instruction::new;
        assert!(refused(&[]).starts_with("0 instructions"));
        assert!(refused(&vec![RET; 4097]).starts_with("4097 instructions"));
        assert!(refused(&[i(c::LD_ABS, 0)]).contains("does not return"));
        for (bad, why) in [
            (i(c::LD_ABS, 64), "past the call"),
            (i(c::LD_ABS, 2), "past the call"),
            (i(0x28, 0), "not one"),
            (i(0x94, 1), "not one"),
            (i(0x8c, 1), "not one"),
            (i(0xffff, 0), "not one"),
            (i(0x55, 0), "not one"),
            (i(c::JA, 1), "past the end"),
            (i(c::JA, u32::MAX), "past the end"),
            (Instruction { code: c::JEQ_K, jt: 0, jf: 1, k: 0 }, "past the end"),
            (i(0x34, 0), "by zero"),
            (i(0x64, 32), "shifts"),
            (i(c::ST, 16), "memory"),
            (i(c::LD_MEM, 0), "not stored"),
        ] {
            let reason = refused(&[bad, RET]);
            assert!(reason.contains(why), "{bad:?}: {reason}");
        }
    }

    #[test]
    fn memory_must_be_stored_on_every_path() {
        let jump = Instruction { code: c::JEQ_K, jt: 1, jf: 0, k: 0 };
        let load = Instruction::new(c::LD_MEM, 3);
        let store = Instruction::new(c::ST, 3);
        assert!(refused(&[jump, store, load, RET]).contains("not stored"));
        assert_eq!(check(&[store, jump, RET, load, RET]), Ok(()));
    }
}
