use crate::{Attributes, ErrorKind, Propagation, Result};
use ireko_sys::Failure;
use procfs::process::{MountInfo, MountOptFields};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of the mount table. Names are as they are, not as they are escaped there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    id: u64,
    parent: u64,
    device: (u32, u32),
    root: PathBuf,
    mount_point: PathBuf,
    options: Vec<String>,
    shared: Option<u32>,
    master: Option<u32>,
    propagate_from: Option<u32>,
    unbindable: bool,
    kind: String,
    source: Option<OsString>,
    super_options: Vec<(OsString, Option<OsString>)>,
}

impl MountEntry {
    /// The id of the mount: used again after it is gone.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The id of the mount it is on. Outside the caller's root that one is not listed.
    #[must_use]
    pub fn parent(&self) -> u64 {
        self.parent
    }

    /// Major and minor number of the filesystem's device.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        self.device
    }

    /// Which directory, or file, of the filesystem it shows.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where it is, as seen from the caller's root.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// The options of this mount, sorted: `["nosuid", "relatime", "ro"]`.
    #[must_use]
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// What this mount refuses. The filesystem may be read-only besides: see
    /// [`super_options`](Self::super_options).
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        let mut found = Attributes::empty();
        for option in &self.options {
            found |= match option.as_str() {
                "ro" => Attributes::RDONLY,
                "nosuid" => Attributes::NOSUID,
                "nodev" => Attributes::NODEV,
                "noexec" => Attributes::NOEXEC,
                "nosymfollow" => Attributes::NOSYMFOLLOW,
                _ => Attributes::empty(),
            };
        }
        found
    }

    /// Whether its owners are shown through an id map. Linux 5.12.
    #[must_use]
    pub fn is_idmapped(&self) -> bool {
        self.options.iter().any(|option| option == "idmapped")
    }

    /// How later mounts cross. One that is both shared and a slave is `Shared`;
    /// one that is unbindable is `Private`.
    #[must_use]
    pub fn propagation(&self) -> Propagation {
        match (self.shared, self.master) {
            (Some(_), _) => Propagation::Shared,
            (None, Some(_)) => Propagation::Slave,
            (None, None) => Propagation::Private,
        }
    }

    /// The peer group it is in.
    #[must_use]
    pub fn shared(&self) -> Option<u32> {
        self.shared
    }

    /// The peer group it follows.
    #[must_use]
    pub fn master(&self) -> Option<u32> {
        self.master
    }

    /// The nearest group below the caller's root that it is fed from.
    #[must_use]
    pub fn propagate_from(&self) -> Option<u32> {
        self.propagate_from
    }

    /// Whether it refuses to be bound elsewhere.
    #[must_use]
    pub fn is_unbindable(&self) -> bool {
        self.unbindable
    }

    /// The filesystem type: `ext4`, `fuse.sshfs`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it was made of. `None` for nothing and for `none`.
    #[must_use]
    pub fn source(&self) -> Option<&OsStr> {
        self.source.as_deref()
    }

    /// The options of the filesystem, in its order, repeated ones as often as they are.
    pub fn super_options(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        self.super_options.iter().map(|(key, value)| (key.as_os_str(), value.as_deref()))
    }

    pub(crate) fn parse(line: &str) -> Result<Self> {
        let refused = || {
            let operation = format!("read the mount table line {line:?}");
            let reason = "not as proc_pid_mountinfo(5) has it";
            Failure::ours(ErrorKind::Invalid, operation, reason)
        };
        let info = MountInfo::from_line(line).map_err(|_| refused())?;
        let id = |number: i32| u64::try_from(number).map_err(|_| refused());
        let (major, minor) = info.majmin.split_once(':').ok_or_else(refused)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| refused());
        let mut options: Vec<String> = info
            .mount_options
            .into_iter()
            .map(|(key, value)| value.map_or(key.clone(), |value| format!("{key}={value}")))
            .collect();
        options.sort_unstable();
        let mut entry = Self {
            id: id(info.mnt_id)?,
            parent: id(info.pid)?,
            device: (number(major)?, number(minor)?),
            root: PathBuf::from(unescape(&info.root)),
            mount_point: PathBuf::from(unescape(&info.mount_point.to_string_lossy())),
            options,
            shared: None,
            master: None,
            propagate_from: None,
            unbindable: false,
            kind: unescape(&info.fs_type).to_string_lossy().into_owned(),
            source: info.mount_source.as_deref().map(unescape),
            // From the line: the parser keeps one value of each key, in no order.
            super_options: line
                .split_once(" - ")
                .and_then(|(_, rest)| rest.splitn(3, ' ').nth(2))
                .map(super_options)
                .unwrap_or_default(),
        };
        for field in info.opt_fields {
            match field {
                MountOptFields::Shared(group) => entry.shared = Some(group),
                MountOptFields::Master(group) => entry.master = Some(group),
                MountOptFields::PropagateFrom(group) => entry.propagate_from = Some(group),
                MountOptFields::Unbindable => entry.unbindable = true,
            }
        }
        Ok(entry)
    }
}

fn super_options(text: &str) -> Vec<(OsString, Option<OsString>)> {
    text.split(',')
        .map(|option| match option.split_once('=') {
            Some((key, value)) => (unescape(key), Some(unescape(value))),
            None => (unescape(option), None),
        })
        .collect()
}

/// Undoes `\040` for a space, and whatever else the kernel wrote in octal.
fn unescape(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes)
}

/// A mount table as text: what is no UTF-8 becomes octal, as the kernel does itself
/// with the bytes it cannot print.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\{byte:03o}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn undoes_octal_escapes_only() {
        for (text, bytes) in [
            (r"/a\040b", &b"/a b"[..]),
            (r"\011\012\134", b"\t\n\\"),
            (r"\134040", b"\\040"),
            (r"/end\04", br"/end\04"),
            (r"\999\400", br"\999\400"),
            (r"\377", b"\xff"),
            ("/ü", "/ü".as_bytes()),
            ("", b""),
        ] {
            assert_eq!(unescape(text).as_bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn bytes_survive() {
        let name = b"/a\xff\xfe\xc3\xbcz\xc3";
        assert_eq!(escape(name), "/a\\377\\376üz\\303");
        assert_eq!(unescape(&escape(name)).as_bytes(), name);
    }
}
