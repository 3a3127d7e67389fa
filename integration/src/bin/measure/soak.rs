//! Many migrations in a row: nothing lost, nothing left.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::workload::{leftovers, redis};
use mycedrive_integration::{Node, Testbed};
use serde::Serialize;

use crate::{Conditions, write_json};

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    migrations: usize,
    writes: usize,
    lost: u64,
    doubled: u64,
    errors: u64,
    left_over: Vec<String>,
}

/// Moves one pod `runs` times, each time with a fresh client that stays through the move. The
/// counter goes on from one client to the next.
pub fn run(testbed: &Testbed, runs: usize, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let (a, b, client_node) = (
        testbed.node("a")?,
        testbed.node("b")?,
        testbed.node("client")?,
    );
    let before = [leftovers::of(a)?, leftovers::of(b)?];
    let pod = redis::pod("redis-0", "mycedrive");
    let mut here = a.run_pod(&pod)?;
    let mut measured = Measured {
        conditions,
        migrations: 0,
        writes: 0,
        lost: 0,
        doubled: 0,
        errors: 0,
        left_over: Vec::new(),
    };
    let mut last = 0;
    for number in 0..runs {
        let (from, to): (&Node, &Node) = if number % 2 == 0 { (a, b) } else { (b, a) };
        let client = Client::start(client_node, &Client::program()?, here.ip.parse()?)?;
        std::thread::sleep(Duration::from_millis(300));
        let there =
            to.run_pod_within(&pod.migrate_from(&from.address()), Duration::from_secs(60))?;
        std::thread::sleep(Duration::from_millis(300));
        let report = client.finish()?;
        from.stop_pod(&here, Duration::from_secs(1))?;
        here = there;
        let Some(first) = report.answers.first() else {
            bail!("the client of migration {number} got no answer")
        };
        measured.lost += report.lost + (last + 1_u64).saturating_sub(first.value);
        measured.doubled += report.doubled;
        measured.errors += report.errors;
        measured.writes += report.answers.len();
        measured.migrations += 1;
        last = report.answers.last().map_or(last, |answer| answer.value);
        println!(
            "migration {}: {} writes, {} lost, {} errors",
            number + 1,
            report.answers.len(),
            measured.lost,
            measured.errors
        );
    }
    let last_node = if runs.is_multiple_of(2) { a } else { b };
    last_node.stop_pod(&here, Duration::from_secs(1))?;
    for (node, before) in [a, b].into_iter().zip(before) {
        let left = leftovers::since(node, &before)?;
        measured.left_over.extend(
            left.into_iter()
                .map(|what| format!("{}: {what}", node.name())),
        );
    }
    println!("left over: {:?}", measured.left_over);
    write_json(out, "soak", &measured)?;
    if measured.lost + measured.doubled + measured.errors > 0 || !measured.left_over.is_empty() {
        bail!("something was lost or left over, see above");
    }
    Ok(())
}
