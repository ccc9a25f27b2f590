//! BPF written from its end to its beginning, so that every target of a jump is there
//! before the jump.

use crate::condition::Test;
use crate::decision::Entry;
use crate::instruction::code::{AND_K, JA, JEQ_K, JGE_K, JGT_K, JSET_K, LD_ABS, RET_K};
use crate::{Action, Condition, Instruction};
use std::collections::HashMap;

/// Offsets in the kernel's `seccomp_data`.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// An instruction, as its place counted from the end of the program.
type Label = usize;

/// Where to jump: for whoever has anything in A, and for who has this word in it.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub(crate) entry: Label,
    loaded: Option<(u32, Label)>,
}

impl Node {
    pub(crate) fn at(entry: Label) -> Self {
        Self { entry, loaded: None }
    }

    fn with(self, word: u32) -> Label {
        self.loaded.filter(|(has, _)| *has == word).map_or(self.entry, |(_, label)| label)
    }
}

/// A conditional jump reaches 255 instructions; a few of room for those put between.
const REACH: usize = 240;

#[derive(Default)]
pub(crate) struct Emitter {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Label>,
}

impl Emitter {
    /// The program, without what nothing jumps to.
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        sweep(&self.reversed)
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        self.reversed.len() - 1
    }

    pub(crate) fn ret(&mut self, action: Action) -> Node {
        Node::at(self.ret_raw(action.raw()))
    }

    fn ret_raw(&mut self, value: u32) -> Label {
        match self.returns.get(&value) {
            Some(label) if self.reversed.len() - label < REACH => *label,
            _ => {
                let label = self.push(Instruction::new(RET_K, value));
                self.returns.insert(value, label);
                label
            }
        }
    }

    /// The target itself, or something nearer that leads to it.
    fn near(&mut self, target: Label) -> Label {
        let distance = self.reversed.len() - target;
        match self.reversed.get(target) {
            _ if distance < REACH => target,
            Some(Instruction { code: RET_K, k, .. }) => self.ret_raw(*k),
            _ => self.push(Instruction::new(JA, (distance - 1) as u32)),
        }
    }

    fn jump(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.near(yes), self.near(no));
        // How many lie between this one and the target: fewer than 256, see REACH.
        let skip = |target: Label| (self.reversed.len() - 1 - target) as u8;
        let (jt, jf) = (skip(yes), skip(no));
        self.push(Instruction { code, jt, jf, k })
    }

    /// A load that goes on at `target`.
    pub(crate) fn load(&mut self, offset: u32, target: Label) -> Label {
        if target + 1 != self.reversed.len() {
            let distance = self.reversed.len() - target;
            self.push(Instruction::new(JA, (distance - 1) as u32));
        }
        self.push(Instruction::new(LD_ABS, offset))
    }

    /// A test of what is in A.
    pub(crate) fn equals(&mut self, k: u32, yes: Label, no: Label) -> Label {
        self.jump(JEQ_K, k, yes, no)
    }

    /// As [`equals`](Self::equals), for "at least".
    pub(crate) fn at_least(&mut self, k: u32, yes: Label, no: Label) -> Label {
        self.jump(JGE_K, k, yes, no)
    }

    fn test(&mut self, code: u16, word: u32, k: u32, yes: Node, no: Node) -> Node {
        let label = self.jump(code, k, yes.with(word), no.with(word));
        Node { entry: self.load(word, label), loaded: Some((word, label)) }
    }

    /// Some bits of one word.
    fn masked(&mut self, word: u32, mask: u32, value: u32, yes: Node, no: Node) -> Node {
        match (mask, value) {
            (0, _) => yes,
            (u32::MAX, _) => self.test(JEQ_K, word, value, yes, no),
            (_, 0) => self.test(JSET_K, word, mask, no, yes),
            _ if mask == value && mask.is_power_of_two() => self.test(JSET_K, word, mask, yes, no),
            _ => {
                // Afterwards A has only the bits, so nobody may count on the word.
                let label = self.jump(JEQ_K, value, yes.entry, no.entry);
                let label = self.and(mask, label);
                Node { entry: self.load(word, label), loaded: Some((word, label)) }
            }
        }
    }

    fn and(&mut self, mask: u32, target: Label) -> Label {
        debug_assert_eq!(target + 1, self.reversed.len());
        self.push(Instruction::new(AND_K, mask))
    }

    fn condition(&mut self, condition: &Condition, yes: Node, no: Node) -> Node {
        let (yes, no) = if condition.holds { (yes, no) } else { (no, yes) };
        // All architectures here have the lower half first.
        let low = ARGS + 8 * u32::from(condition.arg);
        let high = low + 4;
        let halves = |value: u64| ((value >> 32) as u32, value as u32);
        match (condition.test, condition.wide) {
            (Test::Masked { mask, value }, false) => {
                self.masked(low, mask as u32, value as u32, yes, no)
            }
            (Test::Masked { mask, value }, true) => {
                let ((mask_high, mask_low), (high_value, low_value)) =
                    (halves(mask), halves(value));
                let rest = self.masked(low, mask_low, low_value, yes, no);
                self.masked(high, mask_high, high_value, rest, no)
            }
            (Test::AtMost(value), wide) => {
                let (high_value, low_value) = halves(value);
                let rest = match low_value {
                    u32::MAX => yes,
                    _ => self.test(JGT_K, low, low_value, no, yes),
                };
                match high_value {
                    _ if !wide => rest,
                    0 => self.test(JEQ_K, high, 0, rest, no),
                    u32::MAX => self.test(JEQ_K, high, u32::MAX, rest, yes),
                    _ => {
                        let equal = self.test(JEQ_K, high, high_value, rest, yes);
                        self.test(JGT_K, high, high_value, no, equal)
                    }
                }
            }
        }
    }

    /// The list of one call: conditions in turn, each that fails leads to the next entry.
    pub(crate) fn list(&mut self, entries: &[Entry]) -> Option<Node> {
        let (last, before) = entries.split_last()?;
        let mut next = self.ret(last.then);
        for entry in before.iter().rev() {
            let mut node = self.ret(entry.then);
            for condition in entry.when.iter().rev() {
                node = self.condition(condition, node, next);
            }
            next = node;
        }
        Some(next)
    }
}

/// Without the instructions that no path reaches: loads that nobody needed.
fn sweep(code: &[Instruction]) -> Vec<Instruction> {
    let mut reached = vec![false; code.len()];
    let mut next = vec![0];
    while let Some(at) = next.pop() {
        if at >= code.len() || std::mem::replace(&mut reached[at], true) {
            continue;
        }
        match code[at] {
            Instruction { code: RET_K, .. } => {}
            Instruction { code: JA, k, .. } => next.push(at + 1 + k as usize),
            Instruction { code: JEQ_K | JGT_K | JGE_K | JSET_K, jt, jf, .. } => {
                next.extend([at + 1 + usize::from(jt), at + 1 + usize::from(jf)]);
            }
            _ => next.push(at + 1),
        }
    }
    let kept = |range: std::ops::Range<usize>| reached[range].iter().filter(|r| **r).count();
    let shrink = |at: usize, skip: usize| kept(at + 1..at + 1 + skip);
    (0..code.len())
        .filter(|at| reached[*at])
        .map(|at| match code[at] {
            i @ Instruction { code: JA, k, .. } => {
                Instruction { k: shrink(at, k as usize) as u32, ..i }
            }
            // Never more than before, which fitted.
            i => Instruction {
                jt: shrink(at, usize::from(i.jt)) as u8,
                jf: shrink(at, usize::from(i.jf)) as u8,
                ..i
            },
        })
        .collect()
}
