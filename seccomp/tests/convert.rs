//! Programs of `seccompiler` as programs of ours.
#![cfg(all(feature = "seccompiler", target_arch = "x86_64"))]

use ireko_seccomp::{Action, Errno, ErrorKind, Program};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;

#[test]
fn a_program_of_seccompiler_converts_decides_and_installs() {
    let theirs: BpfProgram = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_getppid, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(77),
        TargetArch::x86_64,
    )
    .unwrap()
    .try_into()
    .unwrap();
    let length = theirs.len();
    let program = Program::try_from(theirs).unwrap();
    assert_eq!(program.instructions(), length);
    let verdict = program.decide("getppid", [0; 6]).unwrap();
    assert_eq!((verdict.action, verdict.rule), (Action::Errno(Errno::from_raw(77)), None));
    assert_eq!(program.decide("getpid", [0; 6]).unwrap().action, Action::Allow);
    let errno = std::thread::spawn(move || {
        program.install().unwrap();
        // SAFETY: it takes nothing.
        assert_eq!(unsafe { libc::syscall(libc::SYS_getppid) }, -1);
        Errno::last().raw()
    });
    assert_eq!(errno.join().unwrap(), 77);
    let empty = Program::try_from(BpfProgram::new()).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Invalid);
}
