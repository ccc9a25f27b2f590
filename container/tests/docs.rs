//! `docs/spawn.md` names every step of every plan, in its place; `docs/status.md` names tests
//! that exist.

use ireko::capabilities::CapSet;
use ireko::cgroups::Cpu;
use ireko::namespaces::{Namespaces, NsFd};
use ireko::{Builder, Container, Feature, Mount, Rootfs, Size};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use testkit::{Need, TempDir, need, rootfs};

/// A step as the document has it: literal pieces, anything between them.
type Pattern = Vec<String>;

/// The steps of each numbered part, in order.
fn document() -> Vec<Vec<Pattern>> {
    let text = include_str!("../../docs/spawn.md");
    let mut parts: Vec<Vec<Pattern>> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            inside = heading.starts_with(|c: char| c.is_ascii_digit());
            if inside {
                parts.push(Vec::new());
            }
        }
        let step = line.strip_prefix("| `").and_then(|rest| rest.split_once("` |"));
        if let (true, Some((step, _)), Some(part)) = (inside, step, parts.last_mut()) {
            part.push(step.split('…').map(str::to_owned).collect());
        }
    }
    parts
}

fn fits(pattern: &Pattern, text: &str) -> bool {
    let [first, middle @ .., last] = &pattern[..] else { return pattern[0] == text };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    for piece in middle {
        let Some((_, after)) = rest.split_once(piece.as_str()) else { return false };
        rest = after;
    }
    rest.len() > last.len() && rest.ends_with(last.as_str()) || last.is_empty() && !rest.is_empty()
}

/// Finds every step of the plan in the document; notes which of that have been met.
fn compare(builder: &Builder, parts: &[Vec<Pattern>], met: &mut BTreeSet<(usize, usize)>) {
    let plan = builder.plan().unwrap_or_else(|error| panic!("{error}: {:?}", error.remedy()));
    let mut part = 0;
    for step in plan.steps() {
        let text = step.to_string();
        let text = text.strip_suffix(", if the host allows").unwrap_or(&text);
        let mut places = (part..parts.len()).flat_map(|at| {
            (0..parts[at].len())
                .filter(move |row| fits(&parts[at][*row], text))
                .map(move |r| (at, r))
        });
        let Some(first) = places.next() else {
            panic!("docs/spawn.md does not name the step {text:?} in part {} or later", part + 1);
        };
        let same_part = places.take_while(|(at, _)| *at == first.0);
        met.extend(std::iter::once(first).chain(same_part));
        part = first.0;
    }
}

fn shell() -> Builder {
    Container::builder().command("/bin/true")
}

/// Plans that anybody can make.
fn plans(root: &testkit::Rootfs) -> Vec<Builder> {
    let mounts = |builder: Builder| {
        builder
            .mount(Mount::bind("/etc/hostname", "/tmp/a/file").read_only())
            .mount(Mount::bind("/usr", "/tmp/b").read_only())
            .mount(Mount::tmpfs("/srv"))
            .mount(Mount::hidden("/etc"))
    };
    vec![
        shell(),
        mounts(shell()),
        shell().share(Namespaces::PID),
        shell().share(Namespaces::NET),
        shell()
            .hostname("inside")
            .domainname("example")
            .sysctl("net.ipv4.ip_unprivileged_port_start", "0")
            .oom_score_adj(500)
            .monotonic_offset(10)
            .nice(1)
            .umask(0o077)
            .current_dir("/tmp")
            .pass_fd(7, File::open("/dev/null").expect("a file")),
        mounts(shell().rootfs(root.path())),
        mounts(shell().rootfs(Rootfs::directory(root).ephemeral(Size::mib(8)))),
        shell().dangerously_allow_new_privileges(),
        shell().dangerously_disable_seccomp().dangerously_unmask_proc(),
        Container::bare().command("/bin/true"),
        Container::bare().command("/bin/true").oom_score_adj(1),
        Container::bare().command("/bin/true").user_ns().mount_ns().oom_score_adj(1),
    ]
}

#[test]
fn unpriv_every_step_is_named_in_the_docs() {
    need!(unprivileged, userns);
    let (parts, root) = (document(), rootfs());
    assert_eq!(parts.len(), 9);
    for builder in plans(&root) {
        compare(&builder, &parts, &mut BTreeSet::new());
    }
}

#[test]
fn root_every_step_is_named_in_the_docs() {
    need!(root, userns);
    let (parts, root) = (document(), rootfs());
    let mut met = BTreeSet::new();
    let mut builders = plans(&root);
    let closed = TempDir::new();
    std::fs::create_dir_all(closed.join("root/proc")).expect("directories");
    for name in ["sys", "dev"] {
        std::fs::create_dir(closed.join("root").join(name)).expect("a directory");
    }
    let own = |kind| NsFd::of_thread(kind).expect("a namespace");
    builders.extend([
        shell().rootfs(Rootfs::directory(closed.join("root")).writable()),
        shell().share(Namespaces::USER).user(1000).groups([5]).capabilities(CapSet::EMPTY),
        shell().user(1000),
        shell().share(Namespaces::USER | Namespaces::PID).join(&own(Namespaces::UTS)),
        Container::bare().command("/bin/true").join(&own(Namespaces::IPC)).mount_ns(),
        shell().id_maps(ireko::namespaces::IdMaps::caller_as_root()),
    ]);
    if Need::cgroup().missing().is_none() {
        builders.push(shell().memory_limit(Size::mib(64)).cpu_limit(Cpu::cores(0.5)).pids_limit(9));
        builders.push(shell().prefer(Feature::MemoryLimit).memory_limit(Size::mib(64)));
        builders.push(Container::bare().command("/bin/true").memory_limit(Size::mib(64)));
    }
    for builder in &builders {
        compare(builder, &parts, &mut met);
    }
    let mut idle = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        for (row, pattern) in part.iter().enumerate() {
            if !met.contains(&(at, row)) {
                idle.push(format!("{}: {}", at + 1, pattern.join("…")));
            }
        }
    }
    // What an ordinary user's plans or hosts without a cgroup to write to have alone.
    let allowed = |row: &String| {
        ["device", "/dev read-only", "cover …"].iter().any(|text| row.contains(text)) || {
            Need::cgroup().missing().is_some() && row.starts_with("1:")
        }
    };
    idle.retain(|row| !allowed(row));
    assert_eq!(idle, Vec::<String>::new(), "named, but in no plan");
}

/// Every name in backticks that looks like a test is one, and every file is there.
#[test]
fn the_status_names_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if !root.join("docs").is_dir() {
        // An ordinary user's copy of this program, far from the sources.
        return;
    }
    let mut sources = String::new();
    read_sources(&root, &mut sources);
    let status = include_str!("../../docs/status.md");
    let quoted = status.split('`').skip(1).step_by(2);
    let mut missing = BTreeSet::new();
    for name in quoted {
        let is_name =
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let tier = ["root_", "unpriv_"].iter().any(|t| name.starts_with(t) && name.len() > t.len());
        let is_test = is_name && (tier || name.matches('_').count() > 1);
        if is_test && !sources.contains(&format!("fn {name}(")) {
            missing.insert(name);
        }
        if name.ends_with(".rs") && !root.join(name).is_file() {
            missing.insert(name);
        }
    }
    assert_eq!(missing, BTreeSet::new(), "named in docs/status.md");
}

/// Reads all Rust files of the workspace.
fn read_sources(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            read_sources(&path, text);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("text"));
        }
    }
}
