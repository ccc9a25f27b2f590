use crate::error::{c_string, failed, said};
use crate::{Attributes, Detached, Errno, ErrorKind, Result, Size, call};
use ireko_sys::Failure;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What `fsconfig` copies of a name or a value.
const LONGEST: usize = 255;

/// A filesystem to be made: `Filesystem::new("tmpfs").option("mode", "1777")`.
///
/// Each option goes to the kernel by itself, so commas, colons and spaces in a
/// value need no quoting. See
/// [`fsopen(2)`](https://man7.org/linux/man-pages/man2/fsopen.2.html) and
/// [`fsconfig(2)`](https://man7.org/linux/man-pages/man2/fsconfig.2.html). Linux 5.2.
///
/// ```no_run
/// use ireko_mounts::{Attributes, Filesystem};
/// let proc = Filesystem::new("proc")
///     .option("hidepid", "invisible")
///     .attributes(Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC)
///     .mount()?;
/// # Ok::<(), ireko_mounts::Error>(())
/// ```
#[doc(alias = "fsopen")]
#[doc(alias = "fsconfig")]
#[derive(Clone, Debug)]
#[must_use = "nothing is mounted until mount()"]
pub struct Filesystem {
    kind: String,
    parameters: Vec<(String, Value)>,
    attributes: Attributes,
}

#[derive(Clone, Debug)]
enum Value {
    Flag,
    Text(OsString),
    Fd(Arc<OwnedFd>),
}

impl Filesystem {
    /// A filesystem type as in `/proc/filesystems`.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), parameters: Vec::new(), attributes: Attributes::empty() }
    }

    /// What it is made of, and what the mount table calls it: a device, a share.
    /// Default: none.
    pub fn source(self, source: impl AsRef<OsStr>) -> Self {
        self.option("source", source)
    }

    /// One option of this filesystem, `"size"` say. A key may be given again where
    /// the filesystem takes a list: `"lowerdir+"` of overlayfs. The kernel takes
    /// values of at most 255 bytes.
    #[doc(alias = "FSCONFIG_SET_STRING")]
    pub fn option(self, key: impl Into<String>, value: impl AsRef<OsStr>) -> Self {
        self.parameter(key, Value::Text(value.as_ref().to_owned()))
    }

    /// An option without a value: `"ro"` makes the whole filesystem read-only.
    #[doc(alias = "FSCONFIG_SET_FLAG")]
    pub fn flag(self, key: impl Into<String>) -> Self {
        self.parameter(key, Value::Flag)
    }

    /// An option whose value is an open file, where the filesystem takes one
    /// (the layers of overlayfs: Linux 6.13). It is shared with every clone of this value.
    #[doc(alias = "FSCONFIG_SET_FD")]
    pub fn fd(self, key: impl Into<String>, fd: impl Into<Arc<OwnedFd>>) -> Self {
        self.parameter(key, Value::Fd(fd.into()))
    }

    /// What the mount refuses from the start. Default: nothing.
    ///
    /// Like [`Detached::with`], one call cheaper. In a user namespace proc and sysfs
    /// can be mounted only with the attributes that the ones outside have.
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes |= attributes;
        self
    }

    fn parameter(mut self, key: impl Into<String>, value: Value) -> Self {
        self.parameters.push((key.into(), value));
        self
    }

    /// Makes it, attached to nothing, private. May be called again for another one.
    ///
    /// # Errors
    /// `Invalid` with the kernel's own words on the option it refused;
    /// `Unsupported` for a filesystem or a call that this kernel does not have;
    /// `Denied` without `CAP_SYS_ADMIN`, or where the filesystem cannot be mounted
    /// in a user namespace.
    #[doc(alias = "fsmount")]
    pub fn mount(&self) -> Result<Detached> {
        let kind = &self.kind;
        let name = c_string("filesystem type", kind)?;
        let context = call::fsopen(&name).map_err(|refused| {
            let mut failure = failed(format!("mount {kind}"), refused);
            if refused.errno.raw() == libc::ENODEV {
                failure.reason = Some("this kernel has no such filesystem (ENODEV)".into());
            }
            failure
        })?;
        // The context's messages are read with read(2): it is a file like any other.
        let mut context = File::from(context);
        for (key, value) in &self.parameters {
            self.set(&mut context, key, value)?;
        }
        let made = call::create(&context)
            .and_then(|()| call::fsmount(&context, self.attributes.bits()))
            .map_err(|refused| {
                said(failed(format!("mount {kind}"), refused), &words(&mut context))
            })?;
        Ok(Detached::new(made, kind.clone()))
    }

    fn set(&self, context: &mut File, key: &str, value: &Value) -> Result<()> {
        let name = c_string("option", key)?;
        let mut length = key.len();
        let answer = match value {
            Value::Flag => call::set_flag(context, &name),
            Value::Fd(fd) => call::set_fd(context, &name, fd.as_fd()),
            Value::Text(text) => {
                length = length.max(text.len());
                call::set_string(context, &name, &c_string("value", text)?)
            }
        };
        answer.map_err(|refused| {
            // Only the key is named: a value can be a password.
            let failure = failed(format!("mount {} with {key}", self.kind), refused);
            let mut words = words(context);
            if words.is_empty() && length > LONGEST && refused.errno == Errno::EINVAL {
                words = format!("fsconfig takes {LONGEST} bytes, these are {length}");
            }
            said(failure, &words).into()
        })
    }
}

impl Detached {
    /// An empty tmpfs that can hold this much (rounded up to pages), mode 0755.
    ///
    /// # Errors
    /// `Invalid` for a size of 0, which tmpfs takes for no limit at all; otherwise
    /// as [`Filesystem::mount`].
    pub fn tmpfs(size: Size) -> Result<Self> {
        if size.as_bytes() == 0 {
            let reason = "a size of 0 would be no limit";
            return Err(Failure::ours(ErrorKind::Invalid, "mount tmpfs", reason).into());
        }
        Filesystem::new("tmpfs")
            .option("size", size.as_bytes().to_string())
            .option("mode", "0755")
            .mount()
    }
}

/// What the kernel wrote into the context: `e tmpfs: Unknown parameter 'x'`, a
/// message a read, `ENODATA` after the last.
fn words(context: &mut File) -> String {
    let mut messages = Vec::new();
    let mut buffer = [0; 1024];
    // The kernel keeps eight.
    for _ in 0..8 {
        match context.read(&mut buffer) {
            Ok(n) => messages.push(String::from_utf8_lossy(&buffer[..n]).trim().to_owned()),
            Err(_) => break,
        }
    }
    chosen(&messages)
}

/// The errors among the messages; the rest when there are none.
fn chosen(messages: &[String]) -> String {
    let of = |level: &str| -> Vec<&str> {
        messages.iter().filter_map(|m| m.strip_prefix(level)).collect()
    };
    let errors = of("e ");
    if errors.is_empty() { [of("w "), of("i ")].concat().join("; ") } else { errors.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_errors_among_the_messages() {
        for (messages, words) in [
            (&["e tmpfs: Unknown parameter 'x'"][..], "tmpfs: Unknown parameter 'x'"),
            (&["w overlay: a", "e overlay: b", "e overlay: c"], "overlay: b; overlay: c"),
            (&["i a", "w b"], "b; a"),
            (&[], ""),
        ] {
            let messages: Vec<String> = messages.iter().map(|m| (*m).to_owned()).collect();
            assert_eq!(chosen(&messages), words);
        }
    }

    #[test]
    fn a_tmpfs_has_a_size() {
        let error = Detached::tmpfs(Size::bytes(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.errno(), None);
    }

    #[test]
    fn strings_hold_no_nul() {
        let error = Filesystem::new("tmp\0fs").mount().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), r#"use the filesystem type "tmp\0fs": it holds a NUL byte"#);
    }
}
