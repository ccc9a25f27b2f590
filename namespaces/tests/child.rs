//! What is in the machine code that runs between clone and exec, in both of its forms.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The helper as programs carry it, without symbols.
static HELPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/helper"));

/// The little of an ELF file that is asked for here: 64 bits, this machine's byte order.
struct Elf<'a> {
    file: &'a [u8],
    sections: Vec<Section<'a>>,
}

struct Section<'a> {
    kind: u32,
    link: usize,
    flags: u64,
    data: &'a [u8],
}

struct Symbol {
    name: String,
    defined: bool,
    /// A function or an object, not a file's or a section's name.
    solid: bool,
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(word)
}

fn name(table: &[u8], at: usize) -> String {
    let bytes = table[at..].split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

impl<'a> Elf<'a> {
    fn parse(file: &'a [u8]) -> Self {
        assert_eq!(&file[..6], b"\x7fELF\x02\x01", "64 bits, little-endian");
        let headers = number(file, 0x28, 8) as usize;
        let (size, count) = (number(file, 0x3a, 2) as usize, number(file, 0x3c, 2) as usize);
        let header = |index: usize| &file[headers + index * size..][..size];
        let data = |header: &[u8]| {
            let at = number(header, 0x18, 8) as usize;
            let kind = number(header, 4, 4);
            // SHT_NOBITS has none.
            if kind == 8 { &[][..] } else { &file[at..][..number(header, 0x20, 8) as usize] }
        };
        let sections = (0..count).map(header).map(|header| Section {
            kind: number(header, 4, 4) as u32,
            link: number(header, 0x28, 4) as usize,
            flags: number(header, 8, 8),
            data: data(header),
        });
        Self { file, sections: sections.collect() }
    }

    /// The types of its program headers.
    fn segments(&self) -> Vec<u64> {
        let headers = number(self.file, 0x20, 8) as usize;
        let (size, count) = (number(self.file, 0x36, 2) as usize, number(self.file, 0x38, 2));
        (0..count as usize).map(|index| number(self.file, headers + index * size, 4)).collect()
    }

    fn symbols(&self) -> Vec<Symbol> {
        // SHT_SYMTAB, SHT_DYNSYM
        let tables = self.sections.iter().filter(|section| matches!(section.kind, 2 | 11));
        tables
            .flat_map(|table| {
                let names = self.sections[table.link].data;
                table.data.chunks_exact(24).skip(1).map(|entry| Symbol {
                    name: name(names, number(entry, 0, 4) as usize),
                    defined: number(entry, 6, 2) != 0,
                    solid: matches!(entry[4] & 0xf, 0..=2),
                })
            })
            .filter(|symbol| symbol.solid && !symbol.name.is_empty())
            .collect()
    }

    /// All machine code, section by section.
    fn code(&self) -> Vec<u8> {
        // SHF_EXECINSTR
        let sections = self.sections.iter().filter(|section| section.flags & 4 != 0);
        sections.flat_map(|section| section.data.iter().copied()).collect()
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("child/src")
}

/// A new directory.
fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (process, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("ireko-test-child-{process}-{n}"));
    std::fs::create_dir(&path).unwrap();
    path
}

/// Runs rustc on one of the sources, in a directory of its own; what it made.
fn compile(source: &str, arguments: &[&str]) -> Vec<u8> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let directory = directory();
    let out = directory.join("out");
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "-A", "warnings"]).args(arguments);
    let output = command.arg("-o").arg(&out).arg(sources().join(source)).output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    let made = std::fs::read(&out).unwrap();
    let _ = std::fs::remove_dir_all(&directory);
    made
}

/// The helper as build.rs makes it, but with its symbols.
fn helper_with_symbols() -> Vec<u8> {
    let mut arguments = vec!["--crate-name", "ireko_helper", "--crate-type", "bin"];
    for option in [
        "panic=abort",
        "opt-level=s",
        "codegen-units=1",
        "force-unwind-tables=no",
        "relocation-model=static",
        "target-feature=+crt-static",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-Wl,--build-id=none",
    ] {
        arguments.extend(["-C", option]);
    }
    compile("helper.rs", &arguments)
}

fn library(options: &[&str]) -> Vec<u8> {
    let mut arguments = vec![
        "--crate-name",
        "ireko_child",
        "--crate-type",
        "lib",
        "--emit=obj",
        "-C",
        "codegen-units=1",
    ];
    for option in options {
        arguments.extend(["-C", option]);
    }
    compile("lib.rs", &arguments)
}

/// What a compiler may ask of whoever links: copies and comparisons of memory, which take no
/// lock and keep nothing.
const MEMORY: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// Names that must not be there, defined or not: allocation, panics, formatting, unwinding,
/// thread-locals, and anything of the C library's.
const NEVER: [&str; 22] = [
    "alloc",
    "panic",
    "_fail",
    "unwrap",
    "expect_",
    "fmt",
    "Unwind",
    "eh_personality",
    "begin_unwind",
    "tls_get_addr",
    "errno_location",
    "malloc",
    "calloc",
    "free",
    "pthread",
    "printf",
    "setuid",
    "setgid",
    "setgroups",
    "syscall",
    "abort",
    "stack_chk",
];

fn forbidden(symbols: &[Symbol], besides: &[&str]) -> BTreeSet<String> {
    let allowed = |name: &str| besides.contains(&name);
    let found = symbols.iter().filter(|symbol| {
        let never = NEVER.iter().any(|part| symbol.name.contains(part));
        let missing = !symbol.defined && !MEMORY.contains(&symbol.name.as_str());
        (never || missing) && !allowed(&symbol.name)
    });
    found.map(|symbol| symbol.name.clone()).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The helper's own panic handler is there because the compiler demands one; that nobody
/// calls it is what the other names say.
const HANDLER: &str = "rust_begin_unwind";

#[test]
fn child_cannot_allocate() {
    let built = helper_with_symbols();
    let helper = Elf::parse(&built);
    let symbols = helper.symbols();
    assert!(symbols.iter().any(|symbol| symbol.name == "_start"), "no symbols to look at");
    let undefined: Vec<_> = symbols.iter().filter(|s| !s.defined).map(|s| &s.name).collect();
    assert!(undefined.is_empty(), "{undefined:?}");
    assert_eq!(forbidden(&symbols, &[]), BTreeSet::new());
    // What was looked at is what programs carry.
    let carried = Elf::parse(HELPER);
    assert!(carried.code() == helper.code(), "build.rs builds it in another way");
    // Neither an interpreter nor a dynamic table, nor thread-locals: PT_INTERP, PT_DYNAMIC, PT_TLS.
    assert!(carried.segments().iter().all(|kind| ![3, 2, 7].contains(kind)));
    assert!(HELPER.len() < 64 << 10, "{}", HELPER.len());

    // The library, for starts in place: whatever profile a program is built with.
    for options in [
        &["opt-level=3", "panic=abort"][..],
        &["opt-level=3"],
        &["opt-level=2", "panic=abort"],
        &["opt-level=s", "panic=abort"],
    ] {
        let built = library(options);
        let symbols = Elf::parse(&built).symbols();
        assert!(symbols.iter().any(|symbol| symbol.name.contains("run")), "{options:?}");
        assert!(symbols.iter().any(|symbol| symbol.name.contains("5clone5child")), "{options:?}");
        // A name in the tables of unwinding is no call.
        let besides: &[&str] = if options.len() == 1 { &["rust_eh_personality"] } else { &[] };
        assert_eq!(forbidden(&symbols, besides), BTreeSet::new(), "{options:?}");
    }
}

#[test]
fn child_p6_has_no_panic_to_unwind_from() {
    for (name, built) in [
        ("the helper", HELPER.to_vec()),
        ("the helper with symbols", helper_with_symbols()),
        ("the library", library(&["opt-level=3", "panic=abort"])),
    ] {
        for text in ["panicked", "called `", "out of bounds", "overflow", "out of range", "RUST_"] {
            assert!(!contains(&built, text), "{name}: {text:?}");
        }
        let symbols = Elf::parse(&built).symbols();
        let panics: Vec<_> = symbols
            .iter()
            .filter(|s| s.name.contains("panic") || s.name.contains("_fail") || s.name == HANDLER)
            .map(|s| &s.name)
            .collect();
        assert!(panics.is_empty(), "{name}: {panics:?}");
    }
}

/// The checks above see what they are there for.
#[test]
fn child_checks_notice_what_is_there() {
    let directory = directory();
    for (source, seen) in [
        ("pub fn f(a: &[u8], i: usize) -> u8 { a[i] }", "panic"),
        ("pub fn f(a: &[u8], i: usize) -> &[u8] { &a[i..] }", "_fail"),
        ("extern crate alloc; pub fn f() -> alloc::vec::Vec<u8> { alloc::vec![1; 9] }", "alloc"),
        (
            "unsafe extern \"C\" { fn getpid() -> i32; } pub fn f() -> i32 { unsafe { getpid() } }",
            "getpid",
        ),
        ("pub fn f(a: Option<u8>) -> u8 { a.unwrap() }", "unwrap"),
    ] {
        let path = directory.join("lib.rs");
        std::fs::write(
            &path,
            format!("#![no_std]\n{}", source.replace("pub fn", "#[inline(never)] pub fn")),
        )
        .unwrap();
        let out = directory.join("out");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.args(["--edition", "2024", "--crate-type", "lib", "--emit=obj", "-A", "warnings"]);
        command.args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "codegen-units=1"]);
        assert!(command.arg("-o").arg(&out).arg(&path).status().unwrap().success(), "{source}");
        let built = std::fs::read(&out).unwrap();
        let found = forbidden(&Elf::parse(&built).symbols(), &[]);
        assert!(found.iter().any(|name| name.contains(seen)), "{source}: {found:?}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
