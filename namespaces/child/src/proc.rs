//! Ops on procfs: settings, and what it tells about ourselves.

use crate::abi::*;
use crate::mount::open;
use crate::op::{Fd, Op, flag};
use crate::run::{Outcome, State, holds};
use crate::sys::call;
use crate::text::Text;

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
    // Clock offsets are told in another form than they are written in.
    if op.flags & flag::EQUAL == 0 { Ok(()) } else { holds(words(got).eq(words(text.bytes()))) }
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

/// Entries of the table that are looked for.
const MOST: u32 = 128;

/// Compares `self/mountinfo` with a table: `path NUL options NUL`, ended by an empty
/// path. The path's first byte is a mark: `=` must be there, `?` may be missing, `+` must
/// be there and anything may be mounted below. Every mount must be in the table, be in no peer group, and have at least the
/// options (`ro,nosuid`); every entry must be met.
pub(crate) fn check_mounts(s: &State<'_>, op: &Op) -> Outcome {
    let mut buffer = [0u8; 8192];
    let mut held = 0usize;
    let mut met = 0u128;
    let table = s.text(op.b);
    let fd = open(s.fd(Fd(op.a))?, Text::fixed(c"self/mountinfo"), O_RDONLY | O_CLOEXEC, LOOKUP)?;
    loop {
        let room = buffer.get_mut(held..).unwrap_or(&mut []);
        if room.is_empty() {
            return Err(EUCLEAN);
        }
        let n = call!(nr::READ, fd, room.as_mut_ptr(), room.len())?;
        if n == 0 {
            break;
        }
        held = held.wrapping_add(n);
        let mut start = 0usize;
        let mut i = 0usize;
        while i < held {
            if buffer.get(i) == Some(&b'\n') {
                let line = buffer.get(start..i).unwrap_or(&[]);
                met |= check_line(line, table)?;
                start = i.wrapping_add(1);
            }
            i = i.wrapping_add(1);
        }
        // What is left of a line goes to the front.
        let mut to = 0usize;
        while start.wrapping_add(to) < held {
            let byte = buffer.get(start.wrapping_add(to)).copied().unwrap_or(0);
            if let Some(place) = buffer.get_mut(to) {
                *place = byte;
            }
            to = to.wrapping_add(1);
        }
        held = held.wrapping_sub(start);
    }
    call!(nr::CLOSE, fd)?;
    // Every entry that is no option.
    for (index, entry) in entries(table) {
        holds(entry.mark == b'?' || met >> index & 1 == 1)?;
    }
    Ok(())
}

struct Entry {
    mark: u8,
    path: &'static [u8],
    options: &'static [u8],
}

fn entries(table: Text) -> impl Iterator<Item = (u32, Entry)> {
    let mut at = table;
    (0..MOST).map_while(move |index| {
        let (&mark, path) = at.bytes().split_first()?;
        let options = at.next();
        at = options.next();
        Some((index, Entry { mark, path, options: options.bytes() }))
    })
}

fn check_line(line: &[u8], table: Text) -> Result<u128, i32> {
    let mut fields = line.split(|b| *b == b' ');
    let point = fields.nth(4).ok_or(EUCLEAN)?;
    let options = fields.next().ok_or(EUCLEAN)?;
    for field in fields.take_while(|field| *field != b"-") {
        // A peer, or a slave of one: mounts would cross.
        holds(!field.starts_with(b"shared:") && !field.starts_with(b"master:"))?;
    }
    let mut met = 0u128;
    let mut known = false;
    for (index, entry) in entries(table) {
        match point.strip_prefix(entry.path) {
            Some([]) => {
                known = true;
                let has = |word| options.split(|b| *b == b',').any(|option| option == word);
                if entry.options.split(|b| *b == b',').all(|word| word.is_empty() || has(word)) {
                    met |= 1u128 << index;
                }
            }
            Some([b'/', ..]) if entry.mark == b'+' => known = true,
            _ => {}
        }
    }
    holds(known)?;
    Ok(met)
}
