//! The compiler against the meaning of the rules, and against `seccompiler`.

use ireko_seccomp::{
    Action, Arch, Condition, Errno, ErrorKind, Instruction, Profile, Program, arg,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

const EPERM: Action = Action::Errno(Errno::EPERM);
const X86_64: u32 = 0xc000_003e;

/// Values around those that the rules compare with, in both halves.
fn boundary(values: &[u64]) -> Vec<u64> {
    let mut all = vec![0, 1, u64::MAX, 1 << 32, u64::from(u32::MAX), 1 << 63];
    for value in values {
        for near in [value.wrapping_sub(1), *value, value.wrapping_add(1)] {
            all.extend([near, near ^ 1 << 32, near ^ u64::MAX << 32, near.swap_bytes()]);
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn instructions(program: BpfProgram) -> Program {
    Program::from_instructions(program.into_iter().map(|i| Instruction {
        code: i.code,
        jt: i.jt,
        jf: i.jf,
        k: i.k,
    }))
    .unwrap()
}

/// One condition in both languages.
fn conditions() -> Vec<(Condition, SeccompCondition, u64)> {
    let values = [0, 1, 2, 0xfffe_ffff, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX - 1];
    let mut all = Vec::new();
    for (n, value) in values.into_iter().enumerate() {
        let at = (n % 6) as u8;
        let mut push = |ours, wide, operator, value| {
            let len = if wide { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
            let theirs = SeccompCondition::new(at, len, operator, value).unwrap();
            all.push((ours, theirs, value));
        };
        push(arg(at).equals(value), true, SeccompCmpOp::Eq, value);
        push(!arg(at).equals(value), true, SeccompCmpOp::Ne, value);
        push(arg(at).at_most(value), true, SeccompCmpOp::Le, value);
        push(!arg(at).at_most(value), true, SeccompCmpOp::Gt, value);
        for mask in [0xff, 0xffff_0000, 1, 0x1_0000_0001, u64::MAX << 32, 0x8000_0000_0000_0000] {
            let operator = SeccompCmpOp::MaskedEq(mask);
            push(arg(at).masked(mask, value & mask), true, operator, value & mask);
        }
        let low = value as u32;
        push(arg(at).equals_int(low), false, SeccompCmpOp::Eq, low.into());
        push(!arg(at).equals_int(low), false, SeccompCmpOp::Ne, low.into());
        push(arg(at).at_most_int(low), false, SeccompCmpOp::Le, low.into());
        push(!arg(at).at_most_int(low), false, SeccompCmpOp::Gt, low.into());
    }
    all
}

/// What seccompiler makes of the same rules; only one action beside the default.
fn oracle(rules: Vec<(i64, Vec<SeccompCondition>)>) -> Program {
    let mut map: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (number, conditions) in rules {
        let rules = map.entry(number).or_default();
        if !conditions.is_empty() {
            rules.push(SeccompRule::new(conditions).unwrap());
        }
    }
    let filter = SeccompFilter::new(
        map,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .unwrap();
    instructions(filter.try_into().unwrap())
}

#[test]
fn single_conditions_decide_as_seccompilers() {
    for (ours, theirs, value) in conditions() {
        let oracle = oracle(vec![(41, vec![theirs])]);
        let program = Profile::new(EPERM)
            .rule("socket", [ours], Action::Allow)
            .compile(Arch::X86_64)
            .unwrap();
        for given in boundary(&[value]) {
            let decided = program.decide_raw(X86_64, 41, [given; 6]).action;
            let expected = oracle.decide_raw(X86_64, 41, [given; 6]).action;
            assert_eq!(decided, expected, "{ours}: {given:#x}");
        }
    }
}

#[test]
fn rules_of_several_conditions_decide_as_seccompilers() {
    let all = conditions();
    let program = |picked: &[(i64, [usize; 2])]| {
        let name = |number| if number == 41 { "socket" } else { "socketpair" };
        let mut profile = Profile::new(EPERM).allow(["read"]);
        let mut theirs = vec![(0, Vec::new())];
        for (number, places) in picked {
            profile = profile.rule(name(*number), places.map(|n| all[n].0), Action::Allow);
            theirs.push((*number, places.map(|n| all[n].1.clone()).to_vec()));
        }
        (profile.compile(Arch::X86_64).unwrap(), oracle(theirs))
    };
    for seed in 0..all.len() {
        let at = |n: usize| (seed * 7 + n * 31) % all.len();
        let picked = [(41, [at(0), at(1)]), (41, [at(2), at(3)]), (53, [at(4), at(5)])];
        let (ours, theirs) = program(&picked);
        let values: Vec<u64> = (0..6).map(|n| all[at(n)].2).collect();
        for (n, a) in boundary(&values).into_iter().enumerate() {
            for b in &values {
                let args = [a, *b, values[n % 6], a, *b, a ^ 1];
                for number in [0, 1, 41, 53, 54] {
                    let decided = ours.decide_raw(X86_64, number, args).action;
                    let expected = theirs.decide_raw(X86_64, number, args).action;
                    assert_eq!(decided, expected, "{picked:?} {number} {args:x?}");
                }
            }
        }
    }
}

/// Standard, told to seccompiler: all numbers, and arguments at every boundary.
#[test]
fn standard_decides_as_seccompilers() {
    let int = SeccompCmpArgLen::Dword;
    let condition =
        |index, len, operator, value| SeccompCondition::new(index, len, operator, value).unwrap();
    let standard = Profile::standard();
    let ours = standard.compile(Arch::X86_64).unwrap();
    // Without its reasons, which take time.
    let ours = Program::from_instructions(ours.as_slice().iter().copied()).unwrap();
    let number = |name: &str| {
        // The one number for which a profile of this call alone is decided by its rule.
        let alone = Profile::new(EPERM).allow([name]).compile(Arch::X86_64).unwrap();
        (0..470).find(|n| alone.decide_raw(X86_64, *n, [0; 6]).rule.is_some()).unwrap()
    };
    let mut rules = Vec::new();
    for rule in standard.rules().filter(|rule| rule.syscall() != "clone3") {
        let when = match rule.to_string().split_once(' ').map(|(_, when)| when.to_owned()) {
            None => vec![],
            Some(when) if rule.syscall() == "clone" => {
                assert_eq!(when, "arg0 & 0x7e020000 == 0");
                let mask = SeccompCmpOp::MaskedEq(0x7e02_0000);
                vec![condition(0, SeccompCmpArgLen::Qword, mask, 0)]
            }
            Some(when) => when
                .split(" and ")
                .map(|text| {
                    let [argument, operator, value] =
                        text.split(' ').collect::<Vec<_>>().try_into().unwrap();
                    let index = argument.strip_prefix("int").unwrap().parse().unwrap();
                    let operator = match operator {
                        "==" => SeccompCmpOp::Eq,
                        "!=" => SeccompCmpOp::Ne,
                        other => panic!("{other}"),
                    };
                    let value = match value.strip_prefix("0x") {
                        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
                        None => value.parse().unwrap(),
                    };
                    condition(index, int.clone(), operator, value)
                })
                .collect(),
        };
        rules.push((i64::from(number(rule.syscall())), when));
    }
    let theirs = oracle(rules);
    let values = boundary(&[2, 10, 16, 0x5412, 0x541c, 0x7e02_0000, 0x1000_0000]);
    for number in (0..470).filter(|number| *number != 435 && !(337..424).contains(number)) {
        for (n, a) in values.iter().enumerate() {
            for b in [0, 16, values[values.len() - 1 - n]] {
                for args in [[*a, b, 0, 0, 0, 0], [b, *a, 0, 0, 0, 0], [b, 3, *a, 0, 0, 0]] {
                    let decided = ours.decide_raw(X86_64, number, args).action;
                    let expected = theirs.decide_raw(X86_64, number, args).action;
                    assert_eq!(decided, expected, "{number} {args:x?}");
                }
            }
        }
    }
    assert!(ours.instructions() * 5 < theirs.instructions());
}

/// Long lists put targets out of the reach of one jump.
#[test]
fn far_jumps_lead_where_they_should() {
    let mut profile = Profile::new(Action::KillThread).allow(["read", "write", "file_setattr"]);
    for name in ["open", "socket", "ioctl", "fcntl", "mmap", "prctl"] {
        for n in 0..100u32 {
            let action = Action::Trace((n % 7) as u16);
            let wide = u64::from(n) << 33 | 5;
            profile = profile.rule(name, [arg(1).equals_int(3 * n), !arg(2).equals(wide)], action);
        }
    }
    let program = profile.compile(Arch::X86_64).unwrap();
    assert!(program.instructions() > 2000, "{program:?}");
    for (number, listed) in
        [(0, false), (2, true), (9, true), (16, true), (41, true), (57, false), (157, true)]
    {
        for n in 0..=100u64 {
            for (b, c) in [(3 * n, 5), (3 * n, n << 33 | 5), (3 * n + 1, 5)] {
                let expected = match () {
                    () if number == 0 => Action::Allow,
                    () if listed && n < 100 && b == 3 * n && c != n << 33 | 5 => {
                        Action::Trace((n % 7) as u16)
                    }
                    () => Action::KillThread,
                };
                let verdict = program.decide_raw(X86_64, number, [0, b | 7 << 40, c, 0, 0, 0]);
                assert_eq!(verdict.action, expected, "{number} {n} {b} {c}");
                let said = verdict.rule.map(|at| profile.rules().nth(at).unwrap().action());
                assert_eq!(said.unwrap_or(Action::KillThread), verdict.action);
            }
        }
    }
    for number in [470, 0x4000_0000] {
        let action = program.decide_raw(X86_64, number, [0; 6]).action;
        assert_eq!(action, Action::Errno(Errno::ENOSYS));
    }
    let action = program.decide_raw(0x4000_0003, 0, [0; 6]).action;
    assert_eq!(action, Action::Errno(Errno::ENOSYS));
}

/// The program and the list of rules are two ways to the same answer.
#[test]
fn reason_and_action_agree() {
    for profile in [Profile::compat(), Profile::standard(), Profile::strict()] {
        let program = profile.compile(Arch::X86_64).unwrap();
        for number in 0..470 {
            for value in boundary(&[6, 16, 31, 0x5412, 0x7e02_0000]) {
                for args in [[value; 6], [16, value, 0, 0, 0, 0], [value, 6, value, 0, 0, 0]] {
                    agrees(&profile, &program, number, args, EPERM);
                }
            }
        }
    }
}

fn agrees(profile: &Profile, program: &Program, number: u32, args: [u64; 6], otherwise: Action) {
    let verdict = program.decide_raw(X86_64, number, args);
    let said = match verdict.rule {
        Some(at) => profile.rules().nth(at).unwrap().action(),
        None if (337..424).contains(&number) => Action::Errno(Errno::ENOSYS),
        None => otherwise,
    };
    assert_eq!(verdict.action, said, "{number} {args:x?} {verdict:?}\n{profile}");
}

/// Profiles that nobody would write: every shape of condition, merged, in any order.
#[test]
fn generated_profiles_agree_with_their_rules() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let actions = [
        Action::Allow,
        Action::Log,
        Action::Trace(1),
        EPERM,
        Action::Errno(Errno::ENOENT),
        Action::Trap,
        Action::KillThread,
        Action::KillProcess,
    ];
    let names = ["read", "write", "open", "socket", "mmap", "file_setattr"];
    let numbers = [0, 1, 2, 3, 8, 9, 41, 336, 337, 424, 469];
    let words = [0, 1, 3, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, 0x8000_0000_0000_0001, u64::MAX];
    let (mut compiled, mut longest) = (0, 0);
    for _ in 0..1500 {
        let otherwise = actions[random(8) as usize];
        let mut parts = [Profile::new(otherwise), Profile::new(otherwise)];
        for part in &mut parts {
            for _ in 0..random(12) {
                let mut when = Vec::new();
                for _ in 0..random(4) {
                    let argument = arg(random(3) as u8);
                    let (a, b) = (words[random(8) as usize], words[random(8) as usize]);
                    let condition = match random(6) {
                        0 => argument.equals(a),
                        1 => argument.equals_int(a as u32),
                        2 => argument.masked(a, a & b),
                        3 => argument.masked_int(a as u32, (a & b) as u32),
                        4 => argument.at_most(a),
                        _ => argument.at_most_int(a as u32),
                    };
                    when.push(if random(2) == 0 { condition } else { !condition });
                }
                let (name, then) = (names[random(6) as usize], actions[random(8) as usize]);
                *part = part.clone().rule(name, when, then);
            }
        }
        let [one, other] = parts;
        let profile = if random(2) == 0 { one } else { one.merge(&other) };
        // Some of them contradict themselves.
        let Ok(program) = profile.compile(Arch::X86_64) else { continue };
        compiled += 1;
        longest = longest.max(program.instructions());
        for number in numbers {
            for _ in 0..40 {
                let args = [0; 6].map(|_: u64| {
                    words[random(8) as usize].wrapping_add(random(3)).wrapping_sub(1)
                });
                agrees(&profile, &program, number, args, otherwise);
            }
        }
    }
    assert!(compiled > 700 && longest > 250, "{compiled} {longest}");
}

#[test]
fn mistakes_are_errors_of_compile() {
    let base = || Profile::new(EPERM);
    for (profile, reason) in [
        (base().allow(["reed"]), "no system call is called \"reed\""),
        (base().allow(["read"]).deny(["read"], Errno::EPERM), "contradict"),
        (
            base().rule("read", [arg(0).equals(1)], Action::Allow).rule(
                "read",
                [arg(0).equals(1)],
                Action::Log,
            ),
            "contradict",
        ),
        (base().rule("read", [arg(6).equals(1)], Action::Allow), "from 0 to 5"),
        (base().rule("read", [arg(0).masked(1, 2)], Action::Allow), "the mask has not"),
        (base().deny(["read"], Errno::from_raw(4096)), "4096 is no error number"),
        (base().foreign(Action::Allow), "another ABI"),
        (base().foreign(Action::Log), "another ABI"),
    ] {
        let error = profile.compile(Arch::X86_64).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(reason), "{error}");
    }
    let mut long = base();
    for n in 0..2000 {
        long = long.rule("read", [arg(0).equals(n)], Action::Allow);
    }
    let error = long.compile(Arch::X86_64).unwrap_err();
    assert!(error.to_string().contains("4096"), "{error}");
    let error = base().compile(Arch::Riscv64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_deny_list_has_no_holes() {
    let program =
        Profile::new(Action::Allow).deny(["mount"], Errno::EPERM).compile(Arch::X86_64).unwrap();
    assert_eq!(program.decide("mount", [0; 6]).unwrap().action, EPERM);
    assert_eq!(program.decide("read", [0; 6]).unwrap().action, Action::Allow);
    // mount by x32, and by i386.
    for (audit, number) in [(X86_64, 0x4000_0000 | 165), (0x4000_0003, 21)] {
        let action = program.decide_raw(audit, number, [0; 6]).action;
        assert_eq!(action, Action::Errno(Errno::ENOSYS));
    }
}
