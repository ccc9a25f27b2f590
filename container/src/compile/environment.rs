//! The environment, and where programs are looked for in it.

use crate::builder::{Config, EnvChange};
use crate::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the program is given: a `PATH` and what was set, or in a bare start the
/// caller's own with the changes.
pub(crate) fn variables(config: &Config, confined: bool) -> Result<Vec<(OsString, OsString)>> {
    let mut vars: Vec<(OsString, OsString)> =
        if confined { vec![("PATH".into(), PATH.into())] } else { std::env::vars_os().collect() };
    for change in &config.env {
        match change {
            EnvChange::Clear => vars.clear(),
            EnvChange::Remove(key) => vars.retain(|(known, _)| known != key),
            EnvChange::Set(key, value) => {
                let bytes = key.as_bytes();
                if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) {
                    let reason = "its name is empty, or holds = or a NUL byte";
                    return Err(Error::invalid(format!("set the variable {key:?}"), reason));
                }
                match vars.iter_mut().find(|(known, _)| known == key) {
                    Some(var) => var.1.clone_from(value),
                    None => vars.push((key.clone(), value.clone())),
                }
            }
        }
    }
    Ok(vars)
}

/// Where a program of this name may be: itself when it has a slash, else along `PATH`.
pub(crate) fn candidates(program: &OsStr, vars: &[(OsString, OsString)]) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    let path =
        vars.iter().find(|(key, _)| key == "PATH").map_or(OsStr::new(PATH), |(_, value)| value);
    path.as_bytes()
        .split(|b| *b == b':')
        // An empty part is the working directory: nobody means that.
        .filter(|dir| !dir.is_empty())
        .map(|dir| Path::new(OsStr::from_bytes(dir)).join(program))
        .collect()
}
