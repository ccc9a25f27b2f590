//! Who it runs as.

use super::shape::{Ids, Shape};
use crate::builder::Config;
use crate::rootfs::Base;
use crate::{Error, Result, Stage, User};
use ireko_sys::{Errno, ErrorKind, Failure, Root};
use std::io::Read;

/// A passwd or group file larger than this is no such file.
const LARGEST: u64 = 1 << 20;

pub(crate) fn of(config: &Config, shape: &Shape) -> Result<Option<Ids>> {
    let named = match &config.user {
        None if config.groups.is_none() && !shape.confined && shape.new.is_empty() => {
            return Ok(None);
        }
        None => None,
        Some(User::Ids { uid, gid }) => Some((*uid, *gid, Vec::new())),
        Some(User::Name(text)) => Some(look_up(text, shape)?),
    };
    let user_ns = !matches!(shape.maps, super::Maps::None);
    let (uid, gid, mut groups) = match named {
        Some(named) => named,
        None if user_ns => {
            let (uid, gid) = shape.builder_ids();
            (uid, gid, Vec::new())
        }
        // SAFETY: these take nothing and cannot fail.
        None if config.groups.is_some() => unsafe {
            (libc::geteuid(), libc::getegid(), Vec::new())
        },
        // The caller's own ids, all of them, stay.
        None => return Ok(None),
    };
    if let Some(given) = &config.groups {
        groups.clone_from(given);
    }
    for (id, group, what) in std::iter::once((uid, false, "user"))
        .chain(std::iter::once((gid, true, "group")))
        .chain(groups.iter().map(|gid| (*gid, true, "group")))
    {
        // The last number means "no id".
        if id == u32::MAX {
            return Err(Error::invalid(format!("run as {what} {id}"), "that number means no id"));
        }
        if !shape.is_mapped(id, group) {
            return Err(Error::invalid(format!("run as {what} {id}"), "it is not mapped inside")
                .with_remedy(
                    "add it with .id_maps(..), or as an ordinary user use IdMaps::sub_ids()",
                ));
        }
    }
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > 64 {
        return Err(Error::invalid("set supplementary groups", "more than 64"));
    }
    if !shape.groups_allowed() {
        if !groups.is_empty() {
            return Err(Error::invalid(
                "set supplementary groups",
                "a map that its own user wrote allows none",
            )
            .with_remedy("use IdMaps::sub_ids()"));
        }
        return Ok(Some(Ids { uid, gid, groups: None }));
    }
    Ok(Some(Ids { uid, gid, groups: Some(groups) }))
}

/// `name`, `name:group`, `1000`, `1000:1000`. All digits is a number or an error, never
/// a name.
fn look_up(text: &str, shape: &Shape) -> Result<(u32, u32, Vec<u32>)> {
    let operation = || format!("look up the user {text:?} inside");
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let field = |text: &str| -> Result<Field> {
        if text.is_empty() || text.contains([':', '/', '\n', '\0']) {
            return Err(Error::invalid(operation(), "it is not of the form user or user:group"));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse::<u32>() {
                Ok(id) if id != u32::MAX => Ok(Field::Id(id)),
                _ => Err(Error::invalid(operation(), format!("{text} is not an id"))),
            };
        }
        // What looks like a number to somebody else must not become a name.
        if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err(Error::invalid(
                operation(),
                format!("{text:?} is neither a name nor an id"),
            ));
        }
        Ok(Field::Name(text.to_owned()))
    };
    let (user, group) = (field(user)?, group.map(field).transpose()?);
    let passwd = read(shape, "etc/passwd")?;
    let groups = read(shape, "etc/group")?;
    let missing = |what: String| {
        let failure =
            Failure::ours(ErrorKind::NotFound, operation(), format!("there is no {what}"));
        Error::new(Stage::Config, failure)
    };
    let entry = find(&passwd, &user);
    let uid = match &user {
        Field::Id(id) => *id,
        Field::Name(name) => {
            entry.as_ref().ok_or_else(|| missing(format!("user {name} in /etc/passwd")))?.1
        }
    };
    let gid = match group {
        Some(Field::Id(id)) => id,
        Some(name) => {
            find(&groups, &name).ok_or_else(|| missing(format!("group {name:?} in /etc/group")))?.1
        }
        None => entry.as_ref().map_or(0, |entry| entry.2),
    };
    let further = entry.map_or_else(Vec::new, |entry| memberships(&groups, &entry.0));
    Ok((uid, gid, further))
}

#[derive(Debug, PartialEq)]
enum Field {
    Id(u32),
    Name(String),
}

/// Name, id, and what stands in the fourth field if that is an id.
fn find(text: &str, wanted: &Field) -> Option<(String, u32, u32)> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let id: u32 = fields.get(2)?.parse().ok()?;
        let is = match wanted {
            Field::Name(name) => fields[0] == name,
            Field::Id(wanted) => id == *wanted,
        };
        let fourth = fields.get(3).and_then(|f| f.parse().ok()).unwrap_or(0);
        (is && id != u32::MAX).then(|| (fields[0].to_owned(), id, fourth))
    })
}

fn memberships(groups: &str, user: &str) -> Vec<u32> {
    groups
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let member = fields.get(3)?.split(',').any(|name| name == user);
            member.then(|| fields[2].parse().ok()).flatten()
        })
        .collect()
}

/// A file of the tree; empty where there is none.
fn read(shape: &Shape, path: &str) -> Result<String> {
    let root = match shape.rootfs.as_ref().map(|rootfs| &rootfs.base) {
        Some(Base::Directory(dir)) => Root::open(dir),
        Some(Base::Host) | None => Root::open("/"),
    }
    .map_err(|e| Error::from(e).at(Stage::Config))?;
    let found = match root.resolve(path) {
        Ok(found) => found,
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(String::new()),
        Err(error) => return Err(Error::from(error).at(Stage::Config)),
    };
    let mut bytes = Vec::new();
    let file = found.open().map_err(|e| Error::from(e).at(Stage::Config))?;
    let failed = |reason: String| {
        Error::new(
            Stage::Config,
            Failure::ours(ErrorKind::Invalid, format!("read /{path} inside"), reason),
        )
    };
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(failed("it is larger than 1 MiB".into()));
    }
    // Lines that are not text match nobody.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_name_and_number() {
        let text = "root:x:0:0::/:\nann:x:1000:100::/:\nbad:x:y:z\nlast:x:4294967295:0::\n";
        assert_eq!(find(text, &Field::Name("ann".into())), Some(("ann".into(), 1000, 100)));
        assert_eq!(find(text, &Field::Id(0)).unwrap().0, "root");
        assert_eq!(find(text, &Field::Name("last".into())), None);
        assert_eq!(find(text, &Field::Name("4294967295".into())), None);
        assert_eq!(memberships("a:x:5:ann,bob\nb:x:6:bob\nc:x:7:\n", "ann"), [5]);
    }
}
