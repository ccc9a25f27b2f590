//! Runs a filter as the kernel would.

use crate::Instruction;
use crate::check::{is_arithmetic, is_jump};
use crate::instruction::code as c;

/// The kernel's `seccomp_data`, as words.
pub(crate) type Call = [u32; 16];

pub(crate) fn call(audit: u32, number: u32, args: [u64; 6]) -> Call {
    let mut words = [0; 16];
    words[0] = number;
    words[1] = audit;
    for (n, arg) in args.into_iter().enumerate() {
        words[4 + 2 * n] = arg as u32;
        words[5 + 2 * n] = (arg >> 32) as u32;
    }
    words
}

/// What a checked program returns. What no such program does ends the thread, as the
/// kernel ends it on a division by zero.
pub(crate) fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let mut at = 0usize;
    while let Some(Instruction { code, jt, jf, k }) = program.get(at).copied() {
        at += 1;
        let operand = if code & c::X == 0 { k } else { x };
        let word = k as usize;
        match code {
            c::RET_K => return k,
            c::RET_A => return a,
            c::LD_ABS => a = call.get(word / 4).copied().unwrap_or(0),
            c::LD_LEN => a = size_of::<Call>() as u32,
            c::LDX_LEN => x = size_of::<Call>() as u32,
            c::LD_IMM => a = k,
            c::LDX_IMM => x = k,
            c::LD_MEM => a = memory.get(word).copied().unwrap_or(0),
            c::LDX_MEM => x = memory.get(word).copied().unwrap_or(0),
            c::ST | c::STX => {
                if let Some(slot) = memory.get_mut(word) {
                    *slot = if code == c::ST { a } else { x };
                }
            }
            c::TAX => x = a,
            c::TXA => a = x,
            c::NEG => a = a.wrapping_neg(),
            c::JA => at = at.saturating_add(word),
            _ if is_jump(code) => {
                let holds = match code & 0xf0 {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    _ => a & operand != 0,
                };
                at += usize::from(if holds { jt } else { jf });
            }
            _ if is_arithmetic(code) => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 => match a.checked_div(operand) {
                        Some(a) => a,
                        None => return 0,
                    },
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.wrapping_shl(operand),
                    0x70 => a.wrapping_shr(operand),
                    _ => a ^ operand,
                };
            }
            _ => return 0,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(program: &[Instruction]) -> u32 {
        run(program, &call(7, 3, [0x1_0000_0002, 0, 0, 0, 0, 0xabcd_0000_0001]))
    }

    #[test]
    fn loads_the_words_of_a_call() {
        let load =
            |offset| result(&[Instruction::new(c::LD_ABS, offset), Instruction::new(c::RET_A, 0)]);
        assert_eq!([0, 4, 8, 16, 20, 56, 60].map(load), [3, 7, 0, 2, 1, 1, 0xabcd]);
    }

    #[test]
    fn computes() {
        let i = Instruction::new;
        let program =
            |code, k| result(&[i(c::LD_IMM, 12), i(c::LDX_IMM, 5), i(code, k), i(c::RET_A, 0)]);
        for (code, k, value) in [
            (0x04, 3, 15),
            (0x0c, 0, 17),
            (0x14, 13, u32::MAX),
            (0x24, 3, 36),
            (0x34, 5, 2),
            (0x44, 3, 15),
            (0x54, 6, 4),
            (0x64, 2, 48),
            (0x74, 2, 3),
            (0xa4, 6, 10),
            (c::NEG, 0, 12u32.wrapping_neg()),
            (c::TXA, 0, 5),
            (c::LD_LEN, 0, 64),
        ] {
            assert_eq!(program(code, k), value, "{code:#x}");
        }
        let by_zero = [i(c::LD_IMM, 9), i(0x3c, 0), i(c::RET_K, 5)];
        assert_eq!(result(&by_zero), 0);
        let memory = [
            i(c::LD_IMM, 9),
            i(c::ST, 15),
            i(c::LD_IMM, 0),
            i(c::LDX_MEM, 15),
            i(c::TXA, 0),
            i(c::RET_A, 0),
        ];
        assert_eq!(result(&memory), 9);
    }

    #[test]
    fn jumps() {
        for (code, k, taken) in
            [(0x15, 3, true), (0x25, 3, false), (0x35, 3, true), (0x45, 4, false), (0x45, 2, true)]
        {
            let program = [
                Instruction::new(c::LD_ABS, 0),
                Instruction { code, jt: 1, jf: 0, k },
                Instruction::new(c::RET_K, 0),
                Instruction::new(c::JA, 1),
                Instruction::new(c::RET_K, 2),
                Instruction::new(c::RET_K, 1),
            ];
            assert_eq!(result(&program), u32::from(taken), "{code:#x} {k}");
        }
    }
}
