//! From a profile to a program: the numbers in order, neighbours with the same answer
//! merged to one segment, a binary tree over the segments, tests of arguments at its
//! leaves.

use crate::action::MAX_ERRNO;
use crate::decision::{self, Entry};
use crate::emit::{ARCH, Emitter, NUMBER, Node};
use crate::rule::Layer;
use crate::table::{self, Table};
use crate::{Action, Arch, ErrorKind, Profile, Program, Result, Rule, check};
use ireko_sys::Failure;
use std::collections::HashMap;

/// From this number to that of the next segment.
#[derive(Debug)]
struct Segment {
    start: u32,
    list: Vec<Entry>,
}

pub(crate) fn compile(profile: &Profile, arch: Arch) -> Result<Program> {
    let table = arch.table()?;
    check_profile(profile)?;
    let segments = segments(profile, table);
    let mut emitter = Emitter::default();
    let foreign = emitter.ret(profile.foreign);
    let tree = tree(&mut emitter, &segments);
    let number = emitter.load(NUMBER, tree.entry);
    let same = emitter.equals(table.audit, number, foreign.entry);
    emitter.load(ARCH, same);
    let code = emitter.finish();
    check::check(&code).map_err(invalid)?;
    Ok(Program::compiled(code, arch, profile))
}

fn invalid(reason: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::ours(ErrorKind::Invalid, "compile the profile", reason)
}

fn check_profile(profile: &Profile) -> Result<()> {
    let actions = [profile.otherwise, profile.unknown, profile.foreign];
    for action in actions.into_iter().chain(profile.rules().map(Rule::action)) {
        if let Action::Errno(errno) = action
            && !(0..=MAX_ERRNO).contains(&errno.raw())
        {
            let reason = format!("{} is no error number", errno.raw());
            return Err(invalid(reason).into());
        }
    }
    if !profile.foreign.is_refusal() {
        let reason = "calls by another ABI must be refused: their numbers mean other calls";
        return Err(invalid(reason).into());
    }
    for group in &profile.groups {
        let mut said: HashMap<_, &Rule> = HashMap::new();
        for rule in group {
            if !table::is_known(&rule.name) {
                return Err(invalid(format!("no system call is called {:?}", rule.name)).into());
            }
            if let Some(mistake) = rule.when.iter().find_map(|c| c.mistake()) {
                return Err(invalid(format!("{rule}: {mistake}")).into());
            }
            if rule.layer == Layer::Own
                && let Some(other) = said.insert((&rule.name, &rule.when), rule)
                && other.then != rule.then
            {
                let reason = format!("the rules \"{other}\" and \"{rule}\" contradict one another");
                return Err(invalid(reason).into());
            }
        }
    }
    Ok(())
}

/// What the whole range of numbers means, in order.
fn segments(profile: &Profile, table: &Table) -> Vec<Segment> {
    let constant = |then| vec![Entry { when: Vec::new(), then, rule: None }];
    let mut rules: HashMap<&str, Vec<Vec<(usize, &Rule)>>> = HashMap::new();
    let mut place = 0;
    for (n, group) in profile.groups.iter().enumerate() {
        for rule in group {
            let groups =
                rules.entry(&rule.name).or_insert_with(|| vec![Vec::new(); profile.groups.len()]);
            groups[n].push((place, rule));
            place += 1;
        }
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut push = |start: u32, list: Vec<Entry>| {
        if segments.last().is_none_or(|last| last.list != list) {
            segments.push(Segment { start, list });
        }
    };
    let mut next = 0;
    for (number, name) in table.names {
        if *number != next {
            push(next, constant(profile.unknown));
        }
        let list = rules.get(name).map(|rules| decision::list(profile.otherwise, rules));
        push(*number, list.map_or_else(|| constant(profile.otherwise), simplified));
        next = *number + 1;
    }
    push(next, constant(profile.unknown));
    if let Some(start) = table.foreign_from {
        push(start, constant(profile.foreign));
    }
    segments
}

/// Without entries that make no difference, and without the reasons, which would keep
/// equal lists apart.
fn simplified(mut list: Vec<Entry>) -> Vec<Entry> {
    while let [.., before, last] = list.as_slice()
        && before.then == last.then
    {
        let at = list.len() - 2;
        list.remove(at);
    }
    for entry in &mut list {
        entry.rule = None;
    }
    list
}

fn tree(emitter: &mut Emitter, segments: &[Segment]) -> Node {
    match segments {
        [] => emitter.ret(Action::KillProcess),
        [only] => match emitter.list(&only.list) {
            Some(node) => node,
            None => emitter.ret(Action::KillProcess),
        },
        // One number is an exception: one test instead of two.
        [around, one, rest] if around.list == rest.list && one.start + 1 == rest.start => {
            let around = tree(emitter, std::slice::from_ref(around));
            let exception = tree(emitter, std::slice::from_ref(one));
            Node::at(emitter.equals(one.start, exception.entry, around.entry))
        }
        _ => {
            let (left, right) = segments.split_at(segments.len() / 2);
            let from = right[0].start;
            let right = tree(emitter, right);
            let left = tree(emitter, left);
            Node::at(emitter.at_least(from, right.entry, left.entry))
        }
    }
}
