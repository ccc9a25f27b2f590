//! Verbs about files.

use std::ffi::{CString, OsString, c_int};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink,
};

use crate::{
    Args, arg, check, count, errno, number, outcome, refused, say, sys, text, usage, write_all,
};

/// Runs the verb when it is one of these.
pub(crate) fn verb(verb: &str, args: Args) -> Option<c_int> {
    Some(match verb {
        "read" => outcome(fs::read(arg(args, 0)).map(|all| format!("{} bytes", all.len()))),
        "show" => match fs::read(arg(args, 0)) {
            Ok(all) => c_int::from(!write_all(1, &all)),
            Err(error) => refused(&error),
        },
        "write" => outcome(fs::write(arg(args, 0), word(args)).map(|()| "")),
        "append" => outcome(append(args).map(|()| "")),
        "fill" => fill(args),
        "stat" => stat(args),
        "list" => list(arg(args, 0), "entry"),
        "interfaces" => list(&"/sys/class/net".into(), "interface"),
        "mkdir" => outcome(DirBuilder::new().mode(0o755).create(arg(args, 0)).map(|()| "")),
        "unlink" => outcome(fs::remove_file(arg(args, 0)).map(|()| "")),
        "rmdir" => outcome(fs::remove_dir(arg(args, 0)).map(|()| "")),
        "symlink" => outcome(symlink(arg(args, 0), arg(args, 1)).map(|()| "")),
        "readlink" => {
            outcome(fs::read_link(arg(args, 0)).map(|target| text(target.as_os_str().as_bytes())))
        }
        "chmod" => {
            let mode = arg(args, 0).to_str().and_then(|word| u32::from_str_radix(word, 8).ok());
            let mode = mode.unwrap_or_else(|| usage("a mode is octal"));
            outcome(fs::set_permissions(arg(args, 1), Permissions::from_mode(mode)).map(|()| ""))
        }
        "chown" => {
            let (uid, gid) = (number(args, 0) as u32, number(args, 1) as u32);
            outcome(lchown(arg(args, 2), Some(uid), Some(gid)).map(|()| ""))
        }
        "mknod" => outcome(mknod(args).map(|_| "")),
        "install" => outcome(install(args).map(|()| "")),
        _ => return None,
    })
}

fn word<'a>(args: Args<'a>) -> &'a [u8] {
    args.get(1).map_or(b"x", |word| word.as_bytes())
}

fn append(args: Args) -> io::Result<()> {
    File::options().append(true).open(arg(args, 0))?.write_all(word(args))
}

fn fill(args: Args) -> c_int {
    let limit = count(args, 1) << 20;
    let block = vec![b'x'; 64 << 10];
    let mut file = match File::create(arg(args, 0)) {
        Ok(file) => file,
        Err(error) => return refused(&error),
    };
    let mut wrote = 0;
    while wrote < limit {
        match file.write(&block[..block.len().min(limit - wrote)]) {
            Ok(n) => wrote += n,
            Err(error) => {
                let name = errno::name(error.raw_os_error().unwrap_or(0));
                return say(format_args!("wrote={wrote}\nerrno={name}"));
            }
        }
    }
    say(format_args!("wrote={wrote}\nerrno=none"))
}

fn stat(args: Args) -> c_int {
    let of = match fs::symlink_metadata(arg(args, 0)) {
        Ok(of) => of,
        Err(error) => return refused(&error),
    };
    let kind = match of.file_type() {
        kind if kind.is_dir() => "dir",
        kind if kind.is_symlink() => "link",
        kind if kind.is_char_device() => "char",
        kind if kind.is_block_device() => "block",
        kind if kind.is_fifo() => "fifo",
        kind if kind.is_socket() => "socket",
        _ => "file",
    };
    let device = of.rdev();
    // As the C library's major() and minor().
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & !0xff & 0xffff_ffff);
    say(format_args!("owner={}:{}", of.uid(), of.gid()));
    say(format_args!("mode={:04o}\ntype={kind}\nrdev={major}:{minor}", of.mode() & 0o7777));
    say(format_args!("size={}\nlinks={}", of.size(), of.nlink()))
}

fn list(dir: &OsString, key: &str) -> c_int {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return refused(&error),
    };
    let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let lines = names.iter().map(|name| format!("{key}={}\n", text(name.as_bytes())));
    c_int::from(!write_all(1, lines.collect::<String>().as_bytes()))
}

fn mknod(args: Args) -> io::Result<c_int> {
    let kind = match arg(args, 1).to_str() {
        Some("c") => 0o020_000,
        Some("b") => 0o060_000,
        Some("p") => 0o010_000,
        _ => usage("a node is c, b or p"),
    };
    let (major, minor) = (number(args, 2) as u64, number(args, 3) as u64);
    let device = (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12;
    let path = CString::new(arg(args, 0).as_bytes())?;
    // SAFETY: a string that ends in zero.
    check(unsafe { sys::mknod(path.as_ptr(), kind | 0o666, device) })
}

/// By a process of its own: an open file for writing here would be one for a moment in
/// every child that another thread of a test forks, and then nobody can execute it.
fn install(args: Args) -> io::Result<()> {
    let mut from = File::open("/proc/self/exe")?;
    let mut to = File::options().write(true).create_new(true).mode(0o755).open(arg(args, 0))?;
    io::copy(&mut from, &mut to)?;
    to.set_permissions(Permissions::from_mode(0o755))
}
