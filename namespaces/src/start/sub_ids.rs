//! Subordinate ids, through the two set-user-id programs that hand them out.

use crate::idmap::{IdMap, IdMaps, text};
use crate::{Result, Spawn};
use ireko_sys::{ErrorKind, Failure};
use std::path::Path;

/// Looked for here alone: a `PATH` could name another's program.
const PLACES: [&str; 2] = ["/usr/bin", "/bin"];

pub(crate) fn sub_ids((uid, gid): (u32, u32)) -> Result<IdMaps> {
    let name = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|user| user.name);
    let mut maps = IdMaps::new().uids(IdMap { inside: 0, outside: uid, count: 1 }).gids(IdMap {
        inside: 0,
        outside: gid,
        count: 1,
    });
    let missing = |file: &str, who: &str| {
        Failure::ours(
            ErrorKind::NotFound,
            format!("look up subordinate ids in {file}"),
            format!("there is no range for {who}"),
        )
        .remedy(format!(
            "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}"
        ))
    };
    let who = name.clone().unwrap_or_else(|| uid.to_string());
    for (file, is_uid) in [("/etc/subuid", true), ("/etc/subgid", false)] {
        let found =
            ranges(&std::fs::read_to_string(file).unwrap_or_default(), name.as_deref(), uid);
        if found.is_empty() {
            return Err(missing(file, &who).into());
        }
        let mut inside = 1;
        for (outside, count) in found {
            let map = IdMap { inside, outside, count };
            maps = if is_uid { maps.uids(map) } else { maps.gids(map) };
            inside = inside.saturating_add(count);
        }
    }
    program("newuidmap")?;
    program("newgidmap")?;
    Ok(maps.by_helpers())
}

/// The ranges that `name`, or the number, has in a file such as `/etc/subuid`.
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let ours = Some(who) == name || who == number;
            (ours && range.1 > 0 && fields.next().is_none()).then_some(range)
        })
        .collect()
}

fn program(name: &str) -> Result<std::path::PathBuf> {
    PLACES.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists()).ok_or_else(|| {
        Failure::ours(ErrorKind::NotFound, format!("find {name}"), "it is not installed")
            .remedy("install the package uidmap (shadow-utils), which has newuidmap and newgidmap")
            .into()
    })
}

pub(crate) fn write_by_helpers(maps: &IdMaps, pid: u32) -> Result<()> {
    for (name, maps) in [("newuidmap", maps.uid_maps()), ("newgidmap", maps.gid_maps())] {
        let numbers = text(maps);
        let output = Spawn::new(program(name)?)
            .arg(pid.to_string())
            .args(numbers.split_whitespace())
            .env_clear()
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::ours(ErrorKind::Denied, format!("map ids with {name}"), said)
                .remedy("check that the program is set-user-id root, and the ranges in /etc/subuid and /etc/subgid")
                .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn finds_ranges_by_name_and_number() {
        let text =
            "root:100000:65536\nann:165536:65536\n1000:300000:10\nbad:x:1\nann:1:0\nann:1:2:3\n";
        assert_eq!(ranges(text, Some("ann"), 1000), [(165_536, 65_536), (300_000, 10)]);
        assert_eq!(ranges(text, None, 7), []);
    }
}
