//! What a test needs of the machine, found out by trying.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::probe;

/// Ends a test early when the machine lacks what it needs: `need!(root, cgroup)`.
///
/// The names are the constructors of [`Need`]. A test that ends so has been skipped, not
/// passed: `SKIP <test>: <reason>` goes to stderr and `<test>\t<reason>` to the file that
/// `IREKO_SKIPS` names, where `cargo xtask test` counts it. When the need is listed in
/// `IREKO_REQUIRE` (`root,userns,…`), the test fails instead.
#[macro_export]
macro_rules! need {
    ($($need:ident),+ $(,)?) => {{
        fn here() {}
        $(
            if !$crate::met(&$crate::Need::$need(), std::any::type_name_of_val(&here)) {
                return $crate::Skip::skipped();
            }
        )+
    }};
}

/// Ends a test early that has found out by itself that it cannot run here; counted as
/// [`need!`](crate::need!) counts.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        fn here() {}
        $crate::skipped(&format!($($reason)+), std::any::type_name_of_val(&here));
        return $crate::Skip::skipped();
    }};
}

/// What a test returns when it is skipped.
pub trait Skip {
    /// The value.
    fn skipped() -> Self;
}

impl Skip for () {
    fn skipped() -> Self {}
}

impl<T> Skip for Option<T> {
    fn skipped() -> Self {
        None
    }
}

impl<E> Skip for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Something a test needs, and whether it is there.
#[derive(Clone, Debug)]
pub struct Need {
    name: &'static str,
    found: Result<(), String>,
}

/// Tells whether the need is met, and reports the skip when it is not. For [`need!`](crate::need!).
///
/// # Panics
/// When it is not met and `IREKO_REQUIRE` lists it.
pub fn met(need: &Need, here: &str) -> bool {
    let Err(reason) = &need.found else { return true };
    let test = here.strip_suffix("::here").unwrap_or(here).replace("::{{closure}}", "");
    let required = std::env::var("IREKO_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|one| one.trim() == need.name),
        "{test} needs {}, which IREKO_REQUIRE says is here: {reason}",
        need.name
    );
    skipped(reason, &test);
    false
}

/// Reports a skip. For [`need!`](crate::need!) and [`skip!`](crate::skip!).
///
/// # Panics
/// When it cannot be noted where `IREKO_SKIPS` says.
pub fn skipped(reason: &str, here: &str) {
    let test = here.strip_suffix("::here").unwrap_or(here).replace("::{{closure}}", "");
    eprintln!("SKIP {test}: {reason}");
    if let Some(path) = std::env::var_os("IREKO_SKIPS") {
        let line = format!("{test}\t{}\n", reason.replace(['\n', '\t'], " "));
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(written.is_ok(), "cannot note the skip: {written:?}");
    }
}

impl Need {
    fn new(name: &'static str, found: Result<(), String>) -> Self {
        Self { name, found }
    }

    fn when(name: &'static str, met: bool, reason: &str) -> Self {
        Self::new(name, if met { Ok(()) } else { Err(reason.to_owned()) })
    }

    /// The reason why it is missing.
    pub fn missing(&self) -> Option<&str> {
        self.found.as_ref().err().map(String::as_str)
    }

    /// Uid 0 with the power to make namespaces.
    pub fn root() -> Self {
        let mounts = probe::namespaces(false);
        Self::new("root", if probe::is_root() { mounts } else { Err("not run as root".into()) })
    }

    /// Another uid than 0.
    pub fn unprivileged() -> Self {
        Self::when("unprivileged", !probe::is_root(), "run as root")
    }

    /// User namespaces for whom the test runs as, with capabilities in them.
    pub fn userns() -> Self {
        Self::new("userns", probe::namespaces(true))
    }

    /// A memory and a pids cgroup can be made below our own, in whichever version.
    pub fn cgroup() -> Self {
        let found = probe::cgroup2().or_else(|two| {
            probe::cgroup1().map_err(|one| format!("no cgroup can be made: {one}; {two}"))
        });
        Self::new("cgroup", found)
    }

    /// The same in version 1.
    pub fn cgroup1() -> Self {
        Self::new("cgroup1", probe::cgroup1())
    }

    /// The same in version 2.
    pub fn cgroup2() -> Self {
        Self::new("cgroup2", probe::cgroup2())
    }

    /// A kernel that runs AppArmor.
    pub fn apparmor() -> Self {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        let enabled = enabled.is_ok_and(|text| text.starts_with('Y'));
        Self::when("apparmor", enabled, "this kernel does not run AppArmor")
    }

    /// A kernel that runs Landlock.
    pub fn landlock() -> Self {
        let version = probe::landlock_version();
        Self::when("landlock", version > 0, "this kernel does not run Landlock")
    }

    /// Overlay mounts, in a user namespace unless root.
    pub fn overlay() -> Self {
        Self::new("overlay", probe::overlay())
    }

    /// The sysctl `vm.memfd_noexec` (Linux 6.3).
    pub fn memfd_noexec() -> Self {
        let there = Path::new("/proc/sys/vm/memfd_noexec").exists();
        Self::when("memfd_noexec", there, "this kernel has no vm.memfd_noexec")
    }

    /// newuidmap and newgidmap, and ranges for the user in /etc/subuid and /etc/subgid.
    pub fn newuidmap() -> Self {
        Self::new("newuidmap", probe::newuidmap())
    }

    /// /dev/kvm can be opened for writing.
    pub fn kvm() -> Self {
        let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        Self::new("kvm", opened.map(drop).map_err(|error| format!("/dev/kvm: {error}")))
    }

    /// A second processor.
    pub fn two_cpus() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self::when("two_cpus", cpus > 1, "only one processor")
    }

    /// bubblewrap.
    pub fn bwrap() -> Self {
        Self::program("bwrap")
    }

    /// crun.
    pub fn crun() -> Self {
        Self::program("crun")
    }

    /// runc.
    pub fn runc() -> Self {
        Self::program("runc")
    }

    /// A C compiler.
    pub fn gcc() -> Self {
        Self::program("gcc")
    }

    /// A program that answers to `--version`.
    fn program(name: &'static str) -> Self {
        let Some(path) = find(name) else {
            return Self::new(name, Err(format!("{name} is not installed")));
        };
        let mut command = Command::new(path);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let works = command.status().is_ok_and(|status| status.success());
        Self::when(name, works, &format!("{name} --version fails"))
    }
}

/// A program on PATH or in the directories for administrators.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|path| path.is_file())
}
