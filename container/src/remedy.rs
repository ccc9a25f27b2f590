//! From a step that failed and the kernel's answer to what can be done about it.

use crate::{Error, Stage};
use ireko_namespaces::start::Failed;
use ireko_sys::{ErrorKind, Failure};

pub(crate) fn explain(
    stage: Stage,
    step: Option<&str>,
    failed: Failed,
    user_ns: bool,
    oom: bool,
) -> Error {
    let mut failure = failed.error.into_failure();
    if oom {
        failure = Failure::ours(
            ErrorKind::Exhausted,
            failure.operation,
            "the start itself went beyond the memory limit",
        )
        .remedy("raise memory_limit: a start needs about 1 MiB, and the program's own pages come on top");
        return Error::new(Stage::Cgroup, failure);
    }
    let step = step.unwrap_or_default();
    let errno = failure.errno.map_or(0, ireko_sys::Errno::raw);
    if failure.remedy.is_none() {
        failure.remedy = remedy(stage, step, errno, user_ns, failed.interpreter).map(Into::into);
    }
    if stage == Stage::Mount && failure.kind == ErrorKind::Conflict && step.starts_with("copy the")
    {
        failure.remedy = Some(STALE.into());
    }
    if stage == Stage::Exec {
        match errno {
            libc::ENOENT if failed.interpreter => {
                failure.reason = Some(
                    "it is there, but not the interpreter or loader that it names (ENOENT)".into(),
                );
            }
            libc::ENOEXEC => failure.kind = ErrorKind::Invalid,
            _ => {}
        }
    }
    Error::new(stage, failure)
}

/// A path that is not what it was when the plan was made.
pub(crate) fn stale(operation: String) -> Failure {
    let reason = "another file has taken its place since it was planned";
    Failure::ours(ErrorKind::Conflict, operation, reason).remedy(STALE)
}

const STALE: &str = "plan again; or mount the directory that it is in, which stays the same";

fn remedy(
    stage: Stage,
    step: &str,
    errno: i32,
    user_ns: bool,
    interpreter: bool,
) -> Option<&'static str> {
    Some(match (stage, errno) {
        (Stage::Exec, libc::ENOENT) if interpreter => {
            "put the interpreter of its first line, or the loader and libraries it is linked to, into the tree"
        }
        (Stage::Exec, libc::ENOENT) => {
            "the program is looked up inside, along the container's PATH: expose or copy it, or name its path there"
        }
        (Stage::Exec, libc::EACCES) => {
            "it must be executable for the user inside, and on a mount without no_exec"
        }
        (Stage::Exec, libc::ENOEXEC) => {
            "a script needs a first line such as #!/bin/sh; a binary this machine's format"
        }
        (Stage::Exec, libc::E2BIG) => {
            "arguments and environment are larger than the kernel takes: pass them in a file"
        }
        (Stage::Mount, libc::EPERM) if step.contains("procfs") => {
            "a fresh /proc is refused where the outer one is masked (inside a container): run that with \
             --security-opt systempaths=unconfined, or add .share(Namespaces::PID)"
        }
        (Stage::Mount, libc::EPERM) if step.contains("overlay") => {
            "overlays in a user namespace need Linux 5.11"
        }
        (Stage::Mount, libc::ENODEV) => {
            "this kernel does not have that file system: load its module as root"
        }
        (Stage::Mount, libc::ENOENT | libc::EXDEV)
            if step.starts_with("mount it on") || step.ends_with("where it is missing") =>
        {
            "the mount point is missing, and nothing is made on the host's tree: make it there, or use a root with .ephemeral(size)"
        }
        (Stage::Mount, libc::ELOOP) => {
            "a link has come into the mount point's path: name the place that it leads to"
        }
        (Stage::Mount | Stage::Root, libc::ENOSYS) => {
            "the new mount calls need Linux 5.12 (mount_setattr)"
        }
        (Stage::Process, libc::EPERM) if step.starts_with("limit") => {
            "a hard limit above the caller's needs CAP_SYS_RESOURCE: give a smaller one"
        }
        (Stage::Process, libc::EACCES) if step.contains("nice") || step.contains("oom_score") => {
            "below the caller's value needs privilege: give a higher one"
        }
        (Stage::Process, libc::EPERM) if step.contains("group") && user_ns => {
            "groups cannot be set with a map that its own user wrote: use IdMaps::sub_ids()"
        }
        (Stage::Process, libc::ENOENT) if step.starts_with("set ") => {
            "this kernel does not have that setting, or not in a namespace of its own"
        }
        (Stage::Seccomp, libc::EINVAL | libc::ENOSYS) => {
            "this kernel was built without seccomp filters"
        }
        (_, libc::ENOMEM | libc::ENOSPC | libc::EMFILE | libc::ENFILE) => {
            "a limit of the host is used up: files, memory, mounts (fs.mount-max) or namespaces (user.max_*)"
        }
        _ => return None,
    })
}
