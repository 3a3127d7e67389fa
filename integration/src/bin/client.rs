//! The client of a migrated pod: as demo, tests and benchmarks start it on a node.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use mycedrive_integration::workload::counter;
use mycedrive_integration::workload::protocol::Protocol;

/// Increments a counter in Redis or another program over one connection and writes down every answer.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// File with the address, IP:PORT.
    #[arg(long)]
    service: PathBuf,
    /// The client ends when this file exists.
    #[arg(long)]
    stop: PathBuf,
    /// Where the report goes, as JSON.
    #[arg(long)]
    out: PathBuf,
    /// What the service speaks.
    #[arg(long, value_enum, default_value = "redis")]
    protocol: Protocol,
    /// Name of the counter.
    #[arg(long, default_value = "counter")]
    counter: String,
    /// Microseconds between two requests.
    #[arg(long, default_value_t = 500)]
    pace_us: u64,
    /// Seconds after which the client ends by itself.
    #[arg(long, default_value_t = 900)]
    limit_s: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let report = counter::run(
        &arguments.service,
        arguments.protocol,
        &arguments.counter,
        Duration::from_micros(arguments.pace_us),
        Duration::from_secs(arguments.limit_s),
        &arguments.stop,
    )?;
    std::fs::write(arguments.out, serde_json::to_vec(&report)?)?;
    Ok(())
}
