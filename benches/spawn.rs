//! What a container costs: from the request to a static `true` that has been executed, has
//! ended and of which nothing is left.
//!
//! `cargo bench -p ireko --bench spawn`. Figures of a start mean little alone, since machines
//! drift by half within an hour: each of ours stands beside the same row of `benches/floor`, a
//! C program with nothing between it and the kernel, and beside other tools. All are sampled
//! in one run, one sample of each in every round, in a new random order each time; medians are
//! compared. Ours come from workers, re-executions of this program that answer as
//! `floor --serve` does: so both sides are asked, timed and counted alike.
//!
//! Exits with a failure when a ratio is past its limit, unless `IREKO_BENCH_TELL=1`;
//! `IREKO_BENCH_QUICK=1` takes fewer samples. As root the rows of an ordinary user are taken
//! as uid 65533; as another user there are those rows alone.

#[path = "spawn/peers.rs"]
mod peers;
#[path = "spawn/sampler.rs"]
mod sampler;
#[path = "spawn/table.rs"]
mod table;
#[path = "spawn/worker.rs"]
mod worker;

use criterion::Criterion;
use sampler::{Sampler, Server, User};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use table::Table;
use testkit::TempDir;

/// The ordinary user of a run as root.
const USER: u32 = 65_533;
/// What the largest caller and its floor need at once, and room beside it.
const MEMORY_MIB: u64 = 6 * 1024;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("worker") => return worker::serve(&words[2..]),
        // `cargo test --benches` wants to know that it starts.
        Some("--test" | "--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    match run() {
        Ok(table) => {
            let good = table.print();
            let told = std::env::var_os("IREKO_BENCH_TELL").is_some();
            if good || told { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("spawn: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How much is sampled.
struct Effort {
    rounds: usize,
    threads: usize,
    seconds: f64,
    /// For how long samples are taken again.
    patience: Duration,
}

fn run() -> Result<Table, String> {
    let quick = std::env::var_os("IREKO_BENCH_QUICK").is_some();
    let effort = if quick {
        Effort { rounds: 60, threads: 3, seconds: 0.7, patience: Duration::from_secs(40) }
    } else {
        Effort { rounds: 300, threads: 5, seconds: 2.0, patience: Duration::from_secs(300) }
    };
    let place = Place::new()?;
    let mut table = Table::default();
    let mut sampler = Sampler::default();
    let root = is_root();
    if root {
        root_rows(&place, &mut sampler, &mut table)?;
    }
    user_rows(&place, &mut sampler, &mut table)?;
    sampler.run(effort.rounds, effort.patience);
    if root {
        threads(&place, &effort, &mut sampler, &mut table)?;
    }
    report(&sampler, quick);
    table.fill(&sampler);
    Ok(table)
}

/// A directory that everybody can read, with the programs in it.
struct Place {
    dir: TempDir,
    bench: PathBuf,
    floor: PathBuf,
}

impl Place {
    fn new() -> Result<Self, String> {
        let built = testkit::floor()?;
        let dir = TempDir::public();
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let copy = |from: &Path, name: &str| {
            let to = dir.join(name);
            fs::copy(from, &to)
                .and_then(|_| fs::set_permissions(&to, Permissions::from_mode(0o755)))
                .map_err(|error| format!("{}: {error}", to.display()))?;
            Ok::<_, String>(to)
        };
        let bench = copy(&own, "bench")?;
        let floor = copy(&built.floor, "floor")?;
        // The floor looks for it beside itself.
        copy(&built.r#true, "true")?;
        Ok(Self { dir, bench, floor })
    }

    /// The floor's directory for this user; the tree is in it.
    fn data(&self, user: User) -> Result<PathBuf, String> {
        let path = self.dir.join(if user.is_some() { "user" } else { "own" });
        fs::create_dir_all(&path)
            .and_then(|()| chown(&path, user, user))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    fn floor(&self, user: User, heap: u32) -> Result<Server, String> {
        let mut command = Command::new(&self.floor);
        command.arg("--dir").arg(self.data(user)?).args(["--heap", &heap.to_string()]);
        // Named, lest it tell which others this user cannot have.
        let rows: &[&str] = if is_root() && user.is_none() { &["full"] } else { &["user-full"] };
        Server::start("floor", command.arg("--serve").args(rows), user)
    }

    fn worker(&self, user: User, heap: u32, more: &[&str]) -> Result<Server, String> {
        let mut command = Command::new(&self.bench);
        let root = self.data(user)?.join("rootfs");
        command.arg("worker").arg(root).arg(heap.to_string()).args(more);
        Server::start("ireko", &mut command, user)
    }
}

fn root_rows(place: &Place, sampler: &mut Sampler, table: &mut Table) -> Result<(), String> {
    // The floor comes first: it makes the tree.
    let floor = sampler.server(place.floor(None, 0)?);
    let ours = sampler.server(place.worker(None, 0, &[])?);
    let bare = sampler.subject(ours, "bare");
    let floor_bare = sampler.subject(floor, "bare");
    let full = sampler.subject(ours, "full");
    let floor_full = sampler.subject(floor, "full");
    table.against_floor("bare", bare, floor_bare, 1.2, 1.5);
    let six = (sampler.subject(ours, "six"), sampler.subject(floor, "six"));
    table.against_floor("six namespaces", six.0, six.1, 1.25, 1.4);
    table.against_floor("full, as root", full, floor_full, 1.2, 1.35);
    let anew = sampler.subject(ours, "full-anew");
    table.told("full, planned anew each time", anew, floor_full);
    let command = sampler.subject(ours, "command");
    table.told("std::process::Command", command, floor_bare);

    for (heap, name, gate) in [(256, "256 MiB", None), (2048, "2 GiB", Some(1.2))] {
        if available_mib() < MEMORY_MIB {
            eprintln!("# left out: a caller of {name}: too little memory here");
            continue;
        }
        let large = sampler.server(place.worker(None, heap, &[])?);
        let large_floor = sampler.server(place.floor(None, heap)?);
        for (row, small) in [("bare", bare), ("full", full)] {
            let large_row = sampler.subject(large, row);
            let against = sampler.subject(large_floor, row);
            table.told(&format!("{row}, caller of {name}"), large_row, against);
            let text = format!("{row}, caller of {name} : our own of 0");
            match gate {
                Some(limit) => table.against_own(&text, large_row, small, 1.05, limit),
                None => table.told(&text, large_row, small),
            }
        }
    }

    let bundle = |name: &str| {
        let path = place.dir.join(name);
        peers::write_bundle(&path, &place.data(None)?.join("rootfs"))?;
        Ok::<_, String>(path.to_string_lossy().into_owned())
    };
    let (crun, runc) = (bundle("crun-bundle")?, bundle("runc-bundle")?);
    let mut peer = |name: &str, words: &[&str], reach: f64, text: &str| match peers::find(name) {
        Some(path) => {
            let words = [&[name, path.as_str()], words].concat();
            match place.worker(None, 0, &words).and_then(|mut server| {
                server.ask(name)?;
                Ok(server)
            }) {
                Ok(server) => {
                    let server = sampler.server(server);
                    let theirs = sampler.peer(server, name);
                    table.faster_than(text, full, theirs, reach, name != "runc");
                }
                Err(error) => eprintln!("# left out: {name}: {error}"),
            }
        }
        None => eprintln!("# left out: {name}: not installed"),
    };
    peer(
        "bwrap",
        &[],
        1.5,
        "bubblewrap, six namespaces, capabilities, filter; no masks, no limits",
    );
    peer("crun", &[&crun], 10.0, "crun run, full bundle");
    peer("runc", &[&runc], 10.0, "runc run, full bundle");
    Ok(())
}

fn user_rows(place: &Place, sampler: &mut Sampler, table: &mut Table) -> Result<(), String> {
    let user = is_root().then_some(USER);
    let floor = sampler.server(place.floor(user, 0)?);
    let ours = sampler.server(place.worker(user, 0, &[])?);
    if !is_root() {
        let bare = (sampler.subject(ours, "bare"), sampler.subject(floor, "bare"));
        table.against_floor("bare", bare.0, bare.1, 1.2, 1.5);
    }
    let full = (sampler.subject(ours, "user-full"), sampler.subject(floor, "user-full"));
    table.against_floor("full, as a user", full.0, full.1, 1.2, 1.35);
    Ok(())
}

/// Rates, which cannot be interleaved by the sample: in turns.
fn threads(
    place: &Place,
    effort: &Effort,
    sampler: &mut Sampler,
    table: &mut Table,
) -> Result<(), String> {
    let mut ours = place.worker(None, 0, &[])?;
    let (data, seconds) = (place.data(None)?, effort.seconds.to_string());
    for threads in [1, 2, 8] {
        let (mut our_rates, mut floor_rates) = (Vec::new(), Vec::new());
        let mut failures = 0;
        for turn in 0..effort.threads {
            let mut own = || -> Result<(), String> {
                let answer = ours.ask(&format!("threads {threads} {seconds}"))?;
                our_rates.push(answer[0]);
                failures += answer[1] as u64;
                Ok(())
            };
            let mut other = || -> Result<(), String> {
                let rate = sampler::floor_rate(&place.floor, &data, threads, &seconds)?;
                floor_rates.push(rate);
                Ok(())
            };
            // Who comes second finds the machine warmer.
            if turn % 2 == 0 {
                own()?;
                other()?;
            } else {
                other()?;
                own()?;
            }
        }
        let limit = (threads == 8).then_some(0.7);
        table.rate(threads, &mut our_rates, &mut floor_rates, limit);
        sampler.failures += failures;
    }
    Ok(())
}

/// How long criterion is to think that a sample takes: a replay takes no time at all.
const PRETENCE: Duration = Duration::from_millis(2);

/// Has criterion say how each is distributed, and compare with the run before.
fn report(sampler: &Sampler, quick: bool) {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_nanos(1))
        .nresamples(if quick { 2_000 } else { 20_000 });
    for (name, samples) in sampler.named() {
        if samples.len() < 10 {
            continue;
        }
        let mut next = 0;
        // A few times what the first call says that one takes, so that all fit in.
        let time = PRETENCE * 4 * samples.len() as u32;
        criterion = criterion.sample_size(samples.len()).measurement_time(time);
        let mut group = criterion.benchmark_group("spawn");
        group.sampling_mode(criterion::SamplingMode::Flat);
        // Each of its samples is one of ours, whatever it asks for: they were taken before,
        // since it runs one row after the other.
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                if next == 0 {
                    std::thread::sleep(PRETENCE);
                }
                let sample = samples[next % samples.len()];
                next += 1;
                Duration::from_nanos((sample * iterations as f64) as u64)
            });
        });
        group.finish();
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn available_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
