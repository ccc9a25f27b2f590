//! Runs a shell confined: namespaces of its own, the host's system tree read-only, few
//! capabilities, a system call filter, 64 MiB of memory.
//!
//! `cargo run --example quickstart` needs no image, no network, no set-up, and works as any
//! user. Where the memory limit is not to be had it says what would help, and goes on without.

use ireko::{Container, Error, Feature, Output, Reason, Size, Stage};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(output) if output.status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            eprintln!("  stage {}, kind {:?}", error.stage(), error.kind());
            if let Some(remedy) = error.remedy() {
                eprintln!("  try: {remedy}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Output, Error> {
    let shell = Container::builder()
        .command("/bin/sh")
        .args(["-c", "echo hi; echo $$"])
        .pid_ns()
        .memory_limit(Size::mib(64));

    let output = match shell.output() {
        // What was asked for by a call is required: without it nothing has been started.
        Err(error) if error.stage() == Stage::Cgroup => {
            println!("no memory limit: {error}");
            if let Some(remedy) = error.remedy() {
                println!("to have it: {remedy}");
            }
            println!("going on without it\n");
            shell.prefer(Feature::MemoryLimit).output()?
        }
        answer => answer?,
    };

    println!("ran /bin/sh -c 'echo hi; echo $$', which printed");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        println!("    {line}");
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let usage = output.status.usage();
    print!("{}; {:.1} ms", output.status, usage.wall.as_secs_f64() * 1e3);
    if let Some(peak) = usage.memory_peak {
        print!(", at most {} KiB of memory", peak.as_bytes() / 1024);
    }
    println!("\n\nin force, as read back");
    for item in output.enforcement.items() {
        match item.why {
            // The remedy has been told above, and is the same for each limit.
            Some(Reason::NotDelegated { .. }) => {
                let (feature, asked, got) = (item.feature, item.asked, item.got);
                println!("    {feature:24} {asked:10} {got:8} (no cgroup to put it in)");
            }
            _ => println!("    {item}"),
        }
    }
    let limit = output.enforcement.get(Feature::MemoryLimit);
    if limit.is_none_or(|limit| limit.value.is_none()) {
        println!("\nit ran without a memory limit");
    }
    Ok(output)
}
