//! Pods under DMTCP that move: what CRIU's do, and what can go wrong with DMTCP alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};

use crate::engine::{ANNOTATION, need};
use crate::expect;
use crate::migration::{self, client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};

/// A destination's start that will fail anyway.
const SHORT: Duration = Duration::from_secs(8);

type Body = fn(&Testbed) -> Result<()>;

pub fn all() -> Vec<Scenario> {
    let bodies: [(&str, Body); 5] = [
        ("client", with_client),
        ("there_and_back", there_and_back),
        ("rolled_back_when_written", |testbed| {
            rolled_back(testbed, FaultPoint::DestinationAfterRestore)
        }),
        ("rolled_back_when_suspended", |testbed| {
            rolled_back(testbed, FaultPoint::ShimSourceBeforeDump)
        }),
        ("several_containers", |testbed| {
            prepared(testbed)?;
            migration::pair(
                testbed,
                &migration::pair_of().annotation(ANNOTATION, "dmtcp"),
            )
        }),
    ];
    bodies
        .into_iter()
        .map(|(name, body)| Scenario::new(format!("dmtcp::{name}"), body))
        .collect()
}

fn prepared(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, ..) = three(testbed)?;
    need(a, "dmtcp")
}

fn pod() -> Pod {
    redis::pod("redis-0", "mycedrive").annotation(ANNOTATION, "dmtcp")
}

/// A pod whose Redis has come under DMTCP.
fn run(node: &Node, pod: &Pod) -> Result<RunningPod> {
    let running = node.run_pod(pod)?;
    expect::soon("Redis under DMTCP", 20, || {
        Ok(!node
            .sh("ls -d /proc/[0-9]*/fd/821 2>/dev/null || true")?
            .is_empty())
    })?;
    Ok(running)
}

fn with_client(testbed: &Testbed) -> Result<()> {
    prepared(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let pod = pod();
    let source = run(a, &pod)?;
    redis::fill(a, &source, 8)?;
    let client = client(outside, &source.ip)?;
    let destination = migrate(a, b, &pod)?;
    let last = finish(client)?;
    let counter = expect::exec(b, &destination, "redis", &["redis-cli", "get", "counter"])?;
    expect::equal("counter", counter, last.to_string())?;
    let keys = expect::exec(b, &destination, "redis", &["redis-cli", "dbsize"])?;
    expect::equal("keys", keys.as_str(), "129")
}

/// Twice, with a new client each time.
fn there_and_back(testbed: &Testbed) -> Result<()> {
    prepared(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let pod = pod();
    let mut here = run(a, &pod)?;
    let mut last = 0;
    for (from, to) in [(a, b), (b, a)] {
        let client = client(outside, &here.ip)?;
        let there = migrate(from, to, &pod)?;
        let value = finish(client)?;
        ensure!(value > last, "the counter went back from {last} to {value}");
        last = value;
        from.stop_pod(&here, Duration::from_secs(1))?;
        here = there;
    }
    Ok(())
}

/// The first try fails at `point`, and the client sees a pause; the second one succeeds.
fn rolled_back(testbed: &Testbed, point: FaultPoint) -> Result<()> {
    prepared(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let pod = pod();
    let source = run(a, &pod)?;
    let client = client(outside, &source.ip)?;
    let side = if point.name().contains("source") {
        a
    } else {
        b
    };
    side.arm_fault(point.name(), "error-once")?;
    let failed = b.run_pod_within(&pod.migrate_from(&a.address()), SHORT);
    let reached = !side.fault_armed(point.name());
    testbed.workers().try_for_each(Node::disarm_faults)?;
    ensure!(reached, "{} was not reached: {failed:?}", point.name());
    if failed.is_err() {
        b.remove_all_pods()?;
        expect::soon("Redis on A", 20, || {
            Ok(expect::exec(a, &source, "redis", &["redis-cli", "ping"]).is_ok())
        })?;
        migrate(a, b, &pod)?;
    }
    finish(client)?;
    Ok(())
}
