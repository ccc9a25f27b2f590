//! Ops on procfs: settings, and what it tells about our namespaces.

use crate::abi::*;
use crate::mount::open;
use crate::op::{Fd, Op, flag};
use crate::run::{Outcome, State, holds};
use crate::sys::call;

/// `self` is a link of procfs's own; nothing else may lead anywhere.
const LOOKUP: u64 = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| matches!(b, b' ' | b'\t' | b'\n')).filter(|word| !word.is_empty())
}

pub(crate) fn write(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let mut back = [0u8; 256];
    let proc = s.fd(Fd(op.a))?;
    let (path, text) = (s.text(op.b), s.text(op.c));
    if act {
        let fd = open(proc, path, O_WRONLY | O_CLOEXEC, LOOKUP)?;
        let answer = call!(nr::WRITE, fd, text.as_ptr(), text.bytes().len());
        call!(nr::CLOSE, fd)?;
        answer?;
    }
    let fd = open(proc, path, O_RDONLY | O_CLOEXEC, LOOKUP)?;
    let answer = call!(nr::READ, fd, back.as_mut_ptr(), back.len());
    call!(nr::CLOSE, fd)?;
    let got = back.get(..answer?).unwrap_or(&[]);
    // Clock offsets are written one at a time, and told all together, a line each.
    let whole = op.flags & flag::EQUAL != 0;
    let mut parts = got.split(|b| *b == b'\n' && !whole);
    holds(parts.any(|part| words(part).eq(words(text.bytes()))))
}

pub(crate) fn check_link(s: &State<'_>, op: &Op) -> Outcome {
    let mut text = [0u8; 64];
    let n = call!(
        nr::READLINKAT,
        s.fd(Fd(op.a))?,
        s.text(op.b).as_ptr(),
        text.as_mut_ptr(),
        text.len()
    )?;
    let same = text.get(..n) == Some(s.text(op.c).bytes());
    holds(same == (op.flags & flag::EQUAL != 0))
}
