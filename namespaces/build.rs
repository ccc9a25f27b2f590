//! Builds the helper: `child/src/helper.rs`, a static ELF without the C library, with
//! rustc and the target's linker alone. Cargo cannot: a build script gets no crate for
//! another panic strategy, and the helper must not unwind.

use std::path::Path;
use std::process::Command;

fn main() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let source = Path::new(&var("CARGO_MANIFEST_DIR")).join("child/src");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    let out = Path::new(&var("OUT_DIR")).join("helper");
    let mut rustc = Command::new(var("RUSTC"));
    rustc
        .args(["--edition", "2024", "--crate-name", "ireko_helper", "--crate-type", "bin"])
        .args(["--target", &var("TARGET"), "-C", "panic=abort", "-C", "opt-level=s"])
        .args(["-C", "codegen-units=1", "-C", "force-unwind-tables=no", "-C", "strip=symbols"])
        .args(["-C", "relocation-model=static", "-C", "target-feature=+crt-static"]);
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-Wl,--build-id=none"] {
        rustc.args(["-C", &format!("link-arg={argument}")]);
    }
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    let status = rustc.arg("-o").arg(&out).arg(source.join("helper.rs")).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "cannot build the helper with {rustc:?}: {status:?}"
    );
}
