//! Who is asked for samples, and what they answered.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Another user to run as.
pub(crate) type User = Option<u32>;

/// A process that answers each line with numbers, the first of them nanoseconds.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        user: User,
    ) -> Result<Self, String> {
        if let Some(id) = user {
            command.uid(id).gid(id);
        }
        let started = command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("{command:?}: {error}"))?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".to_owned());
        };
        let mut server = Self { name, child, ask: Some(ask), answers: BufReader::new(answers) };
        // Once, so that it is ready: the floor has made its tree, memory has been touched.
        server.ask("bare")?;
        Ok(server)
    }

    pub(crate) fn ask(&mut self, what: &str) -> Result<Vec<f64>, String> {
        let mut line = String::new();
        let ask = self.ask.as_mut().ok_or("closed")?;
        ask.write_all(format!("{what}\n").as_bytes())
            .and_then(|()| self.answers.read_line(&mut line))
            .map_err(|error| format!("{} {what}: {error}", self.name))?;
        let numbers: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        match numbers {
            Ok(numbers) if !numbers.is_empty() => Ok(numbers),
            _ => Err(format!("{} {what}: {}", self.name, line.trim())),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At the end of its input it ends, and has removed what it made.
        self.ask = None;
        let _ = self.child.wait();
    }
}

/// What is sampled: a row of a server.
struct Subject {
    server: usize,
    request: String,
    /// Somebody else's: what fails there is told, and not taken again, since those wait for
    /// themselves.
    peer: bool,
    samples: Vec<f64>,
}

/// A server that was added.
#[derive(Clone, Copy)]
pub(crate) struct ServerId(usize);

/// A subject that was added.
#[derive(Clone, Copy)]
pub(crate) struct SubjectId(usize);

#[derive(Default)]
pub(crate) struct Sampler {
    servers: Vec<Server>,
    subjects: Vec<Subject>,
    /// Starts that were none.
    pub(crate) failures: u64,
}

/// Rounds that are not kept.
const WARM_UP: usize = 5;
/// How often a sample is taken at the most.
const TRIES: usize = 10;
/// Waits for a cpu that a start may have, microseconds: those of a start itself are below.
const CALM_US: u64 = 100;

/// How long something on this machine has waited for a cpu so far, microseconds; 0 where the
/// kernel does not tell.
fn stalled() -> u64 {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = text.lines().next().and_then(|line| line.split_once("total="));
    some.and_then(|(_, total)| total.trim().parse().ok()).unwrap_or(0)
}

impl Sampler {
    pub(crate) fn server(&mut self, server: Server) -> ServerId {
        self.servers.push(server);
        ServerId(self.servers.len() - 1)
    }

    pub(crate) fn subject(&mut self, server: ServerId, request: &str) -> SubjectId {
        let known = |s: &Subject| s.server == server.0 && s.request == request;
        if let Some(at) = self.subjects.iter().position(known) {
            return SubjectId(at);
        }
        let request = request.to_owned();
        let (server, samples) = (server.0, Vec::new());
        self.subjects.push(Subject { server, request, peer: false, samples });
        SubjectId(self.subjects.len() - 1)
    }

    /// The same, of another tool.
    pub(crate) fn peer(&mut self, server: ServerId, request: &str) -> SubjectId {
        let subject = self.subject(server, request);
        self.subjects[subject.0].peer = true;
        subject
    }

    /// One sample of each in every round, in a new random order. Each is asked twice in a row
    /// and the second counts, on every side alike: after the others the caches are cold, which
    /// would measure how much code each side has. A sample during which anything on the
    /// machine waited for a cpu is taken again, ours and the floor's alike, while there is time.
    pub(crate) fn run(&mut self, rounds: usize, patience: Duration) {
        let patience = Instant::now() + patience;
        let (mut taken, mut again) = (0, 0);
        let mut order: Vec<usize> = (0..self.subjects.len()).collect();
        let mut random = Random::new();
        for round in 0..WARM_UP + rounds {
            random.shuffle(&mut order);
            for &at in &order {
                let subject = &mut self.subjects[at];
                let server = &mut self.servers[subject.server];
                for left in (0..TRIES).rev() {
                    let mut answer = server.ask(&subject.request);
                    let waited = stalled();
                    if answer.is_ok() {
                        answer = server.ask(&subject.request);
                    }
                    taken += 1;
                    let calm = stalled().saturating_sub(waited) <= CALM_US;
                    match answer {
                        Ok(_)
                            if !calm && !subject.peer && left > 0 && Instant::now() < patience =>
                        {
                            again += 1;
                            continue;
                        }
                        Ok(answer) if round >= WARM_UP => subject.samples.push(answer[0]),
                        Ok(_) => {}
                        Err(error) => {
                            self.failures += u64::from(!subject.peer);
                            eprintln!("# failed: {error}");
                        }
                    }
                    break;
                }
            }
        }
        eprintln!("# {taken} samples, {again} taken again");
    }

    pub(crate) fn samples(&self, subject: SubjectId) -> &[f64] {
        &self.subjects[subject.0].samples
    }

    /// All of them, each under a name of its own.
    pub(crate) fn named(&self) -> Vec<(String, &[f64])> {
        let mut named: Vec<(String, &[f64])> = Vec::new();
        for subject in &self.subjects {
            let name = format!("{} {}", self.servers[subject.server].name, subject.request);
            let same = named.iter().filter(|(known, _)| known.starts_with(&name)).count();
            // Callers of other sizes and other users come later.
            let name = if same > 0 { format!("{name} ({})", same + 1) } else { name };
            named.push((name, &subject.samples));
        }
        named
    }
}

/// Starts a second, by this many threads of the floor.
pub(crate) fn floor_rate(
    floor: &Path,
    data: &Path,
    threads: u32,
    seconds: &str,
) -> Result<f64, String> {
    let mut command = Command::new(floor);
    command.arg("--dir").arg(data).args(["--json", "--threads", &threads.to_string()]);
    let output = command.args(["--secs", seconds, "full"]).output();
    let output = output.map_err(|error| format!("floor: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = said.split_once("\"per_sec\":").and_then(|(_, rest)| rest.split_once('}'));
    rate.and_then(|(rate, _)| rate.parse().ok())
        .ok_or_else(|| format!("floor: {}{}", said, String::from_utf8_lossy(&output.stderr)))
}

/// Enough for an order: xorshift.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(now.as_nanos() as u64 | 1)
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for i in (1..order.len()).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            order.swap(i, (self.0 % (i as u64 + 1)) as usize);
        }
    }
}
