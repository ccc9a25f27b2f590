//! Ops on the tree: everything by fd, and looked up inside it.

use crate::abi::*;
use crate::op::{Fd, Identity, Op, flag};
use crate::run::{Outcome, State, holds};
use crate::sys::{Answer, call};
use crate::text::Text;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// The kernel's struct statx, as far as it is looked at.
#[repr(C)]
struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    inode: u64,
    rest: [u64; 11],
    rdev_major: u32,
    rdev_minor: u32,
    dev_major: u32,
    dev_minor: u32,
    mount: u64,
    spare: [u64; 13],
}

const _: () = assert!(core::mem::size_of::<Statx>() == 256);

/// In a tree of ours, and on no other mount.
const WITHIN: u64 = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;

/// Tries of a lookup that a rename, of whatever, disturbs: under a storm of them a hundred
/// in a row may be in vain. The caller keeps the time.
const TRIES: u32 = 1 << 16;

fn statx(fd: i32) -> Result<Statx, i32> {
    if fd == AT_FDCWD { statx_at(fd, Text::fixed(c".")) } else { statx_at(fd, Text::fixed(c"")) }
}

/// What is at `path`, or with an empty one the fd itself; a last symlink is not followed.
fn statx_at(fd: i32, path: Text) -> Result<Statx, i32> {
    statx_of(fd, path, STATX_MNT_ID)
}

/// The number of the root's mount that is never used again. Linux 6.8.
pub(crate) fn root_mount() -> Result<u64, i32> {
    Ok(statx_of(AT_FDCWD, Text::fixed(c"/"), STATX_MNT_ID_UNIQUE)?.mount)
}

/// Notes the number of the mount that this entry of the table is.
fn placed(s: &mut State<'_>, entry: u64, tree: usize) -> Outcome {
    if entry != u64::MAX {
        let at = statx_of(tree as i32, Text::fixed(c""), STATX_MNT_ID_UNIQUE)?;
        // An older kernel gives a number that another mount may get: of no use.
        if at.mask & STATX_MNT_ID_UNIQUE != 0 {
            s.placed(entry, at.mount);
        }
    }
    Ok(())
}

fn statx_of(fd: i32, path: Text, more: u32) -> Result<Statx, i32> {
    // SAFETY: numbers alone, for which zero is a value.
    let mut at: Statx = unsafe { core::mem::zeroed() };
    let mask = STATX_TYPE_MODE_INO | more;
    let flags = AT_SYMLINK_NOFOLLOW | if path.is_empty() { AT_EMPTY_PATH } else { 0 };
    call!(nr::STATX, fd, path.as_ptr(), flags, mask, &raw mut at)?;
    Ok(at)
}

/// The same inode of the same file system.
pub(crate) fn same_file(a: i32, b: i32) -> Result<bool, i32> {
    let (a, b) = (statx(a)?, statx(b)?);
    Ok((a.inode, a.dev_major, a.dev_minor) == (b.inode, b.dev_major, b.dev_minor))
}

/// The same file, reached through the same mount.
pub(crate) fn same_place(a: i32, b: i32) -> Result<bool, i32> {
    let (a, b) = (statx(a)?, statx(b)?);
    Ok((a.inode, a.dev_major, a.dev_minor, a.mount) == (b.inode, b.dev_major, b.dev_minor, b.mount))
}

pub(crate) fn open_path(dir: i32, path: Text, flags: u32, resolve: u64) -> Answer {
    open(dir, path, O_PATH | O_CLOEXEC | flags, resolve)
}

pub(crate) fn open(dir: i32, path: Text, flags: u32, resolve: u64) -> Answer {
    let how = OpenHow { flags: u64::from(flags), mode: 0, resolve };
    let mut left = TRIES;
    loop {
        match call!(
            nr::OPENAT2,
            dir,
            path.as_ptr(),
            &raw const how,
            core::mem::size_of::<OpenHow>()
        ) {
            Err(EAGAIN | EINTR) if left > 0 => left = left.wrapping_sub(1),
            answer => return answer,
        }
    }
}

/// Looks a mount point up inside the tree.
fn inside(tree: i32, path: Text, flags: u16) -> Answer {
    let strict = if flags & flag::STRICT != 0 { RESOLVE_NO_SYMLINKS } else { 0 };
    open_path(tree, path, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | strict)
}

fn close(fd: usize) {
    let _ = call!(nr::CLOSE, fd);
}

fn attributes(fd: usize, set: u64, clear: u64, propagation: u64, recursive: bool) -> Outcome {
    let attr = MountAttr { set, clear, propagation, userns: 0 };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    call!(
        nr::MOUNT_SETATTR,
        fd,
        c"".as_ptr(),
        flags,
        &raw const attr,
        core::mem::size_of::<MountAttr>()
    )?;
    Ok(())
}

/// A private copy of the mount at `fd`, with attributes.
fn copy(fd: i32, path: Text, set: u64, recursive: bool) -> Answer {
    let deep = if recursive { AT_RECURSIVE } else { 0 };
    let tree = call!(
        nr::OPEN_TREE,
        fd,
        path.as_ptr(),
        OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | deep
    )?;
    match attributes(tree, set, 0, MS_PRIVATE, recursive) {
        Ok(()) => Ok(tree),
        Err(errno) => {
            close(tree);
            Err(errno)
        }
    }
}

fn move_onto(tree: usize, at: usize) -> Outcome {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    call!(nr::MOVE_MOUNT, tree, c"".as_ptr(), at, c"".as_ptr(), flags)?;
    Ok(())
}

pub(crate) fn private(act: bool) -> Outcome {
    if act {
        let attr = MountAttr { set: 0, clear: 0, propagation: MS_PRIVATE, userns: 0 };
        call!(
            nr::MOUNT_SETATTR,
            AT_FDCWD,
            c"/".as_ptr(),
            AT_RECURSIVE,
            &raw const attr,
            core::mem::size_of::<MountAttr>()
        )?;
        return Ok(());
    }
    Err(EUCLEAN)
}

/// A value of this one byte stands for an option without a value.
const NO_VALUE: u8 = 1;

pub(crate) fn new_fs(s: &mut State<'_>, op: &Op, act: bool) -> Outcome {
    if !act {
        return Ok(());
    }
    let mount = make_fs(s.text(op.a), s.text(op.b), op.x)?;
    s.keep(op.c, mount);
    Ok(())
}

fn make_fs(kind: Text, options: Text, set: u64) -> Answer {
    let fs = call!(nr::FSOPEN, kind.as_ptr(), FSOPEN_CLOEXEC)?;
    let mut key = options;
    while !key.is_empty() {
        let value = key.next();
        let answer = if value.bytes().first() == Some(&NO_VALUE) {
            call!(nr::FSCONFIG, fs, FSCONFIG_SET_FLAG, key.as_ptr(), 0, 0)
        } else {
            call!(nr::FSCONFIG, fs, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0)
        };
        if let Err(errno) = answer {
            close(fs);
            return Err(errno);
        }
        key = value.next();
    }
    let mount = match call!(nr::FSCONFIG, fs, FSCONFIG_CMD_CREATE, 0, 0, 0) {
        Ok(_) => call!(nr::FSMOUNT, fs, FSMOUNT_CLOEXEC, set),
        Err(errno) => Err(errno),
    };
    close(fs);
    mount
}

pub(crate) fn clone_tree(s: &mut State<'_>, op: &Op, act: bool) -> Outcome {
    if !act {
        return Ok(());
    }
    let tree = copy(s.fd(Fd(op.a))?, s.text(op.b), op.x, op.flags & flag::RECURSIVE != 0)?;
    s.keep(op.c, tree);
    Ok(())
}

pub(crate) fn clone_same(s: &mut State<'_>, op: &Op, act: bool) -> Outcome {
    // SAFETY: `run`'s caller promises that `y` leads to one.
    let identity = unsafe { &*s.at(op.y as u32).cast::<Identity>() };
    let fd = open_path(AT_FDCWD, s.text(op.b), 0, 0)?;
    let now = statx(fd as i32)?;
    let now = Identity { major: now.dev_major, minor: now.dev_minor, inode: now.inode };
    if now != *identity {
        close(fd);
        return Err(ESTALE);
    }
    if act {
        let tree = copy(fd as i32, Text::fixed(c""), op.x, op.flags & flag::RECURSIVE != 0);
        close(fd);
        s.keep(op.c, tree?);
    }
    Ok(())
}

pub(crate) fn set_attributes(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    if act {
        let fd = s.fd(Fd(op.a))? as usize;
        attributes(fd, op.x, op.y, 0, op.flags & flag::RECURSIVE != 0)?;
    }
    // That they hold is seen in the table of mounts.
    Ok(())
}

pub(crate) fn open_op(s: &mut State<'_>, op: &Op) -> Outcome {
    let fd = if Fd(op.a) == Fd::CWD {
        open_path(AT_FDCWD, s.text(op.b), 0, RESOLVE_NO_MAGICLINKS)?
    } else {
        inside(s.fd(Fd(op.a))?, s.text(op.b), op.flags)?
    };
    s.keep(op.c, fd);
    Ok(())
}

pub(crate) fn attach(s: &mut State<'_>, op: &Op, act: bool) -> Outcome {
    let tree = s.fd(Fd(op.a))?;
    placed(s, op.y, tree as usize)?;
    let at = inside(s.fd(Fd(op.b))?, s.text(op.c), op.flags)?;
    let outcome = if act { move_onto(tree as usize, at) } else { Ok(()) };
    close(at);
    outcome?;
    if op.flags & flag::READ_BACK != 0 {
        let at = inside(s.fd(Fd(op.b))?, s.text(op.c), op.flags)?;
        let there = same_place(at as i32, tree);
        close(at);
        holds(there?)?;
    }
    Ok(())
}

pub(crate) fn attach_outside(s: &mut State<'_>, op: &Op, act: bool) -> Outcome {
    let tree = s.fd(Fd(op.a))?;
    placed(s, op.y, tree as usize)?;
    if act {
        let at = s.text(op.b).as_ptr();
        let flags = MOVE_MOUNT_F_EMPTY_PATH;
        call!(nr::MOVE_MOUNT, tree, c"".as_ptr(), AT_FDCWD, at, flags)?;
    }
    Ok(())
}

/// The umask is 0 while the tree is made.
pub(crate) fn make_dir(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let dir = s.fd(Fd(op.a))?;
    if act {
        call!(nr::MKDIRAT, dir, s.text(op.b).as_ptr(), op.c)?;
    }
    let mode = statx_at(dir, s.text(op.b))?.mode;
    holds(mode & S_IFMT == S_IFDIR && u32::from(mode & 0o7777) == op.c)
}

/// Whether nothing has to be made.
fn is_there(tree: i32, path: Text) -> bool {
    match inside(tree, path, 0) {
        Ok(fd) => {
            close(fd);
            true
        }
        Err(_) => false,
    }
}

pub(crate) fn make_dirs_inside(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    const MOST: usize = 4096;
    let mut prefix = [0u8; MOST];
    let tree = s.fd(Fd(op.a))?;
    // Perhaps on another mount, where nothing would be made.
    if is_there(tree, s.text(op.b)) {
        return Ok(());
    }
    let path = s.text(op.b).bytes();
    let mut parent = open_path(tree, Text::fixed(c"/"), 0, WITHIN)?;
    let mut name = 0usize;
    let mut i = 0usize;
    while i <= path.len() {
        let byte = path.get(i).copied().unwrap_or(b'/');
        if byte == b'/' && i > name {
            // SAFETY: what follows the bytes so far is still zero.
            let (so_far, last) = unsafe {
                (Text::new(prefix.as_ptr()), Text::new(prefix.as_ptr().wrapping_add(name)))
            };
            let found = match open_path(tree, so_far, 0, WITHIN) {
                Err(ENOENT) if act => {
                    call!(nr::MKDIRAT, parent, last.as_ptr(), 0o755)?;
                    open_path(tree, so_far, 0, WITHIN)?
                }
                answer => answer?,
            };
            close(parent);
            parent = found;
        }
        if byte == b'/' {
            name = i.wrapping_add(1);
        }
        // The last byte stays zero.
        match prefix.get_mut(i) {
            Some(place) if i.wrapping_add(1) < MOST => *place = byte,
            _ => return Err(EINVAL),
        }
        i = i.wrapping_add(1);
    }
    close(parent);
    Ok(())
}

pub(crate) fn make_file(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let tree = s.fd(Fd(op.a))?;
    let path = s.text(op.b);
    if is_there(tree, path) {
        return Ok(());
    }
    if act {
        match create(tree, path, 0o644) {
            Ok(fd) => close(fd),
            Err(EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    close(open_path(tree, path, 0, WITHIN)?);
    Ok(())
}

/// A new, empty file in a tree of ours: never beyond its mount.
fn create(tree: i32, path: Text, mode: u64) -> Answer {
    let flags = u64::from(O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC);
    let how = OpenHow { flags, mode, resolve: WITHIN };
    call!(nr::OPENAT2, tree, path.as_ptr(), &raw const how, core::mem::size_of::<OpenHow>())
}

pub(crate) fn make_link(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let mut text = [0u8; 256];
    let dir = s.fd(Fd(op.a))?;
    let target = s.text(op.b);
    if act {
        call!(nr::SYMLINKAT, target.as_ptr(), dir, s.text(op.c).as_ptr())?;
    }
    let n = call!(nr::READLINKAT, dir, s.text(op.c).as_ptr(), text.as_mut_ptr(), text.len())?;
    // What is longer than the buffer is compared as far as it goes.
    let wanted = target.bytes();
    let wanted = wanted.get(..text.len()).unwrap_or(wanted);
    holds(text.get(..n) == Some(wanted))
}

pub(crate) fn enter_fd(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let dir = s.fd(Fd(op.a))?;
    if act {
        call!(nr::FCHDIR, dir)?;
    }
    holds(same_place(dir, AT_FDCWD)?)
}

pub(crate) fn node(s: &mut State<'_>, op: &Op, act: bool) -> Outcome {
    let dir = s.fd(Fd(op.a))?;
    let host = open_path(AT_FDCWD, s.text(op.c), 0, RESOLVE_NO_MAGICLINKS)?;
    let device = |at: &Statx| {
        at.mode & S_IFMT == S_IFCHR
            && u64::from(at.rdev_major) == op.x >> 32
            && at.rdev_minor == op.x as u32
    };
    // A node of another device, or no node, is an error, never left out.
    if !device(&statx(host as i32)?) {
        close(host);
        return Err(EUCLEAN);
    }
    if act {
        let fd = call!(
            nr::OPENAT,
            dir,
            s.text(op.b).as_ptr(),
            O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC,
            0o666
        )?;
        close(fd);
        let at = open_path(dir, s.text(op.b), 0, RESOLVE_NO_SYMLINKS)?;
        let tree =
            copy(host as i32, Text::fixed(c""), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, false)?;
        let outcome = placed(s, op.y, tree).and_then(|()| move_onto(tree, at));
        close(tree);
        close(at);
        outcome?;
    }
    close(host);
    holds(device(&statx_at(dir, s.text(op.b))?))
}

const NOTHING_ALLOWED: u64 =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

pub(crate) fn mask(s: &mut State<'_>, op: &Op, act: bool) -> Outcome {
    let tree = s.fd(Fd(op.a))?;
    // Looked up before anything is cloned for it: most are not there.
    let at = match inside(tree, s.text(op.b), op.flags) {
        Err(ENOENT | ENOTDIR) => return Ok(()),
        answer => answer?,
    };
    let there = statx(at as i32)?;
    let outcome = if !act {
        Ok(())
    } else if there.mode & S_IFMT == S_IFDIR {
        cover_dir(s, op, at)
    } else {
        cover_file(s, op, at)
    };
    close(at);
    outcome?;
    // That it is hidden is seen in the table of mounts.
    s.must(op.y);
    Ok(())
}

static EMPTY_DIR: [u8; 31] = *b"size\x004k\0nr_inodes\x001\0mode\x000555\0\0";

/// Behind one empty directory for all.
fn cover_dir(s: &mut State<'_>, op: &Op, at: usize) -> Outcome {
    let store = Fd(op.x as u32);
    if s.empty < 0 && store != Fd::CWD {
        s.empty = open_path(s.fd(store)?, Text::fixed(c"empty"), 0, RESOLVE_NO_SYMLINKS)? as i32;
    }
    if s.empty < 0 {
        // SAFETY: a list of texts that ends with an empty one.
        let none = unsafe { Text::new(EMPTY_DIR.as_ptr()) };
        let fresh = make_fs(Text::fixed(c"tmpfs"), none, NOTHING_ALLOWED)?;
        placed(s, op.y, fresh)?;
        move_onto(fresh, at)?;
        s.empty = fresh as i32;
        return Ok(());
    }
    let tree = copy(s.empty, Text::fixed(c""), NOTHING_ALLOWED, false)?;
    let outcome = placed(s, op.y, tree).and_then(|()| move_onto(tree, at));
    close(tree);
    outcome
}

/// Behind the tree's own /dev/null, which must be that.
fn cover_file(s: &mut State<'_>, op: &Op, at: usize) -> Outcome {
    if s.null < 0 {
        let null = open_path(s.fd(Fd(op.c))?, Text::fixed(c"null"), 0, RESOLVE_NO_SYMLINKS)?;
        let source = statx(null as i32)?;
        let is_null = (source.rdev_major, source.rdev_minor) == (1, 3);
        holds(source.mode & S_IFMT == S_IFCHR && is_null)?;
        s.null = null as i32;
    }
    let tree = copy(s.null, Text::fixed(c""), NOTHING_ALLOWED & !MOUNT_ATTR_NODEV, false)?;
    let outcome = placed(s, op.y, tree).and_then(|()| move_onto(tree, at));
    close(tree);
    outcome
}

pub(crate) fn read_only(s: &mut State<'_>, op: &Op, act: bool) -> Outcome {
    let tree = s.fd(Fd(op.a))?;
    let at = match inside(tree, s.text(op.b), op.flags) {
        Err(ENOENT | ENOTDIR) => return Ok(()),
        answer => answer?,
    };
    let mut outcome = Ok(());
    if act {
        let copied = copy(at as i32, Text::fixed(c""), op.x | MOUNT_ATTR_RDONLY, true)?;
        outcome = placed(s, op.y, copied).and_then(|()| move_onto(copied, at));
        close(copied);
    }
    close(at);
    s.must(op.y);
    outcome
}

pub(crate) fn pivot(s: &State<'_>, op: &Op, act: bool) -> Outcome {
    let tree = s.fd(Fd(op.a))?;
    if act {
        call!(nr::FCHDIR, tree)?;
        // Needs no directory of its own: the old root lies on top for a moment.
        call!(nr::PIVOT_ROOT, c".".as_ptr(), c".".as_ptr())?;
        call!(nr::UMOUNT2, c".".as_ptr(), MNT_DETACH)?;
        call!(nr::CHDIR, c"/".as_ptr())?;
    }
    let root = open_path(AT_FDCWD, Text::fixed(c"/"), 0, 0)?;
    let outcome = holds(same_place(root as i32, tree)?);
    close(root);
    outcome
}
