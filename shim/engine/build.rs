//! Compiles what the crate embeds: `shim/init`, a program without any library, and
//! `shim/criu-plugin`, a library that asks for no version of any other.
//!
//! Not Cargo packages: Cargo cannot link one target of a workspace without a C library.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    compile(
        "../init/src",
        "main.rs",
        "init",
        &[
            "--crate-type=bin",
            "-Crelocation-model=static",
            "-Ctarget-feature=+crt-static",
            "-Clink-args=-nostartfiles -nostdlib -static -no-pie",
        ],
    );
    compile(
        "../criu-plugin/src",
        "lib.rs",
        "criu_plugin",
        &["--crate-type=cdylib", "-Clink-args=-nostartfiles -nostdlib"],
    );
}

/// Compiles a folder's root file to `OUT_DIR/NAME`.
fn compile(source: &str, root: &str, name: &str, arguments: &[&str]) {
    println!("cargo::rerun-if-changed={source}");
    let output = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join(name);
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .args(["--edition", "2024", "--crate-name", name])
        .arg("--target")
        .arg(env::var_os("TARGET").unwrap_or_default())
        .args(["-Cpanic=abort", "-Copt-level=2", "-Cstrip=symbols"])
        .args(arguments)
        .arg("-o")
        .arg(&output)
        .arg(Path::new(source).join(root));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    match rustc.status() {
        Ok(status) if status.success() => {}
        other => {
            println!("cargo::error={source} cannot be compiled by {rustc:?}: {other:?}");
        }
    }
}
