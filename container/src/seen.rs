//! What the caller sees of the child from outside, while that goes on with its tree: the
//! child does not execute anything before it is told that all is as planned.

use crate::{Error, Result, Stage};
use ireko_namespaces::{Namespaces, NsFd};
use ireko_sys::{ErrorKind, Failure, ProcRoot};

/// The caller's own namespaces, by their links in `/proc`.
#[derive(Debug)]
pub(crate) struct Own(Vec<(Namespaces, &'static str, String)>);

impl Own {
    /// Of these kinds.
    pub(crate) fn of(kinds: Namespaces) -> Result<Self> {
        let mut own = Vec::new();
        for (_, kind) in kinds.iter_names() {
            if let Some(name) = kind.proc_name() {
                own.push((kind, name, format!("{name}:[{}]", NsFd::of_thread(kind)?.id()?)));
            }
        }
        Ok(Self(own))
    }

    /// An error unless the process has others.
    pub(crate) fn check(&self, pid: u32) -> Result<()> {
        let proc = ProcRoot::open()?;
        for (kind, name, ours) in &self.0 {
            let its = proc
                .link(&format!("{pid}/ns/{name}"))
                .map_err(|e| Error::from(e).at(Stage::Clone))?;
            if its.as_os_str() == ours.as_str() {
                return Err(unlike(
                    format!("check that the {kind} namespace is its own"),
                    "it is the caller's",
                ));
            }
        }
        Ok(())
    }
}

fn unlike(operation: String, reason: &'static str) -> Error {
    Error::new(Stage::Clone, Failure::ours(ErrorKind::Kernel, operation, reason))
}
