//! `cargo demo`: a live migration between two nodes on this machine.

mod engine;
mod figures;
mod print;
mod scenario;
#[cfg(test)]
mod tests;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use mycedrive_integration::{Testbed, TestbedOptions, build_binaries, missing_privilege};

use crate::engine::Choice;

/// Moves a pod with Redis in it between two nodes while a client on a third one uses it, and does
/// the same by kill-and-start. Needs root; installs what it needs with apt.
///
/// Exit code 0 only if no migration lost anything: no write, no connection, no error.
#[derive(Parser)]
#[command(name = "demo", bin_name = "cargo demo --", version)]
struct Arguments {
    /// What turns processes into an image and back.
    #[arg(long, value_enum, default_value = "criu")]
    engine: Choice,
    /// Rate of the link between the nodes, such as 3mbit or 100mbit; no limit if not given.
    #[arg(long)]
    rate: Option<String>,
    /// Megabytes of data in Redis.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=2000))]
    size: u64,
    /// Instead, move a pod with a volume of this size (such as 400M) with 0, 1, 2 and as many
    /// pre-copy rounds as are of use.
    #[arg(long, value_name = "SIZE", value_parser = volume::size)]
    volume: Option<u64>,
    /// With --volume: file for the picture of the client's throughput.
    #[arg(long, value_name = "FILE", default_value = "volume.svg")]
    svg: PathBuf,
    /// Write the numbers to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(mycedrive_integration::arguments());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(reason) = missing_privilege() {
        anyhow::bail!("the demo makes nodes on this machine and needs root: {reason}");
    }
    arguments
        .engine
        .check(mycedrive_integration::dmtcp().as_deref())?;
    anyhow::ensure!(
        arguments.volume.is_none() || arguments.engine == Choice::Criu,
        "--volume moves its pod with criu"
    );
    println!("Building and making two nodes and a client (the first time takes a few minutes)");
    build_binaries(!cfg!(debug_assertions))?;
    let options = TestbedOptions {
        name: "demo".to_owned(),
        ..TestbedOptions::default()
    };
    let testbed = Testbed::start(&options)?;
    for node in testbed.workers() {
        node.set_rate(arguments.rate.as_deref())?;
    }

    if let Some(size) = arguments.volume {
        let clean = volume::run(&testbed, size, &arguments.svg)?;
        println!(
            "{}",
            if clean {
                "Nothing was lost."
            } else {
                "SOMETHING WAS LOST."
            }
        );
        return Ok(clean);
    }
    let mut moved = Vec::new();
    for engine in arguments.engine.engines() {
        println!("\nLive migration with {engine}");
        moved.push(scenario::migrate(&testbed, engine, arguments.size)?);
    }
    println!("\nKill and start, for comparison");
    let restarted = scenario::kill_and_start(&testbed)?;

    for figures in &moved {
        println!("\n{}", print::timeline(figures));
    }
    let columns: Vec<_> = moved.iter().chain([&restarted]).collect();
    println!("{}", print::table(&columns));
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&figures::json(&moved, &restarted)?)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    for figures in &moved {
        let verdict = if figures.nothing_lost() {
            "nothing was lost"
        } else {
            "SOMETHING WAS LOST"
        };
        println!("Live migration with {}: {verdict}.", figures.engine);
    }
    Ok(moved.iter().all(figures::Figures::nothing_lost))
}
