//! The rows, their limits and whether they hold.

use crate::sampler::{Sampler, SubjectId};

/// Which way a ratio is good.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Better {
    Less,
    More,
}

struct Row {
    name: String,
    /// Numerator and denominator of the ratio.
    of: (Source, Source),
    /// To be reached, and not to be passed.
    gate: Option<(f64, Option<f64>, Better)>,
    values: Option<(Spread, Spread)>,
}

enum Source {
    Subject(SubjectId),
    Rates,
}

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    peers: Vec<Row>,
    rates: Vec<Row>,
    failures: u64,
}

/// Median, 10th and 90th percentile.
#[derive(Clone, Copy)]
struct Spread(f64, f64, f64);

impl Spread {
    fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |p: f64| {
            let index = (p * (sorted.len().max(1) - 1) as f64).round() as usize;
            sorted.get(index).copied().unwrap_or(f64::NAN)
        };
        Self(at(0.5), at(0.1), at(0.9))
    }

    /// In microseconds, from nanoseconds.
    fn time(self) -> String {
        let us = |ns: f64| format!("{:.0}", ns / 1e3);
        format!("{} ({}–{})", us(self.0), us(self.1), us(self.2))
    }

    fn rate(self) -> String {
        format!("{:.0}", self.0)
    }
}

impl Table {
    pub(crate) fn against_floor(
        &mut self,
        name: &str,
        ours: SubjectId,
        floor: SubjectId,
        reach: f64,
        fail: f64,
    ) {
        self.push(name, ours, floor, Some((reach, Some(fail), Better::Less)));
    }

    pub(crate) fn against_own(
        &mut self,
        name: &str,
        ours: SubjectId,
        own: SubjectId,
        reach: f64,
        fail: f64,
    ) {
        self.push(name, ours, own, Some((reach, Some(fail), Better::Less)));
    }

    /// A row without a limit.
    pub(crate) fn told(&mut self, name: &str, ours: SubjectId, other: SubjectId) {
        self.push(name, ours, other, None);
    }

    pub(crate) fn faster_than(
        &mut self,
        name: &str,
        ours: SubjectId,
        theirs: SubjectId,
        times: f64,
        gated: bool,
    ) {
        self.peers.push(Row {
            name: name.to_owned(),
            of: (Source::Subject(theirs), Source::Subject(ours)),
            gate: Some((times, gated.then_some(times), Better::More)),
            values: None,
        });
    }

    pub(crate) fn rate(
        &mut self,
        threads: u32,
        ours: &mut [f64],
        floor: &mut [f64],
        fail: Option<f64>,
    ) {
        self.rates.push(Row {
            name: format!("full, {threads} thread{}", if threads == 1 { "" } else { "s" }),
            of: (Source::Rates, Source::Rates),
            gate: Some((0.85, fail, Better::More)),
            values: Some((Spread::of(ours), Spread::of(floor))),
        });
    }

    fn push(
        &mut self,
        name: &str,
        ours: SubjectId,
        other: SubjectId,
        gate: Option<(f64, Option<f64>, Better)>,
    ) {
        let of = (Source::Subject(ours), Source::Subject(other));
        self.rows.push(Row { name: name.to_owned(), of, gate, values: None });
    }

    /// Takes the samples over.
    pub(crate) fn fill(&mut self, sampler: &Sampler) {
        self.failures = sampler.failures;
        for row in self.rows.iter_mut().chain(&mut self.peers) {
            if let (Source::Subject(a), Source::Subject(b)) = &row.of {
                let spread = |subject| Spread::of(sampler.samples(subject));
                row.values = Some((spread(*a), spread(*b)));
            }
        }
    }

    /// Prints all; tells whether every limit holds.
    pub(crate) fn print(&self) -> bool {
        let mut passed = Vec::new();
        println!("\nmicroseconds, median (p10–p90)");
        println!("| row | ours | floor | ratio | target | limit |\n|---|---|---|---|---|---|");
        for row in &self.rows {
            row.print(Spread::time, false, &mut passed);
        }
        if !self.rates.is_empty() {
            println!("\nstarts a second");
            println!("| row | ours | floor | ratio | target | limit |\n|---|---|---|---|---|---|");
            for row in &self.rates {
                row.print(Spread::rate, false, &mut passed);
            }
        }
        if !self.peers.is_empty() {
            println!("\nmicroseconds, beside `full, as root` of ours");
            println!(
                "| peer | ours | theirs | times faster | target | limit |\n|---|---|---|---|---|---|"
            );
            for row in &self.peers {
                row.print(Spread::time, true, &mut passed);
            }
        }
        println!("\nfailed starts: {}", self.failures);
        if self.failures > 0 {
            passed.push(format!("{} starts failed", self.failures));
        }
        for what in &passed {
            println!("past its limit: {what}");
        }
        passed.is_empty()
    }
}

impl Row {
    fn print(&self, show: fn(Spread) -> String, swapped: bool, passed: &mut Vec<String>) {
        let Some((a, b)) = self.values else { return };
        let ratio = a.0 / b.0;
        let (ours, other) = if swapped { (b, a) } else { (a, b) };
        let number = |n: f64| format!("{n}");
        let (target, limit) = match self.gate {
            Some((target, limit, better)) => {
                let bad = |limit: f64| match better {
                    Better::Less => ratio > limit,
                    Better::More => ratio < limit,
                };
                // Not a number is past any.
                if limit.is_some_and(|limit| bad(limit) || ratio.is_nan()) {
                    passed.push(format!("{}: {ratio:.2}", self.name));
                }
                (number(target), limit.map_or_else(|| "told".to_owned(), number))
            }
            None => ("".to_owned(), "told".to_owned()),
        };
        println!(
            "| {} | {} | {} | {ratio:.2} | {target} | {limit} |",
            self.name,
            show(ours),
            show(other),
        );
    }
}
