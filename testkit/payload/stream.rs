//! Verbs about the standard streams, terminals and sockets.

use std::ffi::{CStr, c_int};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::time::Duration;

use crate::{Args, arg, check, count, errno, outcome, refused, say, sys, usage, words, write_all};

/// Runs the verb when it is one of these.
pub(crate) fn verb(verb: &str, args: Args) -> Option<c_int> {
    Some(match verb {
        "err" => {
            write_all(2, format!("{}\n", words(args)).as_bytes());
            0
        }
        "flood" => flood(count(args, 0), args.len() > 1),
        "cat" => i32::from(!copy_stdin(true).is_ok_and(|(_, written)| written)),
        "eof" => match copy_stdin(false) {
            Ok((bytes, _)) => say(format_args!("eof={bytes}")),
            Err(error) => refused(&error),
        },
        "tty" => tty(),
        "pty" => pty(),
        "connect" => outcome(unix(args).and_then(|at| UnixStream::connect_addr(&at)).map(|_| "")),
        "listen" => {
            outcome(unix(args).and_then(|at| UnixListener::bind_addr(&at)).and_then(|one| {
                say("ready");
                one.accept().map(|_| "")
            }))
        }
        "connect-tcp" => {
            let time = Duration::from_secs(3);
            outcome(TcpStream::connect_timeout(&address(args), time).map(|_| ""))
        }
        "listen-tcp" => outcome(TcpListener::bind(address(args)).and_then(|one| {
            say(format_args!("ready {}", one.local_addr()?.port()));
            one.accept().map(|_| "")
        })),
        "bind-udp" => outcome(
            UdpSocket::bind(address(args)).and_then(|one| one.local_addr()).map(|at| at.port()),
        ),
        _ => return None,
    })
}

fn flood(bytes: usize, both: bool) -> c_int {
    let block: Vec<u8> = (0..64 << 10).map(|n| if n % 64 == 63 { b'\n' } else { b'x' }).collect();
    let mut left = bytes;
    while left > 0 {
        let part = &block[..left.min(block.len())];
        if !write_all(1, part) || both && !write_all(2, part) {
            return 1;
        }
        left -= part.len();
    }
    0
}

/// How much stdin held, and whether all of it could be written.
fn copy_stdin(write: bool) -> io::Result<(usize, bool)> {
    let mut buffer = vec![0u8; 64 << 10];
    let mut total = 0;
    loop {
        // SAFETY: the buffer is writable for its length.
        let n = unsafe { sys::read(0, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(n) {
            Ok(0) => return Ok((total, true)),
            Ok(n) if write && !write_all(1, &buffer[..n]) => return Ok((total, false)),
            Ok(n) => total += n,
            Err(_) if errno::last() == sys::EINTR => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
}

fn tty() -> c_int {
    for fd in 0..3 {
        say(format_args!("tty.{fd}={}", if sys::isatty(fd) == 1 { "yes" } else { "no" }));
    }
    let controlling = std::fs::File::open("/dev/tty").is_ok();
    say(format_args!("ctty={}", if controlling { "yes" } else { "no" }));
    let mut size = [0u16; 4];
    // TIOCGWINSZ
    // SAFETY: `winsize` is four shorts.
    if unsafe { sys::ioctl(0, 0x5413, size.as_mut_ptr()) } == 0 {
        say(format_args!("size={}x{}", size[0], size[1]));
    } else {
        say("size=?");
    }
    0
}

fn pty() -> c_int {
    // O_RDWR | O_NOCTTY
    let opened = check(sys::posix_openpt(0o402)).and_then(|fd| {
        check(sys::grantpt(fd))?;
        check(sys::unlockpt(fd))?;
        let mut name = [0u8; 64];
        // SAFETY: the buffer has the size it is said to have.
        let error = unsafe { sys::ptsname_r(fd, name.as_mut_ptr().cast(), name.len()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        std::fs::File::options().read(true).write(true).open(path)?;
        Ok(path.display().to_string())
    });
    match opened {
        Ok(name) => say(format_args!("pty={name}")),
        Err(error) => refused(&error),
    }
}

fn unix(args: Args) -> io::Result<UnixAddr> {
    let name = arg(args, 0);
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(name),
    }
}

fn address(args: Args) -> SocketAddr {
    let word = arg(args, 0).to_str().and_then(|word| word.parse().ok());
    word.unwrap_or_else(|| usage("not ADDR:PORT"))
}
