//! A shell that is process 1 and root of a world of its own: new namespaces, and nothing else.
//!
//! `cargo run -p ireko-namespaces --example unshare` opens it; arguments go to the shell, as in
//! `-- -c 'echo $$; ps ax'`. Works as any user. This is `unshare(1)` as a value, from the crate
//! `ireko-namespaces` alone; it isolates but does not confine: for that use the crate `ireko`.

use ireko_namespaces::{Error, Namespaces, Spawn};
use std::process::ExitCode;

fn main() -> Result<ExitCode, Error> {
    let kinds = Namespaces::USER
        | Namespaces::PID
        | Namespaces::MOUNT
        | Namespaces::UTS
        | Namespaces::IPC
        | Namespaces::NET;
    let shell = Spawn::new("/bin/sh")
        .args(std::env::args_os().skip(1))
        .namespaces(kinds)
        // Without a fresh one `/proc` would still show the processes outside.
        .mount_proc()
        .spawn()?;
    let status = shell.wait()?;
    // A shell's own way to tell of a signal would be 128 and more; here it is a plain failure.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
