//! Pods under DMTCP that move: what CRIU's do, and what can go wrong with DMTCP alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};

use crate::engine::{ANNOTATION, carried, need};
use crate::expect;
use crate::faults::moment::{self, Before};
use crate::faults::outcome::{self, Outcome};
use crate::migration::{self, client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};

/// A destination's start that will fail anyway.
const SHORT: Duration = Duration::from_secs(8);

type Body = fn(&Testbed) -> Result<()>;

pub fn all() -> Vec<Scenario> {
    let bodies: [(&str, Body); 8] = [
        ("client", with_client),
        ("there_and_back", there_and_back),
        ("rolled_back_when_written", |testbed| {
            rolled_back(testbed, FaultPoint::DestinationAfterRestore)
        }),
        ("rolled_back_when_suspended", |testbed| {
            rolled_back(testbed, FaultPoint::ShimSourceBeforeDump)
        }),
        ("coordinator_killed_when_suspended", |testbed| {
            coordinator_killed(testbed, FaultPoint::ShimSourceAfterFreeze, false)
        }),
        ("coordinator_killed_when_written", |testbed| {
            coordinator_killed(testbed, FaultPoint::ShimSourceAfterDump, false)
        }),
        ("coordinator_killed_and_rolled_back", |testbed| {
            coordinator_killed(testbed, FaultPoint::ShimSourceAfterDump, true)
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
    expect::soon("Redis under DMTCP", 20, || Ok(!carried(node)?.is_empty()))?;
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
    expect::equal("keys", keys.as_str(), "401")
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

/// The coordinator dies while the pod stands still. Once the image is written the pod goes on on B.
/// Before, or if B fails, the pod ends as at any other time: kubelet sees its container end, and can
/// start it again. It is never lost without a word.
fn coordinator_killed(testbed: &Testbed, point: FaultPoint, b_fails: bool) -> Result<()> {
    prepared(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let pod = pod();
    let source = run(a, &pod)?;
    expect::soon("an answer of Redis", 10, || {
        Ok(outcome::answers(a, Some(&source)))
    })?;
    let add = ["redis-cli", "incrby", "counter", "41"];
    expect::exec(a, &source, "redis", &add)?;
    let client = client(outside, &source.ip)?;
    let mut before = Before {
        a,
        b,
        pod,
        source,
        client,
        counter: 41,
    };
    if b_fails {
        b.arm_fault(FaultPoint::DestinationAfterRestore.name(), "error-once")?;
    }
    let arrived = moment::at(&before, a, point, Duration::ZERO, || {
        a.sh("kill -KILL $(pgrep -f '[d]mtcp_coordinator')")?;
        Ok(())
    })?;
    if point == FaultPoint::ShimSourceAfterDump && !b_fails {
        let outcome = outcome::settled(testbed, &before, arrived.as_ref().ok())?;
        expect::equal("outcome", outcome, Outcome::Completed)?;
        return outcome::end_client(before.client, true);
    }
    let message = expect::failure("the start on B", arrived)?;
    let reason = if b_fails {
        FaultPoint::DestinationAfterRestore.name()
    } else {
        "ended while it was checkpointed"
    };
    expect::contains("message", &message, &[reason])?;
    let code = expect::exit_code(a, &before.source, "redis")?;
    ensure!((160..250).contains(&code), "exit code {code}");
    let outcome = outcome::settle(testbed, &before.source, None)?;
    expect::equal("outcome", outcome, Outcome::Ended)?;
    drop(before.client);
    a.start_container(&mut before.source, &before.pod.containers()[0], 1)?;
    expect::soon("Redis again", 20, || {
        Ok(outcome::answers(a, Some(&before.source)))
    })?;
    migrate(a, b, &before.pod).map(drop)
}
