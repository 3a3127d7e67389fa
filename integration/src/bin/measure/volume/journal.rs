//! A database on a volume, moved back and forth: its journal on the volume says the same as its
//! memory after each migration, and as its clients at the end.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::workload::volume::{empty_dir, fresh};
use mycedrive_integration::workload::{migrations, redis};
use mycedrive_integration::{Container, Node, Pod, RunningPod, Testbed};
use serde::Serialize;

use super::Plan;
use crate::statistics::Summary;
use crate::{Conditions, write_json};

/// kubelet tries this long to start a destination.
const TRY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(300);
/// Megabytes of records beside the clients' counter.
const RECORDS: u64 = 20;
const NAME: &str = "redis";

#[derive(Default, Serialize)]
struct Measured {
    conditions: Option<Conditions>,
    migrations: usize,
    /// Increments that the clients had an answer for.
    writes: usize,
    lost: u64,
    doubled: u64,
    errors: u64,
    /// Migrations after which a load of the journal gave other data than the memory held.
    journals_that_differ: usize,
    /// Increments in the journal at the end, and the counter's last value that a client saw.
    increments_in_journal: u64,
    last_value: u64,
    freeze_ms: Option<Summary>,
}

/// Redis that answers a write only when it is in its append-only file and on the disk.
fn pod() -> Pod {
    let args = [
        "redis-server",
        "--protected-mode",
        "no",
        "--dir",
        "/data",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--enable-debug-command",
        "yes",
    ];
    Pod::new("shop", "journal").with(Container::new(NAME, "redis", &args).mount(
        empty_dir(),
        "/data",
        false,
    ))
}

/// Writes `volume-journal.json`.
pub fn run(testbed: &Testbed, plan: &Plan, out: &Path) -> Result<()> {
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    let mut measured = Measured {
        conditions: Some(Conditions::now()),
        ..Measured::default()
    };
    fresh(a)?;
    let pod = pod();
    let (mut from, mut to) = (a, b);
    let mut here = from.run_pod(&pod)?;
    redis::fill(from, &here, RECORDS)?;
    let mut freezes = Vec::new();
    for number in 1..=plan.runs {
        if Instant::now() > plan.until {
            println!("time is over after {} migrations", number - 1);
            break;
        }
        fresh(to)?;
        let client = Client::start(
            testbed.node("client")?,
            &Client::program()?,
            here.ip.parse()?,
        )?;
        std::thread::sleep(PAUSE);
        let there = to.run_pod_within(&pod.migrate_from(&from.address()), TRY)?;
        std::thread::sleep(PAUSE);
        let report = client.finish()?;
        from.stop_pod(&here, GRACE)?;
        here = there;
        let (Some(first), Some(last)) = (report.answers.first(), report.answers.last()) else {
            bail!("the client of migration {number} got no answer")
        };
        measured.lost += report.lost + (measured.last_value + 1).saturating_sub(first.value);
        measured.doubled += report.doubled + first.value.saturating_sub(measured.last_value + 1);
        measured.errors += report.errors;
        measured.writes += report.answers.len();
        measured.last_value = last.value;
        measured.migrations = number;
        if !journal_is_true(to, &here)? {
            measured.journals_that_differ += 1;
        }
        let freeze = migrations::newest(to)?.freeze_ms.unwrap_or_default();
        freezes.push(freeze as f64);
        println!(
            "migration {number}: freeze {freeze} ms, {} writes, {} lost, {} errors, {} journals differ",
            report.answers.len(),
            measured.lost,
            measured.errors,
            measured.journals_that_differ
        );
        std::mem::swap(&mut from, &mut to);
    }
    from.stop_pod(&here, GRACE)?;
    measured.increments_in_journal = increments(from)?;
    measured.freeze_ms = Summary::of(&freezes);
    println!(
        "{} increments in the journal, {} was the last answer",
        measured.increments_in_journal, measured.last_value
    );
    write_json(out, "volume-journal", &measured)?;
    ensure!(
        measured.lost + measured.doubled + measured.errors == 0
            && measured.journals_that_differ == 0
            && measured.increments_in_journal == measured.last_value,
        "something was lost, see above"
    );
    Ok(())
}

/// Redis has the same data after it has dropped its memory and read its journal.
fn journal_is_true(node: &Node, pod: &RunningPod) -> Result<bool> {
    let digest = || -> Result<String> {
        let done = node.exec_in(pod, NAME, &["redis-cli", "debug", "digest"])?;
        Ok(done.stdout.trim().to_owned())
    };
    let before = digest()?;
    ensure!(before.len() == 40, "no digest: {before}");
    let loaded = node.exec_in(pod, NAME, &["redis-cli", "debug", "loadaof"])?;
    ensure!(loaded.stdout.trim() == "OK", "no load: {}", loaded.stdout);
    Ok(digest()? == before)
}

/// Increments in the journal of a pod that has ended: its volume is a plain directory.
fn increments(node: &Node) -> Result<u64> {
    let count = node.sh(&format!(
        "cat {}/appendonlydir/*.incr.aof | grep -aic '^incr.$'",
        empty_dir()
    ))?;
    count.trim().parse().context("a number of increments")
}
