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
    let bodies: [(&str, Body); 11] = [
        ("client", with_client),
        ("there_and_back", there_and_back),
        ("rolled_back_when_written", |testbed| {
            rolled_back(testbed, FaultPoint::DestinationAfterRestore)
        }),
        ("rolled_back_when_suspended", |testbed| {
            rolled_back(testbed, FaultPoint::ShimSourceBeforeDump)
        }),
        ("coordinator_killed_when_suspended", |testbed| {
            coordinator_killed(testbed, FaultPoint::ShimSourceAfterFreeze)
        }),
        ("coordinator_killed_when_written", |testbed| {
            coordinator_killed(testbed, FaultPoint::ShimSourceAfterDump)
        }),
        ("only_image::restore_fails", |testbed| {
            only_image(testbed, |before| {
                let point = FaultPoint::ShimDestinationDuringRestore;
                before.b.arm_fault(point.name(), "error-once")?;
                written_without_coordinator(before, Duration::ZERO, || Ok(()))
            })
        }),
        ("only_image::destination_aborts", |testbed| {
            only_image(testbed, |before| {
                let point = FaultPoint::DestinationAfterRestore;
                before.b.arm_fault(point.name(), "error-once")?;
                written_without_coordinator(before, Duration::ZERO, || Ok(()))
            })
        }),
        ("only_image::link_cut", |testbed| {
            only_image(testbed, |before| {
                written_without_coordinator(before, Duration::ZERO, || {
                    Ok(before.b.set_link(false)?)
                })
            })
        }),
        ("only_image::shim_dies", |testbed| {
            only_image(testbed, |before| {
                let (a, b) = (before.a, before.b);
                b.arm_fault(FaultPoint::DestinationAfterRestore.name(), "error-once")?;
                a.arm_fault(FaultPoint::ShimSourceAfterDump.name(), "kill")?;
                let start = before.pod.migrate_from(&a.address());
                Ok(b.run_pod_within(&start, Duration::ZERO))
            })
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

fn kill_coordinator(node: &Node) -> Result<()> {
    node.sh("kill -KILL $(pgrep dmtcp_coor)")?;
    Ok(())
}

/// The coordinator dies while the pod stands still. Once the image is written the pod goes on on B.
/// Before, it ends as at any other time: kubelet sees its container end, and can start it again.
fn coordinator_killed(testbed: &Testbed, point: FaultPoint) -> Result<()> {
    let mut before = moment::before_under_dmtcp(testbed)?;
    let a = before.a;
    let arrived = moment::at(&before, a, point, Duration::ZERO, || kill_coordinator(a))?;
    if point == FaultPoint::ShimSourceAfterDump {
        let outcome = outcome::settled(testbed, &before, arrived.as_ref().ok())?;
        expect::equal("outcome", outcome, Outcome::Completed)?;
        return outcome::end_client(before.client, true);
    }
    let message = expect::failure("the start on B", arrived)?;
    let reason = "ended while it was checkpointed";
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
    migrate(a, before.b, &before.pod).map(drop)
}

/// The start on B, with the coordinator on A dead since the image was written.
fn written_without_coordinator(
    before: &Before<'_>,
    time: Duration,
    then: impl FnOnce() -> Result<()>,
) -> Result<mycedrive_integration::Result<RunningPod>> {
    let point = FaultPoint::ShimSourceAfterDump;
    moment::at(before, before.a, point, time, || {
        kill_coordinator(before.a)?;
        then()
    })
}

/// The pod cannot go on on A any more, and does not come to B. Its image is whole: it waits on A,
/// says so, and the next attempt on B gets it with all that was written.
fn only_image(
    testbed: &Testbed,
    fail: impl FnOnce(&Before<'_>) -> Result<mycedrive_integration::Result<RunningPod>>,
) -> Result<()> {
    let before = moment::before_under_dmtcp(testbed)?;
    let (a, b) = (before.a, before.b);
    expect::failure("the first attempt", fail(&before)?)?;
    testbed.workers().try_for_each(Node::disarm_faults)?;
    expect::soon("a parked pod", 60, || {
        Ok(a.sh("mycedrive ps")?.contains("redis:parked"))
    })?;
    b.set_link(true)?;
    let outcome = outcome::settle(testbed, &before.source, None)?;
    expect::equal("outcome", outcome, Outcome::Parked)?;
    let listed = a.sh("mycedrive migrations")?;
    expect::contains("migrations", &listed, &["parked", "mycedrive drop"])?;
    let seen = before.client.finish()?;
    ensure!(seen.lost == 0, "the client saw {} lost writes", seen.lost);
    let arrived = migrate(a, b, &before.pod)?;
    let get = ["redis-cli", "get", "counter"];
    let counter: u64 = expect::exec(b, &arrived, "redis", &get)?.parse()?;
    let last = seen.answers.last().map_or(0, |answer| answer.value);
    ensure!(
        counter >= before.counter.max(last),
        "the counter went back from {last} to {counter}"
    );
    expect::equal(
        "secrets left on the disk",
        a.sh("find /var/lib/mycedrive/parked -mindepth 1 | wc -l")?
            .as_str(),
        "0",
    )
}
