//! What a start would do, step by step, without doing it: a plan displays as text.
//!
//! `cargo run --example explain` plans a confined shell; give a program and its arguments
//! for another. Nothing is made, and the program is not started.

use ireko::cgroups::Cpu;
use ireko::{Container, Error, Size};

fn main() -> Result<(), Error> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().unwrap_or_else(|| "/bin/sh".into());
    let builder = Container::builder().command(program).args(words).hostname("inside");
    let limited = builder
        .clone()
        .memory_limit(Size::mib(64))
        .cpu_limit(Cpu::cores(0.5))
        .pids_limit(64)
        .plan();
    let plan = match limited {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("without limits: {error}");
            if let Some(remedy) = error.remedy() {
                eprintln!("to have them: {remedy}");
            }
            builder.plan()?
        }
    };
    print!("{plan}");
    Ok(())
}
