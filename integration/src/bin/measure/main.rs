//! Benchmarks: numbers taken in one run, side by side with their baseline, written to files.

mod engine;
mod engines;
mod freeze;
mod plot;
mod programs;
mod shim;
mod soak;
mod statistics;
mod transcript;
mod volume;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use mycedrive_integration::{Images, Testbed, TestbedOptions, build_binaries, missing_privilege};
use serde::Serialize;

use engine::Engine;

/// Measures MyceDrive on nodes on this machine. Needs root. Run it as a release build, on a machine
/// that does nothing else: `cargo run --release --bin measure -- freeze`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder for the numbers (JSON) and plots (SVG).
    #[arg(long, global = true, default_value = "docs/bench")]
    out: PathBuf,
    /// Name of the testbed: runs with other names do not disturb each other, but for their load.
    #[arg(long, global = true, default_value = "measure")]
    name: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Freeze and the client's longest gap for Redis of several sizes, link without limit.
    Freeze {
        /// Migrations for each size.
        #[arg(long, default_value_t = 9)]
        runs: usize,
        /// Sizes of the data set, megabytes.
        #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 500])]
        sizes: Vec<u64>,
        /// What the pods ask for.
        #[arg(long, value_enum, default_value_t = Engine::Criu)]
        engine: Engine,
    },
    /// Start, exec, delete and resident memory of the shim beside io.containerd.runc.v2.
    Shim {
        /// Containers for each runtime.
        #[arg(long, default_value_t = 30)]
        runs: usize,
    },
    /// Volumes: freeze against rounds and link, against size, bytes against change, overhead of a
    /// stack, a database's journal over many migrations. Each part is run by itself.
    Volume {
        /// Which part.
        #[arg(value_enum)]
        part: volume::Part,
        /// Runs for each value.
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// `rounds`: links in Mbit/s, 0 for no limit.
        #[arg(long, value_delimiter = ',', default_values_t = [5, 10, 20])]
        links: Vec<u64>,
        /// `rounds`: size of the volume that is written, megabytes.
        #[arg(long, default_value_t = 40)]
        size: u64,
        /// `size`: sizes of the volume, megabytes.
        #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000, 4000])]
        sizes: Vec<u64>,
        /// Begin no further run after so many minutes.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
    },
    /// The engines side by side: what a checkpoint costs a program that goes on, and what a program
    /// costs under each. With DMTCP installed.
    Engines {
        /// Checkpoints of each size and engine, and turns of redis-benchmark.
        #[arg(long, default_value_t = 9)]
        runs: usize,
        /// Sizes of the data set, megabytes.
        #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 500])]
        sizes: Vec<u64>,
        /// Requests of a turn of redis-benchmark.
        #[arg(long, default_value_t = 100_000)]
        requests: u64,
    },
    /// Moves each program of the testbed's images under a client, and writes docs/programs.md; with
    /// another engine than CRIU docs/programs-ENGINE.md.
    Programs {
        /// What pods ask for.
        #[arg(long, value_enum, default_value_t = Engine::Criu)]
        engine: Engine,
        /// Only those whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// Folder of the page.
        #[arg(long, default_value = "docs")]
        page: PathBuf,
    },
    /// The commands for checkpoints under each engine and what they say: writes
    /// docs/checkpoint-transcript.md. Needs crictl in the PATH, and DMTCP.
    Transcript {
        /// Folder of the page.
        #[arg(long, default_value = "docs")]
        page: PathBuf,
    },
    /// Migrations back and forth in a row; what is lost and what is left over.
    Soak {
        /// Migrations.
        #[arg(long, default_value_t = 50)]
        runs: usize,
        /// What the pod asks for.
        #[arg(long, value_enum, default_value_t = Engine::Criu)]
        engine: Engine,
        /// One client with one connection through all of them.
        #[arg(long)]
        one_connection: bool,
    },
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse_from(mycedrive_integration::arguments());
    if let Some(reason) = missing_privilege() {
        anyhow::bail!("benchmarks make nodes on this machine and need root: {reason}");
    }
    match arguments.what {
        What::Programs { engine, .. } | What::Soak { engine, .. } | What::Freeze { engine, .. } => {
            engine.check()?;
        }
        What::Engines { .. } | What::Transcript { .. } => Engine::Dmtcp.check()?,
        _ => {}
    }
    build_binaries(!cfg!(debug_assertions))?;
    let options = TestbedOptions {
        name: arguments.name,
        images: if matches!(arguments.what, What::Programs { .. }) {
            Images::All
        } else {
            Images::Core
        },
        ..TestbedOptions::default()
    };
    let testbed = Testbed::start(&options)?;
    match arguments.what {
        What::Freeze {
            runs,
            sizes,
            engine,
        } => freeze::run(&testbed, engine, runs, &sizes, &arguments.out),
        What::Shim { runs } => shim::run(&testbed, runs, &arguments.out),
        What::Volume {
            part,
            runs,
            links,
            size,
            sizes,
            minutes,
        } => {
            let plan = volume::Plan {
                runs,
                links,
                size,
                sizes,
                until: Instant::now() + Duration::from_secs(minutes * 60),
            };
            volume::run(&testbed, part, &plan, &arguments.out)
        }
        What::Engines {
            runs,
            sizes,
            requests,
        } => engines::run(&testbed, runs, &sizes, requests, &arguments.out),
        What::Programs { engine, only, page } => {
            let page = page.join(format!("{}.md", engine.result("programs")));
            programs::run(&testbed, engine, &only, &page, &arguments.out)
        }
        What::Transcript { page } => transcript::run(&testbed, &page),
        What::Soak {
            runs,
            engine,
            one_connection,
        } => {
            let plan = soak::Plan {
                engine,
                runs,
                one_connection,
            };
            soak::run(&testbed, &plan, &arguments.out)
        }
    }
}

/// What a run was made with, kept with its numbers.
#[derive(Serialize)]
struct Conditions {
    build: &'static str,
    cores: usize,
    kernel: String,
    load_1min: String,
}

impl Conditions {
    fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_1min: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// Writes one result as `NAME.json` below `out`.
fn write_json(out: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    write(
        out,
        &format!("{name}.json"),
        &serde_json::to_string_pretty(value)?,
    )
}

fn write(out: &Path, name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(out)?;
    let file = out.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}
