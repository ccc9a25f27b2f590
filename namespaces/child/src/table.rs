//! The table of the mounts that there must be, and the comparison with those there are.
//!
//! An entry is text: a mark, its attributes, its path. The mark `=` says that it must be
//! there, `?` that it may be missing unless an op before made it, `+` that it must be there
//! and anything with the same attributes may be mounted below. The attributes are `@` with
//! the bits `RDONLY`, `NOSUID`, `NODEV`, `NOEXEC` added: `O` is all of them.

use crate::abi::*;
use crate::mount::{open, root_mount};
use crate::op::{Fd, Op};
use crate::run::{ENTRIES, Outcome, State, holds};
use crate::sys::call;
use crate::text::Text;
use core::mem::MaybeUninit;

/// Mounts that are asked about at once.
const IDS: usize = 256;

#[derive(Clone, Copy)]
struct Entry {
    mark: u8,
    attributes: u64,
    path: &'static [u8],
}

/// What has been compared so far.
struct Comparison {
    entries: [Entry; ENTRIES],
    count: u32,
    met: u128,
    roots: u32,
}

impl Comparison {
    fn new(table: Text) -> Self {
        let none = Entry { mark: 0, attributes: 0, path: &[] };
        let mut comparison = Self { entries: [none; ENTRIES], count: 0, met: 0, roots: 0 };
        let mut at = table;
        // Taken apart once, since each mount is held against all.
        for place in &mut comparison.entries {
            let &[mark, attributes, ref path @ ..] = at.bytes() else { break };
            *place = Entry { mark, attributes: u64::from(attributes & 15), path };
            comparison.count = comparison.count.wrapping_add(1);
            at = at.next();
        }
        comparison
    }

    fn entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0..self.count).zip(&self.entries)
    }

    /// One mount: its path, its attributes, and whether it is in no peer group. It must be
    /// in the table, or below an entry that allows it.
    fn mount(&mut self, path: &[u8], attributes: u64, private: bool) -> Outcome {
        // Otherwise mounts would cross to or from the host.
        holds(private)?;
        let (mut fits, mut below, mut met) = (false, false, 0u128);
        for (index, entry) in self.entries() {
            let enough = attributes & entry.attributes == entry.attributes;
            if entry.path.len() == path.len() && entry.path == path {
                if enough {
                    fits = true;
                    met |= 1u128.checked_shl(index).unwrap_or(0);
                }
            } else if entry.mark == b'+' && enough {
                let rest = path.strip_prefix(entry.path);
                below |= rest.is_some_and(|rest| entry.path == b"/" || rest.first() == Some(&b'/'));
            }
        }
        self.met |= met;
        if path == b"/" {
            // A second one would be the host's, left behind.
            self.roots = self.roots.wrapping_add(1);
            holds(self.roots == 1)?;
        }
        // One that fits may lie on one that does not: on a mask of an outer container's.
        holds(fits || below)
    }

    /// One mount that a step made as this entry.
    fn known(&mut self, index: u32, attributes: u64, private: bool) -> Outcome {
        holds(private)?;
        let Some(entry) = self.entries.get(index as usize) else { return Err(EUCLEAN) };
        holds(attributes & entry.attributes == entry.attributes)?;
        if entry.path == b"/" {
            self.roots = self.roots.wrapping_add(1);
        }
        self.met |= 1u128.checked_shl(index).unwrap_or(0);
        Ok(())
    }

    fn end(&self, made: u128) -> Outcome {
        holds(self.roots == 1)?;
        for (index, entry) in self.entries() {
            let wanted = entry.mark != b'?' || made.checked_shr(index).unwrap_or(0) & 1 == 1;
            holds(!wanted || self.met.checked_shr(index).unwrap_or(0) & 1 == 1)?;
        }
        Ok(())
    }
}

pub(crate) fn check(s: &State<'_>, op: &Op) -> Outcome {
    let mut comparison = Comparison::new(s.text(op.b));
    match by_number(&mut comparison, &s.mounts) {
        // Before Linux 6.8; a filter around us may say EPERM.
        Err(ENOSYS | EPERM) => {
            comparison = Comparison::new(s.text(op.b));
            by_text(&mut comparison, s.fd(Fd(op.a))?)?;
        }
        answer => answer?,
    }
    comparison.end(s.made)
}

#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    param: u64,
    namespace: u64,
}

/// The kernel's struct statmount, as far as it is looked at, and room for a path.
#[repr(C)]
struct StatMount {
    head: Head,
    spare: [u64; 50],
    text: [u8; 4096],
}

#[repr(C)]
struct Head {
    size: u32,
    options: u32,
    mask: u64,
    device: [u32; 2],
    magic: u64,
    flags: u32,
    kind: u32,
    mount: u64,
    parent: u64,
    old: [u32; 2],
    attributes: u64,
    propagation: u64,
    peer: u64,
    master: u64,
    from: u64,
    root: u32,
    point: u32,
}

/// Where its text begins.
const TEXT: usize = core::mem::offset_of!(StatMount, text);
const _: () = assert!(TEXT == 512);

/// With listmount(2) and statmount(2), a fifth of the price of `mountinfo`.
fn by_number(comparison: &mut Comparison, known: &[u64; ENTRIES]) -> Outcome {
    let mut ids = [0u64; IDS];
    let size = core::mem::size_of::<Request>() as u32;
    let mut request = Request { size, spare: 0, mount: LSMT_ROOT, param: 0, namespace: 0 };
    let n = call!(nr::LISTMOUNT, &raw const request, ids.as_mut_ptr(), ids.len(), 0)?;
    // More than fit: nobody planned so many, but a tree that was copied may hold them.
    if n >= IDS {
        return Err(ENOSYS);
    }
    let root = root_mount()?;
    mount(comparison, &mut request, root, known)?;
    // Kernels differ in whether the root is one of those below it.
    for id in ids.get(..n).unwrap_or(&[]).iter().filter(|id| **id != root) {
        mount(comparison, &mut request, *id, known)?;
    }
    Ok(())
}

/// One mount by its number: that of an entry, or else one that its path must allow.
fn mount(
    comparison: &mut Comparison,
    request: &mut Request,
    id: u64,
    known: &[u64; ENTRIES],
) -> Outcome {
    let mut buffer = MaybeUninit::uninit();
    request.mount = id;
    match (0u32..).zip(known).find(|(_, mount)| **mount == id) {
        // Without its path, which costs more than all the rest of it.
        Some((index, _)) => {
            request.param = STATMOUNT_MNT_BASIC;
            let at = stat(request, &mut buffer)?;
            comparison.known(index, at.attributes, at.propagation == MS_PRIVATE)
        }
        None => {
            request.param = STATMOUNT_MNT_BASIC | STATMOUNT_MNT_POINT;
            let at = stat(request, &mut buffer)?;
            let text = core::ptr::from_ref(at).cast::<u8>().wrapping_add(TEXT);
            // SAFETY: asked for, the kernel put a path there, and a NUL behind it; the
            // buffer is as long as that may be.
            let path = unsafe { Text::new(text.wrapping_add(at.point as usize)) };
            comparison.mount(path.bytes(), at.attributes, at.propagation == MS_PRIVATE)
        }
    }
}

fn stat<'b>(request: &Request, buffer: &'b mut MaybeUninit<StatMount>) -> Result<&'b Head, i32> {
    let size = core::mem::size_of::<StatMount>();
    call!(nr::STATMOUNT, core::ptr::from_ref(request), buffer.as_mut_ptr(), size, 0)?;
    // SAFETY: the kernel fills the fixed part, whatever was asked for.
    Ok(unsafe { &*buffer.as_ptr().cast::<Head>() })
}

/// With the text of `self/mountinfo`.
fn by_text(comparison: &mut Comparison, proc: i32) -> Outcome {
    let mut buffer = [0u8; 8192];
    let mut held = 0usize;
    let lookup = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    let fd = open(proc, Text::fixed(c"self/mountinfo"), O_RDONLY | O_CLOEXEC, lookup)?;
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
                line(comparison, buffer.get(start..i).unwrap_or(&[]))?;
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
    Ok(())
}

fn line(comparison: &mut Comparison, line: &[u8]) -> Outcome {
    let mut fields = line.split(|b| *b == b' ');
    let point = fields.nth(4).ok_or(EUCLEAN)?;
    let options = fields.next().ok_or(EUCLEAN)?;
    let mut attributes = 0;
    for option in options.split(|b| *b == b',') {
        attributes |= match option {
            b"ro" => MOUNT_ATTR_RDONLY,
            b"nosuid" => MOUNT_ATTR_NOSUID,
            b"nodev" => MOUNT_ATTR_NODEV,
            b"noexec" => MOUNT_ATTR_NOEXEC,
            _ => 0,
        };
    }
    let mut optional = fields.take_while(|field| *field != b"-");
    let private =
        !optional.any(|field| field.starts_with(b"shared:") || field.starts_with(b"master:"));
    let mut path = [0u8; 1024];
    let mut n = 0usize;
    for byte in Unescaped(point) {
        // Longer than any of ours.
        *path.get_mut(n).ok_or(EUCLEAN)? = byte;
        n = n.wrapping_add(1);
    }
    comparison.mount(path.get(..n).unwrap_or(&[]), attributes, private)
}

/// A path of `mountinfo`: blanks and backslashes are written in octal.
struct Unescaped<'t>(&'t [u8]);

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = match *self.0 {
            [b'\\', a, b, c, ref rest @ ..] => {
                let digit = |d: u8| d.wrapping_sub(b'0') & 7;
                ((digit(a) << 6) | (digit(b) << 3) | digit(c), rest)
            }
            [byte, ref rest @ ..] => (byte, rest),
            [] => return None,
        };
        self.0 = rest;
        Some(byte)
    }
}
