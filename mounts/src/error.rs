use crate::call::{Refused, release};
use ireko_sys::{Errno, ErrorKind, Failure};
use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

ireko_sys::error! {
    /// A mount call that failed: which call, on what, and why.
    from ireko_sys::Error;
}

/// [`std::result::Result`] with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The failure of one call.
pub(crate) fn failed(operation: impl Into<Cow<'static, str>>, refused: Refused) -> Failure {
    let mut failure = Failure::kernel(operation, refused.errno);
    if refused.errno == Errno::ENOSYS {
        failure.reason = Some(missing(refused.call, refused.since, &release()).into());
    } else if refused.errno == Errno::EPERM {
        failure = failure.remedy("run as root, or in a user and a mount namespace of your own");
    }
    failure
}

/// The failure of one call, with the words that the kernel found for it.
pub(crate) fn said(mut failure: Failure, words: &str) -> Failure {
    if let (false, Some(errno)) = (words.is_empty(), failure.errno) {
        failure.reason = Some(format!("{words} ({})", errno.name()).into());
    }
    failure
}

/// A string for the kernel.
pub(crate) fn c_string(what: &str, text: impl AsRef<OsStr>) -> Result<CString> {
    CString::new(text.as_ref().as_bytes()).map_err(|_| {
        let operation = format!("use the {what} {:?}", text.as_ref());
        Failure::ours(ErrorKind::Invalid, operation, "it holds a NUL byte").into()
    })
}

fn missing(call: &str, since: (u32, u32), release: &str) -> String {
    let (major, minor) = since;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let here = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    if here < (Some(major), Some(minor)) {
        format!("this is Linux {release}, and {call} came with {major}.{minor}")
    } else {
        format!("Linux {release} has {call}, but a filter around this process hides it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_version() {
        for (release, words) in [
            ("5.1.21", "this is Linux 5.1.21, and fsopen came with 5.2"),
            ("4.18.0-553.el8", "this is Linux 4.18.0-553.el8, and fsopen came with 5.2"),
            ("5.2.0", "Linux 5.2.0 has fsopen, but a filter around this process hides it"),
            ("6.18-rc1", "Linux 6.18-rc1 has fsopen, but a filter around this process hides it"),
            ("?", "this is Linux ?, and fsopen came with 5.2"),
        ] {
            assert_eq!(missing("fsopen", (5, 2), release), words);
        }
    }

    #[test]
    fn a_call_that_is_not_there_is_unsupported() {
        let refused = Refused { call: "fsopen", since: (5, 2), errno: Errno::ENOSYS };
        let error = Error::from(failed("mount tmpfs", refused));
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("mount tmpfs: "), "{error}");
        assert!(error.to_string().contains(&release()), "{error}");
    }

    #[test]
    fn the_kernels_words_keep_the_errno() {
        let failure = Failure::kernel("mount tmpfs", Errno::EINVAL);
        let error = Error::from(said(failure, "tmpfs: Unknown parameter 'x'"));
        assert_eq!(error.to_string(), "mount tmpfs: tmpfs: Unknown parameter 'x' (EINVAL)");
        assert_eq!(error.errno(), Some(Errno::EINVAL));
    }
}
