//! What the kernel writes, read from text alone.

use crate::Controllers;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A number, `None` for `max` and for what is no number.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value behind a key: `oom_kill 3`.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| number(line.strip_prefix(key)?.strip_prefix(' ')?))
}

/// `quota period` in microseconds, as `cpu.max` has it; `None`: no quota.
pub(crate) fn cpu_max(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((number(quota)?, number(period)?))
}

/// Sum of one key over the devices of `io.stat`: `8:0 rbytes=1 wbytes=2`.
pub(crate) fn io_stat(text: &str, key: &str) -> u64 {
    let value = |pair: &str| number(pair.strip_prefix(key)?.strip_prefix('=')?);
    text.split_whitespace().filter_map(value).fold(0, u64::saturating_add)
}

/// Sum of one operation over the devices of a v1 blkio file: `8:0 Read 4096`.
pub(crate) fn blkio(text: &str, operation: &str) -> u64 {
    let value = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()?.contains(':') && words.next()? == operation)
            .then(|| number(words.next()?))?
    };
    text.lines().filter_map(value).fold(0, u64::saturating_add)
}

/// The processes in `cgroup.procs`. 0 is one that this pid namespace does not see.
pub(crate) fn pids(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0)
}

/// A line of `/proc/self/cgroup`: the caller's group in one hierarchy.
#[derive(Debug, PartialEq)]
pub(crate) struct Membership {
    /// `None`: the v2 tree.
    pub(crate) v1: Option<Controllers>,
    pub(crate) path: PathBuf,
}

pub(crate) fn memberships(text: &str) -> Vec<Membership> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (id, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let v1 = match names {
            "" if id == "0" => None,
            names => Some(Controllers::from_v1(names)).filter(|c| !c.is_empty())?.into(),
        };
        // A group that was removed with the caller in it.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        Some(Membership { v1, path: path.into() })
    };
    text.lines().filter_map(line).collect()
}

/// A cgroup mount of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq)]
pub(crate) struct Mount {
    /// `None`: v2.
    pub(crate) v1: Option<Controllers>,
    /// The group that is seen at the mount point.
    pub(crate) root: PathBuf,
    pub(crate) at: PathBuf,
}

pub(crate) fn mounts(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        // id parent major:minor root point options [tags...] - type source super-options
        let (mount, fs) = line.split_once(" - ")?;
        let mut fs = fs.split(' ');
        let (kind, options) = (fs.next()?, fs.nth(1)?);
        let v1 = match kind {
            "cgroup2" => None,
            "cgroup" => Some(Controllers::from_v1(options)).filter(|c| !c.is_empty())?.into(),
            _ => return None,
        };
        let mut mount = mount.split(' ').skip(3);
        Some(Mount { v1, root: unescape(mount.next()?), at: unescape(mount.next()?) })
    };
    text.lines().filter_map(line).collect()
}

/// Where a group is found in the file system, if this mount shows it.
pub(crate) fn place(mount: &Mount, group: &Path) -> Option<PathBuf> {
    let below = group.strip_prefix(&mount.root).ok()?;
    let climbs = |path: &Path| path.components().any(|c| c.as_os_str() == "..");
    if climbs(below) || climbs(&mount.root) {
        return None;
    }
    Some(mount.at.join(below))
}

/// `\040` is a blank: mountinfo writes blank, tab, newline and backslash in octal.
fn unescape(text: &str) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).filter(|d| *first == b'\\' && d.iter().all(|c| (b'0'..b'8').contains(c)));
        match octal {
            Some(d) => {
                out.push(d.iter().fold(0u8, |n, c| n.wrapping_mul(8).wrapping_add(c - b'0')));
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_keys() {
        assert_eq!(number("4096\n"), Some(4096));
        assert_eq!(number("max\n"), None);
        assert_eq!(number("-1\n"), None);
        let events = "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(keyed(events, "oom"), Some(2));
        assert_eq!(keyed(events, "oom_kill"), Some(1));
        assert_eq!(keyed(events, "oom_k"), None);
        assert_eq!(cpu_max("50000 100000\n"), Some((50_000, 100_000)));
        assert_eq!(cpu_max("max 100000\n"), None);
        assert_eq!(pids("12\n0\n7\n").collect::<Vec<_>>(), [12, 7]);
    }

    #[test]
    fn io_is_summed_over_devices() {
        let v2 = "8:0 rbytes=100 wbytes=7 rios=2\n259:1 rbytes=50 wbytes=1\n";
        assert_eq!(io_stat(v2, "rbytes"), 150);
        assert_eq!(io_stat(v2, "wbytes"), 8);
        let v1 = "8:0 Read 100\n8:0 Write 7\n8:16 Read 50\n8:0 Total 107\nTotal 157\n";
        assert_eq!(blkio(v1, "Read"), 150);
        assert_eq!(blkio(v1, "Write"), 7);
    }

    #[test]
    fn memberships_of_a_hybrid_host() {
        let text =
            "13:misc:/\n9:name=systemd:/init.scope\n4:memory:/user/a:b\n2:cpu,cpuacct:/\n0::/\n";
        let found = memberships(text);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].path, Path::new("/user/a:b"));
        assert_eq!(found[1].v1, Some(Controllers::CPU | Controllers::CPUACCT));
        assert_eq!(found[2], Membership { v1: None, path: "/".into() });
    }

    #[test]
    fn mounts_of_both_versions() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 master:1 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 /docker/ab /mnt/a\\040b rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
        let found = mounts(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].v1, Some(Controllers::CPU | Controllers::CPUACCT));
        let v2 = Mount { v1: None, root: "/docker/ab".into(), at: "/mnt/a b".into() };
        assert_eq!(found[1], v2);
    }

    #[test]
    fn a_group_that_the_mount_does_not_show_has_no_place() {
        let mount = |root: &str| Mount { v1: None, root: root.into(), at: "/cg".into() };
        let at = |root, group| place(&mount(root), Path::new(group));
        assert_eq!(at("/", "/user/x"), Some("/cg/user/x".into()));
        assert_eq!(at("/", "/"), Some("/cg/".into()));
        assert_eq!(at("/docker/ab", "/docker/ab/c"), Some("/cg/c".into()));
        assert_eq!(at("/docker/ab", "/docker/abc"), None);
        assert_eq!(at("/docker/ab", "/"), None);
        assert_eq!(at("/", "/../other"), None);
        assert_eq!(at("/..", "/../x"), None);
    }
}
