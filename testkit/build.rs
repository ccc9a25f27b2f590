//! Builds the payload: `payload/main.rs`, a static executable, with rustc alone. Cargo
//! would need `-C target-feature=+crt-static` for everything or for nothing.

use std::path::Path;
use std::process::{Command, ExitStatus};

fn main() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let source = Path::new(&var("CARGO_MANIFEST_DIR")).join("payload");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    let out = Path::new(&var("OUT_DIR")).join("payload");
    let mut rustc = Command::new(var("RUSTC"));
    rustc
        .args(["--edition", "2024", "--crate-name", "ireko_payload", "--crate-type", "bin"])
        .args(["--target", &var("TARGET"), "-C", "target-feature=+crt-static"])
        .args(["-C", "relocation-model=static", "-C", "opt-level=2", "-C", "strip=symbols"])
        .args(["-C", "panic=abort", "-A", "linker-messages"]);
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    let status = rustc.arg("-o").arg(&out).arg(source.join("main.rs")).status();
    assert!(
        status.as_ref().is_ok_and(ExitStatus::success),
        "cannot build the payload with {rustc:?}: {status:?}"
    );
}
