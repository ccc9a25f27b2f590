/// One BPF instruction, as the kernel's `sock_filter`: eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
#[doc(alias = "sock_filter")]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// How many to skip when true.
    pub jt: u8,
    /// How many to skip when false.
    pub jf: u8,
    /// The value.
    pub k: u32,
}

impl Instruction {
    pub(crate) const fn new(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }

    /// As it lies in memory: for programs that travel in an arena.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [a, b, self.jt, self.jf, c, d, e, f]
    }

    /// The reverse of [`to_bytes`](Self::to_bytes).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, jt, jf, c, d, e, f] = bytes;
        Self { code: u16::from_ne_bytes([a, b]), jt, jf, k: u32::from_ne_bytes([c, d, e, f]) }
    }
}

/// The codes that filters of system calls can have; linux/bpf_common.h.
pub(crate) mod code {
    /// A = a word of the call.
    pub(crate) const LD_ABS: u16 = 0x20;
    pub(crate) const LD_LEN: u16 = 0x80;
    pub(crate) const LDX_LEN: u16 = 0x81;
    pub(crate) const LD_IMM: u16 = 0x00;
    pub(crate) const LDX_IMM: u16 = 0x01;
    pub(crate) const LD_MEM: u16 = 0x60;
    pub(crate) const LDX_MEM: u16 = 0x61;
    pub(crate) const ST: u16 = 0x02;
    pub(crate) const STX: u16 = 0x03;
    pub(crate) const TAX: u16 = 0x07;
    pub(crate) const TXA: u16 = 0x87;
    pub(crate) const RET_K: u16 = 0x06;
    pub(crate) const RET_A: u16 = 0x16;
    pub(crate) const JA: u16 = 0x05;
    pub(crate) const JEQ_K: u16 = 0x15;
    pub(crate) const JGT_K: u16 = 0x25;
    pub(crate) const JGE_K: u16 = 0x35;
    pub(crate) const JSET_K: u16 = 0x45;
    pub(crate) const AND_K: u16 = 0x54;
    pub(crate) const NEG: u16 = 0x84;
    /// The class of arithmetic, and that of jumps.
    pub(crate) const ALU: u16 = 0x04;
    pub(crate) const JMP: u16 = 0x05;
    /// The operand is X instead of k.
    pub(crate) const X: u16 = 0x08;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_laid_out_as_sock_filter() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
        assert_eq!(
            std::mem::offset_of!(Instruction, jt),
            std::mem::offset_of!(libc::sock_filter, jt)
        );
        assert_eq!(
            std::mem::offset_of!(Instruction, jf),
            std::mem::offset_of!(libc::sock_filter, jf)
        );
        assert_eq!(
            std::mem::offset_of!(Instruction, k),
            std::mem::offset_of!(libc::sock_filter, k)
        );
        let one = Instruction { code: 0x1234, jt: 5, jf: 6, k: 0x789a_bcde };
        assert_eq!(Instruction::from_bytes(one.to_bytes()), one);
    }
}
