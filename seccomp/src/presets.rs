//! The presets: texts in `presets/`, read and compiled once per process.

use crate::rule::Layer;
use crate::{Action, Arch, Errno, Profile, Program, Result, compiler, text};
use std::sync::{LazyLock, OnceLock};

static STANDARD: LazyLock<Profile> =
    LazyLock::new(|| preset(None, include_str!("../presets/standard.txt")));
static COMPAT: LazyLock<Profile> =
    LazyLock::new(|| preset(None, include_str!("../presets/compat.txt")));
static STRICT: LazyLock<Profile> =
    LazyLock::new(|| preset(Some(standard()), include_str!("../presets/strict.txt")));

fn preset(base: Option<&Profile>, words: &str) -> Profile {
    let base = base.cloned().unwrap_or_else(|| Profile::new(Action::Errno(Errno::EPERM)));
    match text::read(base, words, Layer::Preset) {
        Ok(profile) => profile,
        Err(error) => unreachable!("a table of this crate, which its tests read: {error}"),
    }
}

pub(crate) fn standard() -> &'static Profile {
    &STANDARD
}

pub(crate) fn compat() -> &'static Profile {
    &COMPAT
}

pub(crate) fn strict() -> &'static Profile {
    &STRICT
}

/// What was kept of it, when it is a preset as it is; or the same error again.
pub(crate) fn compiled(profile: &Profile, arch: Arch) -> Option<Result<&'static Program>> {
    static KEPT: [OnceLock<Program>; 3] = [const { OnceLock::new() }; 3];
    if arch != Arch::Native {
        return None;
    }
    let presets = [standard, compat, strict];
    let (_, kept) = presets.iter().zip(&KEPT).find(|(preset, _)| preset() == profile)?;
    if let Some(program) = kept.get() {
        return Some(Ok(program));
    }
    Some(compiler::compile(profile, arch).map(|program| kept.get_or_init(|| program)))
}
