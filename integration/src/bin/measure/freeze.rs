//! Freeze and gap against the size of the memory.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use mycedrive_integration::Testbed;
use mycedrive_integration::workload::client::{Client, now_ns};
use mycedrive_integration::workload::{migrations, redis};
use serde::Serialize;

use crate::engine::Engine;
use crate::plot::{Group, bars};
use crate::statistics::Summary;
use crate::{Conditions, write, write_json};

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    sizes: Vec<Size>,
}

#[derive(Serialize)]
struct Size {
    megabytes: u64,
    runs: Vec<Run>,
    freeze_ms: Option<Summary>,
    longest_gap_ms: Option<Summary>,
}

#[derive(Serialize)]
struct Run {
    freeze_ms: u64,
    longest_gap_ms: f64,
    lost: u64,
    errors: u64,
    bytes_sent: u64,
    /// What went in each round and in the freeze, and how long its steps took.
    steps: Vec<String>,
}

/// Events of a migration that say what went, or how long something took.
const STEPS: [&str; 4] = ["round", "dumped", "transferred", "restored"];

/// Measures each size `runs` times and writes `freeze.json` and `freeze.svg`, for DMTCP
/// `freeze-dmtcp.json` and `.svg`.
pub fn run(
    testbed: &Testbed,
    engine: Engine,
    runs: usize,
    sizes: &[u64],
    out: &Path,
) -> Result<()> {
    let conditions = Conditions::now();
    let mut measured = Vec::new();
    for &megabytes in sizes {
        let mut all = Vec::new();
        for number in 1..=runs {
            let run = migrate_once(testbed, engine, megabytes)?;
            println!(
                "{megabytes} MB, run {number} of {runs}: freeze {} ms, gap {:.0} ms, lost {}, errors {}; {}",
                run.freeze_ms,
                run.longest_gap_ms,
                run.lost,
                run.errors,
                run.steps.join("; ")
            );
            all.push(run);
        }
        let freezes: Vec<f64> = all.iter().map(|run| run.freeze_ms as f64).collect();
        let gaps: Vec<f64> = all.iter().map(|run| run.longest_gap_ms).collect();
        measured.push(Size {
            megabytes,
            runs: all,
            freeze_ms: Summary::of(&freezes),
            longest_gap_ms: Summary::of(&gaps),
        });
    }
    let groups: Vec<Group> = measured
        .iter()
        .filter_map(|size| {
            let values = vec![size.freeze_ms?.median, size.longest_gap_ms?.median];
            Some(Group {
                label: format!("{} MB", size.megabytes),
                values,
            })
        })
        .collect();
    write(
        out,
        &format!("{}.svg", engine.result("freeze")),
        &bars(
            "Redis moved live",
            "ms, median",
            &["freeze", "client's longest gap"],
            &groups,
        ),
    )?;
    write_json(
        out,
        &engine.result("freeze"),
        &Measured {
            conditions,
            sizes: measured,
        },
    )
}

fn migrate_once(testbed: &Testbed, engine: Engine, megabytes: u64) -> Result<Run> {
    let (a, b, client) = (
        testbed.node("a")?,
        testbed.node("b")?,
        testbed.node("client")?,
    );
    let pod = engine.of(redis::pod("redis-0", "mycedrive"));
    let source = a.run_pod(&pod)?;
    redis::fill(a, &source, megabytes)?;
    let client = Client::start(client, &Client::program()?, source.ip.parse()?)?;
    std::thread::sleep(Duration::from_secs(1));
    let start = now_ns();
    let destination =
        b.run_pod_within(&pod.migrate_from(&a.address()), Duration::from_secs(120))?;
    std::thread::sleep(Duration::from_secs(1));
    let report = client.finish()?;
    let progress = migrations::newest(b)?;
    a.stop_pod(&source, Duration::from_secs(1))?;
    b.stop_pod(&destination, Duration::from_secs(1))?;
    Ok(Run {
        freeze_ms: progress.freeze_ms.unwrap_or_default(),
        longest_gap_ms: report
            .longest_gap(start, u64::MAX)
            .map_or(f64::INFINITY, |gap| gap.milliseconds),
        lost: report.lost + report.doubled,
        errors: report.errors,
        bytes_sent: progress.bytes_sent,
        steps: progress
            .events
            .iter()
            .filter(|event| STEPS.contains(&event.name.as_str()))
            .map(|event| format!("{}: {}", event.name, event.detail))
            .collect(),
    })
}
