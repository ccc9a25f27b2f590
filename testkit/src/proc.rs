//! Reading /proc. What vanishes while one looks is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A process, as its stat file has it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) state: char,
    pub(crate) comm: String,
    /// Distinguishes it from a later one with the same number.
    pub(crate) started: u64,
}

/// The entries of a directory whose names are numbers.
pub(crate) fn numbers(path: impl AsRef<Path>) -> Vec<u32> {
    names(path).iter().filter_map(|name| name.parse().ok()).collect()
}

/// The entries of a directory, none when it cannot be read.
pub(crate) fn names(path: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Every process that can be seen.
pub(crate) fn processes() -> Vec<Process> {
    numbers("/proc").into_iter().filter_map(process).collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&String::from_utf8_lossy(&stat))
}

fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    // A name may hold a parenthesis itself.
    let (comm, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let (state, parent) = (fields.next()?, fields.next()?);
    Some(Process {
        pid: pid.parse().ok()?,
        parent: parent.parse().ok()?,
        state: state.chars().next()?,
        comm: comm.to_owned(),
        started: fields.nth(17)?.parse().ok()?,
    })
}

/// The threads of a process: number and name.
pub(crate) fn threads(pid: u32) -> Vec<(u32, String)> {
    let name = |tid: u32| fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok();
    let all = numbers(format!("/proc/{pid}/task")).into_iter();
    all.filter_map(|tid| Some((tid, name(tid)?.trim_end().to_owned()))).collect()
}

/// Our open descriptors and what they are, without the one it takes to look.
pub(crate) fn fds() -> Vec<(u32, String)> {
    let own = format!("/proc/{}/fd", std::process::id());
    let target = |fd: u32| fs::read_link(format!("{own}/{fd}")).ok();
    let all = numbers(&own).into_iter();
    all.filter_map(|fd| Some((fd, target(fd)?.to_string_lossy().into_owned())))
        .filter(|(_, target)| *target != own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks() {
        let stat = "42 (a ) (b)) Z 7 42 42 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0 0";
        let one = parse(stat).expect("a process");
        assert_eq!((one.pid, one.parent, one.state, one.started), (42, 7, 'Z', 1234));
        assert_eq!(one.comm, "a ) (b)");
    }

    #[test]
    fn oneself() {
        let own = process(std::process::id()).expect("this process");
        assert_eq!(own.parent, std::os::unix::process::parent_id());
    }
}
