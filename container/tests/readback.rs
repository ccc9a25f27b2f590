//! The state that a program finds is the state that was planned; and no step of a start can
//! be missing unnoticed.

#[path = "security/common.rs"]
mod common;

use common::{LONG, Report, bare, confined, in_root, own_namespace};
use ireko::capabilities::{Cap, CapSet};
use ireko::cgroups::Cpu;
use ireko::namespaces::{IdMaps, Namespaces, NetNs, NsFd};
use ireko::seccomp::{Action, Arch, Profile};
use ireko::{Builder, Feature, Mount, Plan, Resource, Rootfs, Size, Stdio};
use std::os::fd::OwnedFd;
use std::path::Path;
use testkit::{TempDir, alone, need, payload, rootfs, within};

/// A container of each sort, with a name for it.
struct Case {
    name: &'static str,
    builder: Builder,
}

/// What the cases live on.
struct Ground {
    root: testkit::Rootfs,
    closed: TempDir,
    shown: TempDir,
    net: NsFd,
}

impl Ground {
    fn new() -> Self {
        let closed = TempDir::new();
        let inner = closed.join("root");
        for name in ["bin", "proc", "sys", "dev", "tmp", "run"] {
            std::fs::create_dir_all(inner.join(name)).unwrap();
        }
        let status = std::process::Command::new(payload())
            .arg("install")
            .arg(inner.join("bin/payload"))
            .output()
            .unwrap();
        assert!(status.status.success());
        let shown = TempDir::public();
        std::fs::write(shown.join("file"), "text").unwrap();
        let net = NetNs::create().unwrap().into();
        Self { root: rootfs(), closed, shown, net }
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name, builder| Case { name, builder };
        let (root, shown) = (&self.root, self.shown.path());
        vec![
            case("the default", confined(["report"])),
            case("everything at once", self.everything()),
            case(
                "another user with a capability",
                in_root(root, ["report"])
                    .user((1000, 1000))
                    .groups([60, 100])
                    .capabilities(CapSet::EMPTY.with(Cap::NetBindService)),
            ),
            case("a user by name", in_root(root, ["report"]).user("user")),
            case(
                "an ephemeral root",
                in_root(root, ["report"]).rootfs(Rootfs::directory(root).ephemeral(Size::mib(4))),
            ),
            case(
                "a writable root",
                in_root(root, ["report"])
                    .rootfs(Rootfs::directory(self.closed.join("root")).writable()),
            ),
            case(
                "explicit maps",
                in_root(root, ["report"]).id_maps(IdMaps::range(300_000..300_070)),
            ),
            case(
                "two filters",
                confined(["report"])
                    .seccomp_program(Profile::new(Action::Allow).compile(Arch::Native).unwrap()),
            ),
            case("new privileges allowed", confined(["report"]).dangerously_allow_new_privileges()),
            case("the host's user namespace", confined(["report"]).share(Namespaces::USER)),
            case(
                "the host's network and processes",
                in_root(root, ["report"]).share(Namespaces::NET | Namespaces::PID),
            ),
            case(
                "a network that was there",
                confined(["report"]).share(Namespaces::USER).join(&self.net),
            ),
            case("bare", bare(["report"])),
            case("bare, every namespace", bare(["report"]).unshare(Namespaces::all())),
            case(
                "bare, other ids",
                bare(["report"])
                    .user((1000, 1000))
                    .groups([5])
                    .capabilities(CapSet::EMPTY.with(Cap::Kill))
                    .seccomp(Profile::standard()),
            ),
            case(
                "bare, a root and a mount",
                bare(["report"])
                    .pid_ns()
                    .rootfs(root.path())
                    .mount(Mount::bind(shown, "/mnt").read_only())
                    .command("/bin/payload"),
            ),
            case("bare, a network that was there", bare(["report"]).join(&self.net)),
            case(
                "bare, a kernel setting",
                bare(["report"])
                    .ipc_ns()
                    .sysctl("kernel.shmmni", "77")
                    .rlimit(Resource::Nofile, 99, 100)
                    .nice(1)
                    .umask(0o27),
            ),
        ]
    }

    fn everything(&self) -> Builder {
        let file: OwnedFd = std::fs::File::open(self.shown.join("file")).unwrap().into();
        confined(["report"])
            .arg0("other")
            .env("A", "b")
            .current_dir("/usr")
            .hostname("inside")
            .domainname("nowhere")
            .sysctl("net.ipv4.ip_unprivileged_port_start", "0")
            .sysctl("kernel.msgmax", "4096")
            .monotonic_offset(86_400)
            .boottime_offset(-5)
            .umask(0o077)
            .nice(3)
            .oom_score_adj(500)
            .rlimit(Resource::Fsize, 1 << 20, 1 << 21)
            .require(Feature::Rlimits)
            .require(Feature::Keyring)
            .pass_fd(7, file)
            .capabilities(CapSet::EMPTY.with(Cap::Chown).with(Cap::Setuid))
            .memory_limit(Size::mib(64))
            .cpu_limit(Cpu::cores(1.0))
            .pids_limit(40)
            .mount(Mount::tmpfs("/mnt/new").size(Size::kib(64)).no_exec())
            .mount(Mount::bind(&self.shown, "/srv/shown").read_only().no_exec())
            .mount(Mount::bind(self.shown.join("file"), "/home/a b/file").read_only())
            .mount(Mount::hidden("/etc/passwd"))
            .mount(Mount::hidden("/usr/share"))
    }
}

/// Steps that may be left out without an error, and why. Whoever leaves one out gets the
/// same container, which is compared as well.
fn is_plumbing(text: &str) -> Option<&'static str> {
    const PLUMBING: [(&str, &str); 6] = [
        ("check ", "it is itself a check"),
        ("hold ", "it only opens what later steps name"),
        ("look up its own namespaces", "the checks that use it fail without"),
        ("wait until ", "it has no action of its own"),
        ("put it over the host's /proc, for now", "older kernels copy only what is attached"),
        ("change directory to /", "the pivot has left the process there"),
    ];
    let place = text
        .strip_prefix("hide ")
        .or_else(|| text.strip_prefix("make ")?.strip_suffix(" read-only"));
    if place.is_some_and(|place| !Path::new(place).exists()) {
        return Some("this kernel does not have it");
    }
    PLUMBING.iter().find(|(start, _)| text.starts_with(start)).map(|(_, why)| *why)
}

/// What becomes of a plan when one of its steps is left out, for each in turn.
fn holes(case: &Case) -> Vec<String> {
    let plan = case.builder.plan().unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let whole = run(&plan).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let mut holes = Vec::new();
    let mut index = 0;
    while let Some((less, step)) = plan.without_step(index).unwrap() {
        index += 1;
        let Ok(found) = run(&less) else { continue };
        let noticed = found.missing.iter().any(|feature| !whole.missing.contains(feature));
        let same = found.report.steady() == whole.report.steady();
        if !(noticed || same && is_plumbing(&step).is_some()) {
            let differs = differences(&whole.report, &found.report);
            holes.push(format!("{}, step {index}: {step}; {differs}", case.name));
        }
    }
    assert!(index > 4, "{}: only {index} steps", case.name);
    holes
}

fn differences(a: &Report, b: &Report) -> String {
    let (a, b) = (a.steady(), b.steady());
    let lost = a.iter().filter(|line| !b.contains(line)).map(|line| format!("-{line:?}"));
    let new = b.iter().filter(|line| !a.contains(line)).map(|line| format!("+{line:?}"));
    lost.chain(new).collect::<Vec<_>>().join(" ")
}

struct Found {
    report: Report,
    missing: Vec<Feature>,
}

fn run(plan: &Plan) -> ireko::Result<Found> {
    let (stdin, _writer) = std::io::pipe().unwrap();
    let output = plan.clone().stdin(stdin).output()?;
    assert!(output.status.success(), "{}: {}", output.status, common::both(&output));
    let report = Report::parse(&common::text(&output.stdout));
    let missing = output.enforcement.missing().map(|item| item.feature).collect();
    Ok(Found { report, missing })
}

/// What the payload must find.
struct Want {
    ids: [u32; 2],
    groups: &'static str,
    /// Inheritable, permitted, effective, bounding, ambient.
    sets: [u64; 5],
    modes: [&'static str; 2],
    own: Namespaces,
    maps: &'static [&'static str],
    fds: &'static str,
    cwd: &'static str,
    umask: &'static str,
}

const DEFAULT: Namespaces = Namespaces::USER
    .union(Namespaces::PID)
    .union(Namespaces::MOUNT)
    .union(Namespaces::NET)
    .union(Namespaces::IPC)
    .union(Namespaces::UTS)
    .union(Namespaces::CGROUP);

const STANDARD: u64 = CapSet::STANDARD.bits();

/// The default, from which the others differ.
const WANT: Want = Want {
    ids: [0, 0],
    groups: "",
    sets: [0, STANDARD, STANDARD, STANDARD, 0],
    modes: ["1", "2"],
    own: DEFAULT,
    maps: &["0 * 65536"],
    fds: "0 1 2",
    cwd: "/",
    umask: "0022",
};

fn compare(name: &str, report: &Report, want: &Want) {
    let [uid, gid] = want.ids.map(|id| id.to_string());
    for (key, id) in [
        ("uid", &uid),
        ("euid", &uid),
        ("suid", &uid),
        ("gid", &gid),
        ("egid", &gid),
        ("sgid", &gid),
    ] {
        assert_eq!(report.get(key), id, "{name}: {key}");
    }
    assert_eq!(report.get("groups"), want.groups, "{name}");
    assert_eq!(report.sets(), want.sets, "{name}: {:x?}", report.sets());
    assert_eq!([report.get("NoNewPrivs"), report.get("Seccomp")], want.modes, "{name}");
    for kind in Namespaces::all() {
        let Some(kind) = kind.proc_name() else { continue };
        let shown = report.get(&format!("ns.{kind}"));
        if shown != "?" {
            let own = want.own.iter().any(|one| one.proc_name() == Some(kind));
            assert_eq!(shown != own_namespace(kind), own, "{name}: the {kind} namespace");
        }
    }
    // What is not ours to choose is left out.
    let maps: Vec<String> = report
        .all("uid_map")
        .into_iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            if words.len() == 3 && words[1].len() == 10 {
                format!("{} * {}", words[0], words[2])
            } else {
                line.to_owned()
            }
        })
        .collect();
    assert_eq!(maps, want.maps, "{name}");
    assert_eq!(report.all("gid_map"), report.all("uid_map"), "{name}");
    let fds: Vec<&str> =
        report.all("fd").into_iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(fds.join(" "), want.fds, "{name}");
    assert_eq!(report.get("cwd"), want.cwd, "{name}");
    assert_eq!(report.get("umask"), want.umask, "{name}");
    // Everything is blocked on the way, and SIGPIPE ignored in a Rust program. A bare
    // start leaves what else is ignored.
    assert_eq!([report.bits("SigBlk"), report.bits("SigCgt")], [0, 0], "{name}");
    let ignored = if name.starts_with("bare") { own_ignored() & !(1 << 12) } else { 0 };
    assert_eq!(report.bits("SigIgn"), ignored, "{name}");
    assert_eq!(report.get("pdeathsig"), "9", "{name}");
    assert_eq!(report.get("cpus"), std::thread::available_parallelism().unwrap().to_string());
}

/// The signals that this process ignores.
fn own_ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    u64::from_str_radix(line, 16).unwrap()
}

/// What must hold of a mount: its place, and the options that it has.
fn check_mounts(name: &str, report: &Report, wanted: &[(&str, &str)]) {
    const HIDDEN: &str = "ro,nosuid,noexec";
    const READ_ONLY: &str = "ro,nosuid,nodev,noexec";
    let masks = [
        ("/proc/acpi", HIDDEN),
        ("/proc/asound", HIDDEN),
        ("/proc/interrupts", HIDDEN),
        ("/proc/kcore", HIDDEN),
        ("/proc/keys", HIDDEN),
        ("/proc/latency_stats", HIDDEN),
        ("/proc/sched_debug", HIDDEN),
        ("/proc/scsi", HIDDEN),
        ("/proc/timer_list", HIDDEN),
        ("/proc/timer_stats", HIDDEN),
        ("/sys/firmware", HIDDEN),
        ("/sys/devices/virtual/powercap", HIDDEN),
        ("/sys/devices/system/cpu/cpu0/thermal_throttle", HIDDEN),
        ("/sys/kernel/debug", HIDDEN),
        ("/proc/bus", READ_ONLY),
        ("/proc/fs", READ_ONLY),
        ("/proc/irq", READ_ONLY),
        ("/proc/sys", READ_ONLY),
        ("/proc/sysrq-trigger", READ_ONLY),
        ("/proc", "rw,nosuid,nodev,noexec"),
        ("/sys", READ_ONLY),
        ("/dev", "ro,nosuid,noexec"),
        ("/dev/pts", "rw,nosuid,noexec"),
        ("/dev/shm", "rw,nosuid,nodev,noexec"),
        ("/dev/mqueue", "rw,nosuid,nodev,noexec"),
    ];
    let masks = masks.iter().filter(|(path, _)| {
        !path.starts_with("/proc/") && !path.starts_with("/sys/") || Path::new(path).exists()
    });
    let all: Vec<(&str, &str)> = masks.chain(wanted).copied().collect();
    let mut points: Vec<&str> = all.iter().map(|(path, _)| *path).collect();
    points.sort_unstable();
    assert_eq!(report.mount_points(), points, "{name}");
    for (path, options) in all {
        let has: Vec<&str> = report.options_at(path).split(',').collect();
        assert!(options.split(',').all(|one| has.contains(&one)), "{name}: {path} is {has:?}");
    }
    for line in report.all("mount") {
        assert!(!line.contains(" shared:") && !line.contains(" master:"), "{name}: {line}");
    }
}

fn compare_all(ground: &Ground) {
    let of = |name: &str| {
        let case = ground.cases().into_iter().find(|case| case.name == name).unwrap();
        let (stdin, _writer) = std::io::pipe().unwrap();
        Report::of(&case.builder.stdin(stdin))
    };
    let set = |caps: &[Cap]| caps.iter().fold(CapSet::EMPTY, |all, cap| all.with(*cap)).bits();
    let link = |path: &str| Path::new(path).symlink_metadata().is_ok_and(|meta| meta.is_dir());

    let report = of("the default");
    compare("the default", &report, &WANT);
    let shown = payload().to_str().unwrap();
    let mut mounts = vec![
        ("/", "ro,nosuid,nodev"),
        ("/tmp", "rw,nosuid,nodev"),
        ("/run", "rw,nosuid,nodev"),
        ("/var", "rw,nosuid,nodev"),
        ("/home", "rw,nosuid,nodev"),
        ("/root", "rw,nosuid,nodev"),
        (shown, "ro,nosuid,nodev"),
    ];
    let system = [
        "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec", "/etc", "/opt",
        "/nix", "/gnu",
    ];
    mounts
        .extend(system.into_iter().filter(|path| link(path)).map(|path| (path, "ro,nosuid,nodev")));
    check_mounts("the default", &report, &mounts);
    assert_eq!(report.get("rlimit.core"), "0:0");
    assert!(report.get("rlimit.nofile").starts_with("1024:"), "{report:?}");
    assert_eq!([report.get("pid"), report.get("sid"), report.get("ppid")], ["1", "1", "0"]);
    assert_eq!([report.get("lo"), report.get("dumpable")], ["up", "1"]);
    let environment: Vec<_> = report.keys("env.").collect();
    assert_eq!(environment, ["env.PATH"]);

    let report = of("everything at once");
    let two = set(&[Cap::Chown, Cap::Setuid]);
    let want = Want {
        sets: [0, two, two, two, 0],
        own: DEFAULT | Namespaces::TIME,
        fds: "0 1 2 7",
        cwd: "/usr",
        umask: "0077",
        ..WANT
    };
    compare("everything at once", &report, &want);
    let file = ground.shown.join("file");
    let seven = report.all("fd").into_iter().find(|line| line.starts_with("7 ")).unwrap();
    assert_eq!(seven, format!("7 {}", file.display()));
    for (key, value) in [
        ("argv.0", "other"),
        ("env.A", "b"),
        ("hostname", "inside"),
        ("domainname", "nowhere"),
        ("nice", "3"),
        ("oom_score_adj", "500"),
        ("rlimit.fsize", "1048576:2097152"),
    ] {
        assert_eq!(report.get(key), value, "{key}");
    }
    for (place, options) in [
        ("/mnt/new", "rw,nosuid,nodev,noexec"),
        ("/srv/shown", "ro,nosuid,nodev,noexec"),
        ("/home/a\\040b/file", "ro,nosuid,nodev"),
        ("/etc/passwd", "ro,nosuid,noexec"),
        ("/usr/share", "ro,nosuid,nodev,noexec"),
    ] {
        let has: Vec<&str> = report.options_at(place).split(',').collect();
        assert!(options.split(',').all(|one| has.contains(&one)), "{place} is {has:?}");
    }

    let report = of("another user with a capability");
    let one = set(&[Cap::NetBindService]);
    let want = Want { ids: [1000, 1000], groups: "60,100", sets: [one; 5], ..WANT };
    compare("another user with a capability", &report, &want);
    check_mounts(
        "another user",
        &report,
        &[("/", "ro,nosuid,nodev"), ("/tmp", "rw,nosuid,nodev"), ("/run", "rw,nosuid,nodev")],
    );

    let want = Want { ids: [1000, 1000], groups: "60", sets: [0, 0, 0, STANDARD, 0], ..WANT };
    compare("a user by name", &of("a user by name"), &want);

    let report = of("an ephemeral root");
    compare("an ephemeral root", &report, &WANT);
    check_mounts("an ephemeral root", &report, &[("/", "rw,nosuid,nodev")]);
    let report = of("a writable root");
    compare("a writable root", &report, &WANT);
    check_mounts("a writable root", &report, &[("/", "rw,nosuid,nodev")]);
    let want = Want { maps: &["0 300000 70"], ..WANT };
    compare("explicit maps", &of("explicit maps"), &want);
    compare("two filters", &of("two filters"), &WANT);
    let want = Want { modes: ["0", "2"], ..WANT };
    compare("new privileges allowed", &of("new privileges allowed"), &want);
    let want = Want { own: DEFAULT - Namespaces::USER, maps: &["0 0 4294967295"], ..WANT };
    compare("the host's user namespace", &of("the host's user namespace"), &want);
    let report = of("the host's network and processes");
    let want = Want { own: DEFAULT - Namespaces::NET - Namespaces::PID, ..WANT };
    compare("the host's network and processes", &report, &want);
    let report = of("a network that was there");
    let want = Want { own: DEFAULT - Namespaces::USER, maps: &["0 0 4294967295"], ..WANT };
    compare("a network that was there", &report, &want);
    assert_eq!(report.get("ns.net"), format!("net:[{}]", ground.net.id().unwrap()));

    let state = ireko::capabilities::State::of_thread().unwrap();
    let caller = Want {
        sets: [
            state.inheritable.bits(),
            state.permitted.bits(),
            state.effective.bits(),
            state.bounding.bits(),
            state.ambient.bits(),
        ],
        modes: ["0", "0"],
        own: Namespaces::empty(),
        maps: &["0 0 4294967295"],
        cwd: env!("CARGO_MANIFEST_DIR"),
        ..WANT
    };
    compare("bare", &of("bare"), &caller);
    let kill = set(&[Cap::Kill]);
    let want =
        Want { ids: [1000, 1000], groups: "5", sets: [kill; 5], modes: ["1", "2"], ..caller };
    compare("bare, other ids", &of("bare, other ids"), &want);
    let report = of("bare, a kernel setting");
    let want = Want { own: Namespaces::IPC, umask: "0027", ..caller };
    compare("bare, a kernel setting", &report, &want);
    assert_eq!([report.get("rlimit.nofile"), report.get("nice")], ["99:100", "1"]);
}

/// From outside: in its group, and in the state that it sees itself.
fn seen_from_outside() {
    let container = confined(["seq", "report", ",", "pause"])
        .pids_limit(9)
        .stdout(Stdio::Piped)
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut pipe = std::io::BufReader::new(container.take_stdout().unwrap());
    while !text.contains("\nenv.PATH=") {
        std::io::BufRead::read_line(&mut pipe, &mut text).unwrap();
    }
    let inside = Report::parse(&text);
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", container.pid())).unwrap();
    let own = format!("ireko-{}", container.id());
    let cgroups = read("cgroup");
    let ours: Vec<&str> = cgroups.lines().filter(|line| line.contains(&own)).collect();
    assert!(!ours.is_empty(), "{own} in {cgroups}");
    for line in ours {
        let (hierarchy, path) = line.rsplit_once(':').unwrap();
        assert!(path.ends_with(&own), "{line}");
        // Its own group is the root that it sees.
        assert!(inside.all("cgroup").contains(&format!("{hierarchy}:/").as_str()), "{inside:?}");
    }
    let status = read("status");
    let status: Vec<(&str, &str)> =
        status.lines().filter_map(|line| line.split_once(":\t")).collect();
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        let outside = status.iter().find(|(known, _)| *known == key).unwrap().1;
        assert_eq!(inside.get(key), outside, "{key}");
    }
    // Never the host's root.
    let ids = status.iter().find(|(key, _)| *key == "Uid").unwrap().1;
    assert!(ids.split('\t').all(|id| id.parse::<u32>().unwrap() >= 1_879_048_192), "{ids}");
}

#[test]
fn root_readback_equals_plan() {
    need!(root, userns, cgroup);
    let _alone = alone();
    let holes = within(LONG, || {
        let ground = Ground::new();
        compare_all(&ground);
        seen_from_outside();
        ground.cases().iter().flat_map(holes).collect::<Vec<_>>()
    });
    assert!(holes.is_empty(), "{}", holes.join("\n"));
}
