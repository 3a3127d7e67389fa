//! `cargo verify`: runs all tests of the workspace and adds up what they say.
//!
//! The last line is `N passed, N failed, N skipped`. A test that cannot run here says so in a line
//! `skipped: WHY`; it counts as skipped although the harness takes it for passed.

mod tally;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Parser;
use mycedrive_integration::cargo;
use tally::Tally;

/// Runs all tests; the last line is `N passed, N failed, N skipped`.
#[derive(Parser)]
#[command(name = "verify", version)]
struct Arguments {
    /// Only tests whose name contains this.
    filter: Option<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse_from(mycedrive_integration::arguments())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // The programs that nodes run, from the same build as the tests.
    // All targets: without those of the tests, dependencies have other features and are compiled twice.
    let built = cargo(&root)
        .args(["build", "--workspace", "--all-targets"])
        .status()
        .context("cannot run cargo")?;
    if !built.success() {
        println!("0 passed, 1 failed, 0 skipped");
        return Ok(ExitCode::FAILURE);
    }
    let mut command = cargo(&root);
    command
        .args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--",
            "--show-output",
        ])
        .args(&arguments.filter)
        .env("MYCEDRIVE_BIN_DIR", target_dir(&root).join("debug"));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let mut tally = Tally::default();
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read cargo's output")?;
        if let Some(shown) = tally.read(&String::from_utf8_lossy(&line)) {
            println!("{shown}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    // A test program that died, or did not compile, has no line of its own.
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    println!("{tally}");
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
