//! The rules for one call as a list to be read from the top.

use crate::rule::Layer;
use crate::{Action, Condition, Profile, Rule};

/// The first entry whose conditions all hold decides; the last one has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) when: Vec<Condition>,
    pub(crate) then: Action,
    /// Which rule says so; none: it is the profile's `otherwise`.
    pub(crate) rule: Option<usize>,
}

impl Entry {
    pub(crate) fn holds_for(&self, args: [u64; 6]) -> bool {
        self.when.iter().all(|condition| condition.holds_for(args))
    }
}

/// As [`Entry`]; `None`: these rules do not decide it.
#[derive(Clone)]
struct Step {
    when: Vec<Condition>,
    then: Option<(Action, usize)>,
}

/// The list for one call. `rules` are those for it, with their places, by group.
pub(crate) fn list(otherwise: Action, rules: &[Vec<(usize, &Rule)>]) -> Vec<Entry> {
    let steps = rules
        .iter()
        .filter(|group| !group.is_empty())
        .map(|group| of_group(group))
        .reduce(|a, b| stricter_of_both(&a, &b))
        .unwrap_or_else(|| vec![Step { when: Vec::new(), then: None }]);
    let entry = |step: Step| {
        let (then, rule) = match step.then {
            Some((action, rule)) => (action, Some(rule)),
            None => (otherwise, None),
        };
        Entry { when: step.when, then, rule }
    };
    steps.into_iter().map(entry).collect()
}

/// The list for the call of this name.
pub(crate) fn for_call(profile: &Profile, name: &str) -> Vec<Entry> {
    let mut place = 0;
    let mut groups = Vec::new();
    for group in &profile.groups {
        let rules = group.iter().enumerate().filter(|(_, rule)| rule.name == name);
        groups.push(rules.map(|(at, rule)| (place + at, rule)).collect());
        place += group.len();
    }
    list(profile.otherwise, &groups)
}

fn of_group(rules: &[(usize, &Rule)]) -> Vec<Step> {
    let step = |(place, rule): (usize, &Rule)| Step {
        when: rule.when.clone(),
        then: Some((rule.then, place)),
    };
    let mut steps = Vec::new();
    for layer in [Layer::Own, Layer::Preset] {
        let (mut always, mut sometimes): (Vec<_>, Vec<_>) = rules
            .iter()
            .copied()
            .filter(|(_, r)| r.layer == layer)
            .partition(|(_, r)| r.when.is_empty());
        for rules in [&mut sometimes, &mut always] {
            // Stable: of two of a kind, the one that was said first.
            rules.sort_by_key(|(_, rule)| rule.then.rank());
        }
        steps.extend(sometimes.into_iter().map(step));
        if let Some(rule) = always.first().copied() {
            steps.push(step(rule));
            return steps;
        }
    }
    steps.push(Step { when: Vec::new(), then: None });
    steps
}

/// Every pair, in an order in which the first that holds is the pair of the first that
/// hold in each.
fn stricter_of_both(a: &[Step], b: &[Step]) -> Vec<Step> {
    let pair = |(a, b): (&Step, &Step)| Step {
        when: a.when.iter().chain(&b.when).copied().collect(),
        then: match (a.then, b.then) {
            (Some(a), Some(b)) => Some(if b.0.is_stricter_than(a.0) { b } else { a }),
            (a, b) => a.or(b),
        },
    };
    a.iter().flat_map(|a| b.iter().map(move |b| (a, b))).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Errno, arg};

    const EPERM: Action = Action::Errno(Errno::EPERM);

    fn decided(profile: &Profile, args: [u64; 6]) -> (Action, Option<usize>) {
        let list = for_call(profile, "socket");
        assert!(list.last().unwrap().when.is_empty());
        let entry = list.iter().find(|entry| entry.holds_for(args)).unwrap();
        (entry.then, entry.rule)
    }

    fn family(n: u64) -> [u64; 6] {
        [n, 0, 0, 0, 0, 0]
    }

    #[test]
    fn the_strictest_that_holds_then_the_unconditional_then_otherwise() {
        let rules = Profile::new(Action::KillProcess)
            .allow(["socket"])
            .rule("socket", [arg(0).at_most_int(3)], Action::Log)
            .rule("socket", [arg(0).equals_int(2)], EPERM);
        assert_eq!(decided(&rules, family(2)), (EPERM, Some(2)));
        assert_eq!(decided(&rules, family(3)), (Action::Log, Some(1)));
        assert_eq!(decided(&rules, family(4)), (Action::Allow, Some(0)));
        let none = Profile::new(EPERM).rule("socket", [arg(0).equals_int(1)], Action::Allow);
        assert_eq!(decided(&none, family(2)), (EPERM, None));
    }

    #[test]
    fn own_rules_come_before_those_of_a_preset() {
        let opened = Profile::standard().rule("socket", [arg(0).equals_int(38)], Action::Allow);
        assert_eq!(decided(&opened, family(38)).0, Action::Allow);
        assert_eq!(decided(&opened, family(2)).0, Action::Allow);
        assert_eq!(decided(&opened, family(40)), (EPERM, None));
        let closed = Profile::standard().deny(["socket"], Errno::EACCES);
        assert_eq!(decided(&closed, family(2)).0, Action::Errno(Errno::EACCES));
    }

    #[test]
    fn merged_rules_give_the_stricter_answer() {
        let a = Profile::new(EPERM).rule("socket", [arg(0).at_most_int(4)], Action::Allow).rule(
            "socket",
            [arg(0).equals_int(1)],
            Action::Log,
        );
        let b = Profile::new(Action::Allow)
            .rule("socket", [arg(0).equals_int(2)], Action::KillProcess)
            .rule("socket", [arg(0).at_most_int(8)], Action::Allow);
        for merged in [a.clone().merge(&b), b.clone().merge(&a)] {
            let actions = [0, 1, 2, 4, 5, 9].map(|n| decided(&merged, family(n)).0);
            assert_eq!(
                actions,
                [
                    Action::Allow,
                    Action::Log,
                    Action::KillProcess,
                    Action::Allow,
                    Action::Allow,
                    EPERM
                ]
            );
        }
        assert_eq!(decided(&a.merge(&b), family(2)), (Action::KillProcess, Some(2)));
    }
}
