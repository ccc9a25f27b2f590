//! Applying for real, each in a thread of its own: capabilities are a thread's.

use ireko_capabilities::{Cap, CapSet, ErrorKind, State};
use std::process::Command;

/// Whether this thread may lower its bounding set; a test that cannot run says so.
fn may_lower() -> bool {
    let may = State::of_thread().unwrap().effective.contains(Cap::Setpcap);
    if !may {
        let required = std::env::var("IREKO_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|word| word == "root"), "root is required");
        eprintln!("skipped: needs CAP_SETPCAP");
    }
    may
}

fn in_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(run).join().unwrap()
}

/// The five lines of a program that this thread executes.
fn of_program() -> Vec<(String, u64)> {
    let output = Command::new("cat").arg("/proc/self/status").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("Cap")?.split_once(":\t"))
        .map(|(set, bits)| (set.to_owned(), u64::from_str_radix(bits, 16).unwrap()))
        .collect()
}

fn five(inh: CapSet, prm: CapSet, eff: CapSet, bnd: CapSet, amb: CapSet) -> Vec<(String, u64)> {
    [("Inh", inh), ("Prm", prm), ("Eff", eff), ("Bnd", bnd), ("Amb", amb)]
        .map(|(name, set)| (name.to_owned(), set.bits()))
        .to_vec()
}

#[test]
fn root_drops_everything_and_for_good() {
    if !may_lower() {
        return;
    }
    let before = State::of_thread().unwrap();
    in_thread(move || {
        State::EMPTY.apply().unwrap();
        assert_eq!(State::of_thread().unwrap(), State::EMPTY);
        let none = CapSet::EMPTY;
        assert_eq!(of_program(), five(none, none, none, none, none));
        assert_eq!(before.apply().unwrap_err().kind(), ErrorKind::Denied);
        let without_bounding = State { bounding: CapSet::EMPTY, ..before };
        assert_eq!(without_bounding.apply().unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(State::of_thread().unwrap(), State::EMPTY);
    });
    assert_eq!(State::of_thread().unwrap(), before);
}

#[test]
fn root_executes_with_exactly_the_set() {
    if !may_lower() {
        return;
    }
    in_thread(|| {
        let set = CapSet::STANDARD.intersection(State::of_thread().unwrap().bounding);
        State::for_exec(set, 0).apply().unwrap();
        let none = CapSet::EMPTY;
        assert_eq!(of_program(), five(none, set, set, set, none));
    });
}

#[test]
fn root_gives_an_ordinary_user_exactly_the_set() {
    if !may_lower() {
        return;
    }
    in_thread(|| {
        let set = CapSet::from_iter([Cap::Chown, Cap::NetBindService])
            .intersection(State::of_thread().unwrap().permitted);
        let (one, zero, id): (libc::c_ulong, libc::c_ulong, libc::c_long) = (1, 0, 65_534);
        // SAFETY: numbers alone; the raw call changes this thread only.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, one, zero, zero, zero), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, id, id, id), 0);
        }
        // The change of ids has emptied the effective set: CAP_SETPCAP is taken up again.
        assert_eq!(State::of_thread().unwrap().effective, CapSet::EMPTY);
        State::for_exec(set, 65_534).apply().unwrap();
        assert_eq!(of_program(), five(set, set, set, set, set));
    });
}

#[test]
fn a_bounding_set_that_cannot_be_lowered_is_an_error_and_nothing_is_done() {
    in_thread(|| {
        let now = State::of_thread().unwrap();
        let without = State { bounding: now.bounding, ..now.without(Cap::Setpcap) };
        without.apply().unwrap();
        let lower = State { bounding: CapSet::EMPTY, ..without };
        if now.bounding.is_empty() {
            eprintln!("skipped: the bounding set is empty already");
            return;
        }
        let error = lower.apply().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.remedy().unwrap().contains("CAP_SETPCAP"));
        assert_eq!(State::of_thread().unwrap(), without);
    });
}

#[test]
fn ambient_follows_permitted_and_inheritable() {
    in_thread(|| {
        let now = State::of_thread().unwrap();
        let Some(cap) = now.permitted.iter().next() else {
            eprintln!("skipped: this thread has no capability");
            return;
        };
        let one = CapSet::from(cap);
        let raised = State { inheritable: one, ambient: one, ..now };
        raised.apply().unwrap();
        assert_eq!(State::of_thread().unwrap(), raised);
        let lowered = State { ambient: CapSet::EMPTY, ..raised };
        lowered.apply().unwrap();
        assert_eq!(State::of_thread().unwrap(), lowered);
    });
}
