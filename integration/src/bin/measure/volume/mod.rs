//! Volumes: what rounds do to the freeze, what is sent, and what a stack costs.

mod change;
mod journal;
mod overhead;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use mycedrive_integration::Testbed;
use mycedrive_integration::workload::volume::{Case, move_once};
use serde::Serialize;

use crate::plot::{Group, bars};
use crate::statistics::Summary;
use crate::{Conditions, write, write_json};

const WAYS: [&str; 4] = ["0", "1", "2", "auto"];

/// What is measured.
#[derive(Clone, Copy, ValueEnum)]
pub enum Part {
    /// Freeze with 0, 1, 2 and automatic rounds, of a volume that is written all the time.
    Rounds,
    /// Freeze against the size of the volume, automatic rounds.
    Size,
    /// Bytes sent for a file of 1 GB of which 1 % was rewritten.
    Change,
    /// Sequential and random I/O and 100,000 small files, on a stack and on a plain bind mount.
    Overhead,
    /// Migrations in a row of a database with a journal, which is checked after each.
    Journal,
}

/// How much of it.
pub struct Plan {
    /// Runs for each value.
    pub runs: usize,
    /// Mbit/s; 0: no limit.
    pub links: Vec<u64>,
    /// Megabytes.
    pub size: u64,
    /// Megabytes.
    pub sizes: Vec<u64>,
    /// No run begins later.
    pub until: Instant,
}

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    values: Vec<Value>,
}

#[derive(Serialize)]
struct Value {
    name: String,
    runs: Vec<Run>,
    freeze_ms: Option<Summary>,
}

#[derive(Clone, Serialize)]
struct Run {
    freeze_ms: u64,
    bytes_sent: u64,
    rounds: Vec<String>,
}

/// Measures one part and writes `volume-PART.json` and a plot; `rounds`: one for each link.
pub fn run(testbed: &Testbed, part: Part, plan: &Plan, out: &Path) -> Result<()> {
    match part {
        Part::Rounds => rounds(testbed, plan, out),
        Part::Size => size(testbed, plan, out),
        Part::Change => change::run(testbed, out),
        Part::Overhead => overhead::run(testbed, plan, out),
        Part::Journal => journal::run(testbed, plan, out),
    }
}

fn measure(testbed: &Testbed, plan: &Plan, name: String, case: &Case) -> Result<Value> {
    let mut runs = Vec::new();
    for number in 1..=plan.runs {
        if Instant::now() > plan.until {
            println!("{name}: time is over after {} runs", runs.len());
            break;
        }
        let moved = move_once(testbed, case)?;
        println!(
            "{name}, run {number} of {}: freeze {} ms, {} bytes in {} rounds",
            plan.runs,
            moved.freeze_ms,
            moved.bytes_sent,
            moved.rounds.len()
        );
        runs.push(Run {
            freeze_ms: moved.freeze_ms,
            bytes_sent: moved.bytes_sent,
            rounds: moved.rounds,
        });
    }
    let freezes: Vec<f64> = runs.iter().map(|run| run.freeze_ms as f64).collect();
    Ok(Value {
        name,
        freeze_ms: Summary::of(&freezes),
        runs,
    })
}

/// The writer gets a fifth of the link, so that what it writes scales with it as the thesis's
/// message load did; without a limit 5 MB/s.
fn rounds(testbed: &Testbed, plan: &Plan, out: &Path) -> Result<()> {
    for &link in &plan.links {
        let rate = (link > 0).then(|| format!("{link}mbit"));
        for node in testbed.workers() {
            node.set_rate(rate.as_deref())?;
        }
        rounds_over(testbed, plan, link, out)?;
    }
    for node in testbed.workers() {
        node.set_rate(None)?;
    }
    Ok(())
}

fn rounds_over(testbed: &Testbed, plan: &Plan, link: u64, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let (label, name) = match link {
        0 => ("no limit".to_owned(), "volume-rounds-unlimited".to_owned()),
        link => (format!("{link} Mbit/s"), format!("volume-rounds-{link}")),
    };
    let mut values = Vec::new();
    for way in WAYS {
        let case = Case {
            rounds: way.to_owned(),
            base: 0,
            written: if link == 0 {
                5_000_000
            } else {
                link * 125_000 / 5
            },
            file: plan.size * 1_000_000,
            plain: false,
            client: false,
        };
        values.push(measure(
            testbed,
            plan,
            format!("{label}, {way} rounds"),
            &case,
        )?);
    }
    let medians = values
        .iter()
        .map(|value| value.freeze_ms.map_or(0.0, |summary| summary.median));
    let group = Group {
        label: format!("{} MB, {label}", plan.size),
        values: medians.collect(),
    };
    let series = ["0 rounds", "1", "2", "auto"];
    let plot = bars("Freeze by pre-copy rounds", "ms, median", &series, &[group]);
    write(out, &format!("{name}.svg"), &plot)?;
    write_json(out, &name, &Measured { conditions, values })
}

/// Nothing but 4 MB is written, so that only the size differs.
fn size(testbed: &Testbed, plan: &Plan, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let (mut values, mut groups) = (Vec::new(), Vec::new());
    for &megabytes in &plan.sizes {
        let case = Case {
            rounds: "auto".to_owned(),
            base: megabytes.saturating_sub(4) * 1_000_000,
            written: 500_000,
            file: 4_000_000,
            plain: false,
            client: false,
        };
        let value = measure(testbed, plan, format!("{megabytes} MB"), &case)?;
        groups.push(Group {
            label: value.name.clone(),
            values: vec![value.freeze_ms.map_or(0.0, |summary| summary.median)],
        });
        values.push(value);
    }
    let plot = bars(
        "Freeze by size of the volume",
        "ms, median",
        &["freeze"],
        &groups,
    );
    write(out, "volume-size.svg", &plot)?;
    write_json(out, "volume-size", &Measured { conditions, values })
}
