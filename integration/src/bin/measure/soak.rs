//! Many migrations in a row: nothing lost, nothing left.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::workload::report::Report;
use mycedrive_integration::workload::{leftovers, redis};
use mycedrive_integration::{Node, RunningPod, Testbed};
use serde::Serialize;

use crate::engine::{self, Engine};
use crate::{Conditions, write_json};

/// kubelet tries this long to start a destination.
const TRY: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(300);

/// How it is done.
pub struct Plan {
    pub engine: Engine,
    /// Migrations.
    pub runs: usize,
    /// One client with one connection to the first pod's address, through all of them.
    pub one_connection: bool,
}

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    engine: &'static str,
    one_connection: bool,
    /// TCP connections of the client; with one client.
    connections: Option<u64>,
    migrations: usize,
    writes: usize,
    lost: u64,
    doubled: u64,
    errors: u64,
    left_over: Vec<String>,
}

/// Moves one pod back and forth. The counter goes on from one client to the next.
pub fn run(testbed: &Testbed, plan: &Plan, out: &Path) -> Result<()> {
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    let before = [leftovers::of(a)?, leftovers::of(b)?];
    let mut measured = Measured {
        conditions: Conditions::now(),
        engine: plan.engine.name(),
        one_connection: plan.one_connection,
        connections: None,
        migrations: 0,
        writes: 0,
        lost: 0,
        doubled: 0,
        errors: 0,
        left_over: Vec::new(),
    };
    if plan.one_connection {
        with_one_client(testbed, plan, &mut measured)?;
    } else {
        with_many_clients(testbed, plan, &mut measured)?;
    }
    for (node, before) in [a, b].into_iter().zip(before) {
        let left = leftovers::since(node, &before)?;
        measured.left_over.extend(
            left.into_iter()
                .map(|what| format!("{}: {what}", node.name())),
        );
    }
    println!("left over: {:?}", measured.left_over);
    let name = if plan.one_connection {
        "soak-one-connection"
    } else {
        "soak"
    };
    write_json(out, &plan.engine.result(name), &measured)?;
    if measured.lost + measured.doubled + measured.errors > 0
        || measured.connections.is_some_and(|count| count != 1)
        || !measured.left_over.is_empty()
    {
        bail!("something was lost or left over, see above");
    }
    Ok(())
}

/// The nodes between which the migration of this number goes.
fn ends(testbed: &Testbed, number: usize) -> Result<(&Node, &Node)> {
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    Ok(if number.is_multiple_of(2) {
        (a, b)
    } else {
        (b, a)
    })
}

fn start_client(testbed: &Testbed, pod: &RunningPod) -> Result<Client> {
    let client = Client::start(
        testbed.node("client")?,
        &Client::program()?,
        pod.ip.parse()?,
    )?;
    std::thread::sleep(PAUSE);
    Ok(client)
}

/// A fresh client for each migration, which stays through it; the old pod goes after it.
fn with_many_clients(testbed: &Testbed, plan: &Plan, measured: &mut Measured) -> Result<()> {
    let pod = plan.engine.of(redis::pod("redis-0", "mycedrive"));
    let mut here = testbed.node("a")?.run_pod(&pod)?;
    verify(testbed.node("a")?, &here, plan.engine)?;
    let mut last = 0;
    for number in 0..plan.runs {
        let (from, to) = ends(testbed, number)?;
        let client = start_client(testbed, &here)?;
        let there = to.run_pod_within(&pod.migrate_from(&from.address()), TRY)?;
        std::thread::sleep(PAUSE);
        let report = client.finish()?;
        from.stop_pod(&here, GRACE)?;
        here = there;
        let Some(first) = report.answers.first() else {
            bail!("the client of migration {number} got no answer")
        };
        measured.lost += (last + 1_u64).saturating_sub(first.value);
        measured.add(&report);
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
    ends(testbed, plan.runs)?.0.stop_pod(&here, GRACE)?;
    Ok(())
}

/// One client of the first pod's address. That pod stays, held, and with it the connection; those
/// between go.
fn with_one_client(testbed: &Testbed, plan: &Plan, measured: &mut Measured) -> Result<()> {
    let pod = plan.engine.of(redis::pod("redis-0", "mycedrive"));
    let first = testbed.node("a")?.run_pod(&pod)?;
    verify(testbed.node("a")?, &first, plan.engine)?;
    let client = start_client(testbed, &first)?;
    let mut here = None;
    for number in 0..plan.runs {
        let (from, to) = ends(testbed, number)?;
        let there = to.run_pod_within(&pod.migrate_from(&from.address()), TRY)?;
        std::thread::sleep(PAUSE);
        if let Some(old) = here.replace(there) {
            from.stop_pod(&old, GRACE)?;
        }
        measured.migrations += 1;
        println!("migration {}", number + 1);
    }
    let report = client.finish()?;
    measured.add(&report);
    measured.connections = Some(report.connections);
    println!(
        "{} writes, {} lost, {} errors, {} connections",
        measured.writes, measured.lost, measured.errors, report.connections
    );
    if let Some(last) = here {
        ends(testbed, plan.runs)?.0.stop_pod(&last, GRACE)?;
    }
    testbed.node("a")?.stop_pod(&first, GRACE)?;
    Ok(())
}

/// An error if the pod is not carried by the engine.
fn verify(node: &Node, pod: &RunningPod, engine: Engine) -> Result<()> {
    std::thread::sleep(PAUSE);
    let (carried_by, why) = engine::of(node, pod)?;
    if carried_by != engine.name() {
        bail!("the pod is carried by {carried_by}: {why}");
    }
    Ok(())
}

impl Measured {
    fn add(&mut self, report: &Report) {
        self.lost += report.lost;
        self.doubled += report.doubled;
        self.errors += report.errors;
        self.writes += report.answers.len();
    }
}
