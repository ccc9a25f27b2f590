//! The text of a profile: a line for each rule.

use crate::condition::Test;
use crate::rule::Layer;
use crate::{Action, Arg, Condition, Errno, Error, ErrorKind, Profile, Result, arg};
use ireko_sys::Failure;
use std::fmt;
use std::str::FromStr;

/// One rule a line; `#` starts a comment.
///
/// | line | means |
/// |---|---|
/// | `read` | it is allowed |
/// | `clone3 -> ENOSYS` | this happens instead: `allow`, an error, `kill-process`, `kill-thread`, `trap`, `log`, `notify`, `trace 7` |
/// | `socket int0 == 16 and int2 == 0` | it is allowed when all of these hold |
/// | `otherwise -> EPERM` | what happens to calls without a rule; also `unknown`, `foreign` |
/// | `-splice` | takes away what the lines above said of it |
///
/// `int0` to `int5` are the lower halves of the arguments, `arg0` to `arg5` all 64 bits;
/// compared by `==`, `!=`, `<`, `<=`, `>`, `>=`, unsigned, and `int1 & 0xff == 0` in some
/// bits. Numbers are decimal, or hexadecimal with `0x`.
///
/// Starts as [`Profile::new`] with `EPERM`.
///
/// ```
/// use ireko_seccomp::Profile;
/// let profile: Profile = "
///     otherwise -> kill-process
///     read
///     socket int0 == 1   # AF_UNIX
/// ".parse()?;
/// assert_eq!(profile.rules().count(), 2);
/// # Ok::<(), ireko_seccomp::Error>(())
/// ```
impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        read(Self::new(Action::Errno(Errno::EPERM)), text, Layer::Own)
    }
}

/// As a text that reads as the same profile, as long as nothing was merged into it.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "otherwise -> {}", self.otherwise)?;
        writeln!(f, "unknown -> {}", self.unknown)?;
        writeln!(f, "foreign -> {}", self.foreign)?;
        self.rules().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}

/// The profile with what the text says.
pub(crate) fn read(mut profile: Profile, text: &str, layer: Layer) -> Result<Profile> {
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            read_line(&mut profile, line, layer).map_err(|reason| {
                let what = format!("read line {} of a profile", number + 1);
                Failure::ours(ErrorKind::Invalid, what, format!("{line:?}: {reason}"))
            })?;
        }
    }
    Ok(profile)
}

fn read_line(profile: &mut Profile, line: &str, layer: Layer) -> Result<(), String> {
    if let Some(name) = line.strip_prefix('-') {
        let before = profile.own_group().len();
        profile.own_group().retain(|rule| rule.name != name);
        let found = profile.own_group().len() < before;
        return found.then_some(()).ok_or_else(|| "nothing was said of it".to_owned());
    }
    let (what, then) = match line.split_once("->") {
        Some((what, action)) => {
            let action = action.trim().parse::<Action>().map_err(|e| e.to_string())?;
            (what.trim(), Some(action))
        }
        None => (line, None),
    };
    let (name, rest) = what.split_once(char::is_whitespace).unwrap_or((what, ""));
    let setting = match name {
        "otherwise" => Some(&mut profile.otherwise),
        "unknown" => Some(&mut profile.unknown),
        "foreign" => Some(&mut profile.foreign),
        _ => None,
    };
    if let Some(setting) = setting {
        *setting = then.filter(|_| rest.is_empty()).ok_or("needs an arrow and an action alone")?;
        return Ok(());
    }
    if name.is_empty()
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        return Err("does not start with the name of a call".to_owned());
    }
    let when = match rest.trim() {
        "" => Vec::new(),
        rest => rest.split(" and ").map(condition).collect::<Result<_, _>>()?,
    };
    profile.push(name.to_owned(), when, then.unwrap_or(Action::Allow), layer);
    Ok(())
}

fn condition(text: &str) -> Result<Condition, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (argument, mask, operator, value) = match words[..] {
        [argument, operator, value] => (argument, None, operator, value),
        [argument, "&", mask, operator, value] => (argument, Some(number(mask)?), operator, value),
        _ => return Err(format!("{text:?} is no condition")),
    };
    let (wide, index) = match argument.split_at_checked(3) {
        Some(("arg", index)) => (true, index),
        Some(("int", index)) => (false, index),
        _ => return Err(format!("{argument:?} is no argument")),
    };
    let index: u8 = index.parse().map_err(|_| format!("{argument:?} is no argument"))?;
    let value = number(value)?;
    let limit = if wide { u64::MAX } else { u64::from(u32::MAX) };
    if value > limit || mask.is_some_and(|mask| mask > limit) {
        return Err(format!("{text:?} has a number that is no int"));
    }
    let at = Comparison { arg: arg(index), wide };
    Ok(match (operator, mask) {
        ("==", _) => at.masked(mask.unwrap_or(limit), value),
        ("!=", _) => !at.masked(mask.unwrap_or(limit), value),
        ("<=", None) => at.at_most(value),
        (">", None) => !at.at_most(value),
        ("<", None) => !at.at_least(value),
        (">=", None) => at.at_least(value),
        _ => return Err(format!("{operator:?} cannot stand there")),
    })
}

struct Comparison {
    arg: Arg,
    wide: bool,
}

impl Comparison {
    fn masked(&self, mask: u64, value: u64) -> Condition {
        Condition { wide: self.wide, test: Test::Masked { mask, value }, ..self.arg.equals(0) }
    }

    fn at_most(&self, value: u64) -> Condition {
        Condition { wide: self.wide, test: Test::AtMost(value), ..self.arg.equals(0) }
    }

    fn at_least(&self, value: u64) -> Condition {
        match value.checked_sub(1) {
            Some(below) => !self.at_most(below),
            // Always: no bit is looked at.
            None => self.masked(0, 0),
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    let read = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    read.map_err(|_| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> String {
        text.parse::<Profile>().unwrap().rules().next().unwrap().to_string()
    }

    #[test]
    fn reads_every_kind_of_rule() {
        for (text, read) in [
            ("read", "read"),
            ("  read -> allow # why", "read"),
            ("clone3->ENOSYS", "clone3 -> ENOSYS"),
            ("clone\targ0 & 0x7e020000 == 0", "clone arg0 & 0x7e020000 == 0"),
            ("socket int0 < 38", "socket int0 <= 0x25"),
            ("socket int0 > 40 -> trap", "socket int0 > 0x28 -> trap"),
            ("socket int0 >= 3", "socket int0 > 2"),
            ("socket int0 >= 0", "socket int0 & 0x0 == 0"),
            ("socket int0 == 16 and int2 != 0", "socket int0 == 0x10 and int2 != 0"),
            ("mmap arg5 <= 0xffffffffffffffff", "mmap arg5 <= 0xffffffffffffffff"),
            ("ioctl int1 & 255 != 3 -> trace 9", "ioctl int1 & 0xff != 3 -> trace 9"),
        ] {
            assert_eq!(rule(text), read, "{text}");
            assert_eq!(rule(read), read);
        }
    }

    #[test]
    fn a_mistake_names_its_line() {
        let error = "read\n\nsocket int0 = 1".parse::<Profile>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "read line 3 of a profile: \"socket int0 = 1\": \"=\" cannot stand there"
        );
        for text in [
            "Read",
            "read,write",
            "read write",
            "-read",
            "read ->",
            "read -> nothing",
            "otherwise",
            "otherwise int0 == 1 -> EPERM",
            "socket int0 == -1",
            "socket int0 == 0x1ffffffff",
            "socket int == 1",
            "socket foo0 == 1",
            "socket int0 == 1 and",
            "socket int0 & 3 < 1",
            "-> EPERM",
        ] {
            assert_eq!(text.parse::<Profile>().unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }

    #[test]
    fn what_is_displayed_reads_as_the_same() {
        let profile = Profile::new(Action::KillProcess)
            .unknown(Action::Trap)
            .allow(["read", "write"])
            .rule("socket", [arg(0).equals_int(2), !arg(2).masked(6, 4)], Action::Log);
        assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
        let removed: Profile = "read\nwrite\n-read".parse().unwrap();
        assert_eq!(removed.rules().count(), 1);
    }
}
