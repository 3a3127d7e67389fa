//! Compiles `shim/init`, which the crate embeds: a program without any library, for this target.
//!
//! Not a Cargo package: Cargo cannot link one binary of a workspace without a C library.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "../init/src";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let output = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("init");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            "init",
        ])
        .arg("--target")
        .arg(env::var_os("TARGET").unwrap_or_default())
        .args([
            "-C",
            "panic=abort",
            "-C",
            "opt-level=2",
            "-C",
            "strip=symbols",
        ])
        .args([
            "-C",
            "relocation-model=static",
            "-C",
            "target-feature=+crt-static",
        ])
        .args(["-C", "link-args=-nostartfiles -nostdlib -static -no-pie"])
        .arg("-o")
        .arg(&output)
        .arg(Path::new(SOURCE).join("main.rs"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    match rustc.status() {
        Ok(status) if status.success() => {}
        other => {
            println!("cargo::error=shim/init cannot be compiled by {rustc:?}: {other:?}");
        }
    }
}
