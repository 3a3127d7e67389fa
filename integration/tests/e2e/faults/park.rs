//! Pods that wait as an image: on termination, as a StatefulSet's, and when a shim dies.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};

use super::moment;
use super::outcome::{Outcome, check, settle};
use crate::expect;
use crate::migration::{START_TIME, migrate};
use crate::world::{Scenario, need_daemon, three};

const PARK: &str = "mycedrive.io/on-terminate";
const GRACE: Duration = Duration::from_secs(30);

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("faults::park::stateful_set", stateful_set),
        Scenario::new("faults::park::daemon_dies", daemon_dies),
        Scenario::new("faults::park::without_a_daemon", without_a_daemon),
        Scenario::new("faults::park::given_up", given_up),
        Scenario::new("faults::park::bad_value", bad_value),
        Scenario::new("faults::park::of_a_dead_shim", of_a_dead_shim),
    ]
}

fn pod() -> Pod {
    redis::pod("redis-0", "mycedrive").annotation(PARK, "park")
}

fn counting(node: &Node, pod: &RunningPod) -> Result<u64> {
    Ok(expect::exec(
        node,
        pod,
        "redis",
        &["redis-cli", "incrby", "counter", "41"],
    )?
    .parse()?)
}

fn counter(node: &Node, pod: &RunningPod) -> Result<u64> {
    Ok(
        expect::exec(node, pod, "redis", &["redis-cli", "get", "counter"])?
            .parse()
            .unwrap_or(0),
    )
}

fn no_redis(node: &Node) -> Result<()> {
    expect::equal(
        "processes of Redis",
        node.sh("pgrep -x redis-server | wc -l")?.as_str(),
        "0",
    )
}

/// The controller deletes redis-0 on A, and only when it is gone makes redis-0 on B. And back.
fn stateful_set(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = pod();
    let mut here = a.run_pod(&pod)?;
    redis::fill(a, &here, 16)?;
    expect::exec(a, &here, "redis", &["sh", "-c", "echo kept >/tmp/file"])?;
    let mut last = counting(a, &here)?;
    for (from, to) in [(a, b), (b, a)] {
        from.stop_pod(&here, GRACE)?;
        no_redis(from)?;
        let listed = from.sh("mycedrive ps")?;
        expect::contains("mycedrive ps", &listed, &["redis-0", "redis:parked"])?;
        let listed = from.sh("mycedrive migrations")?;
        expect::contains("mycedrive migrations", &listed, &["parked"])?;
        here = migrate(from, to, &pod)?;
        expect::equal("counter", counter(to, &here)?, last)?;
        expect::equal(
            "keys",
            expect::exec(to, &here, "redis", &["redis-cli", "dbsize"])?.as_str(),
            "801",
        )?;
        expect::equal(
            "file in the root layer",
            expect::exec(to, &here, "redis", &["cat", "/tmp/file"])?.as_str(),
            "kept",
        )?;
        expect::soon("the end of the parked image", 5, || {
            Ok(!from.sh("mycedrive ps")?.contains("redis:parked"))
        })?;
        expect::equal(
            "secrets left on the disk",
            from.sh("find /var/lib/mycedrive/parked -mindepth 1 | wc -l")?
                .as_str(),
            "0",
        )?;
        last = counting(to, &here)?;
    }
    Ok(())
}

/// The daemon is killed between the dump and the image being whole: the pod is terminated as any
/// other, or is parked; it is not both.
fn daemon_dies(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, _, _) = three(testbed)?;
    let source = a.run_pod(&pod())?;
    a.arm_fault(FaultPoint::ShimSourceAfterDump.name(), "pause")?;
    std::thread::scope(|scope| -> Result<()> {
        let stop = scope.spawn(|| a.stop_pod(&source, Duration::from_secs(8)));
        expect::soon("the dump", 20, || {
            Ok(a.fault_reached(FaultPoint::ShimSourceAfterDump.name()))
        })?;
        a.kill_service("mycedrive")?;
        a.disarm_faults()?;
        let stopped = stop.join();
        ensure!(matches!(stopped, Ok(Ok(()))), "stop: {stopped:?}");
        Ok(())
    })?;
    no_redis(a)?;
    let listed = a.sh("mycedrive ps")?;
    ensure!(!listed.contains("parked"), "{listed}");
    Ok(())
}

fn without_a_daemon(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, _, _) = three(testbed)?;
    let source = a.run_pod(&pod())?;
    a.stop_service("mycedrive")?;
    let began = std::time::Instant::now();
    a.stop_pod(&source, GRACE)?;
    ensure!(
        began.elapsed() < Duration::from_secs(20),
        "the end took {:?}",
        began.elapsed()
    );
    a.start_service("mycedrive")?;
    no_redis(a)
}

fn given_up(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = pod();
    let source = a.run_pod(&pod)?;
    a.stop_pod(&source, GRACE)?;
    // kubelet would not, but if it did: the same pod does not start beside its image.
    let message = expect::failure("a start beside the image", a.run_pod(&pod))?;
    expect::contains("message", &message, &["parked", "mycedrive drop"])?;
    let id = parked_id(a)?;
    a.sh(&format!("mycedrive drop {id}"))?;
    let message = expect::failure(
        "the migration of a pod that was given up",
        b.run_pod_within(&pod.migrate_from(&a.address()), Duration::ZERO),
    )?;
    expect::contains("message", &message, &["redis-0"])?;
    let fresh = a.run_pod(&pod)?;
    expect::equal("counter of a fresh pod", counter(a, &fresh)?, 0)
}

/// Id of the parked pod that `mycedrive ps` shows.
fn parked_id(node: &Node) -> Result<String> {
    let text = node.sh("mycedrive ps --json")?;
    let pods: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    pods.iter()
        .find(|pod| pod["role"] == "parked")
        .and_then(|pod| pod["migration"].as_str())
        .map(ToOwned::to_owned)
        .with_context(|| format!("no parked pod in {text}"))
}

fn bad_value(testbed: &Testbed) -> Result<()> {
    let (a, _, _) = three(testbed)?;
    let message = expect::failure(
        "the start",
        a.run_pod(&redis::pod("redis-0", "mycedrive").annotation(PARK, "fly")),
    )?;
    expect::contains("message", &message, &[PARK, "fly", "park"])
}

/// A's shim dies frozen while B cannot take the pod: the image waits, kubelet on A starts nothing
/// in its place, and B fetches it later.
fn of_a_dead_shim(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let (a, b) = (before.a, before.b);
    a.arm_fault(FaultPoint::ShimSourceBeforeDump.name(), "kill")?;
    let message = expect::failure(
        "the first attempt",
        b.run_pod_within(&before.pod.migrate_from(&a.address()), Duration::ZERO),
    )?;
    ensure!(!message.is_empty(), "no reason");
    let outcome = settle(testbed, &before.source, None)?;
    expect::equal("outcome", outcome, Outcome::Parked)?;
    let listed = a.sh("mycedrive migrations")?;
    expect::contains(
        "mycedrive migrations",
        &listed,
        &["parked", "mycedrive drop"],
    )?;
    a.remove_pod(&before.source)?;
    let message = expect::failure("the pod made anew on A", a.run_pod(&before.pod))?;
    expect::contains("message", &message, &["parked"])?;
    // The image outlives the daemon.
    a.kill_service("mycedrive")?;
    let arrived = b
        .run_pod_within(&before.pod.migrate_from(&a.address()), START_TIME)
        .context("the second attempt")?;
    check(
        testbed,
        Outcome::Completed,
        &before.source,
        Some(&arrived),
        before.counter,
    )
}
