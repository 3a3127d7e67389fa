//! The fault matrix: daemon or shim dies at every numbered step, on either side.
//!
//! Whatever happens, the end is one of: completed, rolled back, held. The counter in Redis never goes
//! back, and the pod never runs on both nodes.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, RunningPod, Testbed};

use crate::expect;
use crate::world::{Scenario, Skip, need_daemon, three};

/// How long kubelet on B tries while the fault is worked off.
const TRY: Duration = Duration::from_secs(12);
/// Seconds within which a point is passed after the arrival.
const LATE: u64 = 3;
/// The nodes have come to an end after this, in seconds.
const SETTLED: u64 = 20;

pub fn all() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for point in FaultPoint::ALL {
        scenarios.push(Scenario::new(
            format!("faults::kill::{}", point.name()),
            move |testbed| kill_at(testbed, *point),
        ));
    }
    scenarios
}

fn kill_at(testbed: &Testbed, point: FaultPoint) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let side = if point.name().contains("source") {
        a
    } else {
        b
    };
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    let before: u64 = expect::exec(
        a,
        &source,
        "redis",
        &["redis-cli", "incrby", "counter", "41"],
    )?
    .parse()?;

    side.arm_fault(point.name(), "kill")?;
    if undoes(point) {
        // Something else must have gone wrong before.
        b.arm_fault(FaultPoint::DestinationAfterRestore.name(), "error-once")?;
    }
    let arrived = b.run_pod_within(&pod.migrate_from(&a.address()), TRY);
    // The last points come after the pod's start on B.
    let reached = expect::soon("the point", LATE, || Ok(!side.fault_armed(point.name()))).is_ok();
    testbed.workers().try_for_each(Node::disarm_faults)?;
    if !reached {
        ensure!(
            arrived.is_ok(),
            "the point was not reached and the migration failed: {arrived:?}"
        );
        return Err(
            Skip("a migration without other faults does not pass this point".to_owned()).into(),
        );
    }
    let outcome = settle(testbed, &source, arrived.as_ref().ok())?;
    check(
        testbed,
        point,
        &outcome,
        &source,
        arrived.as_ref().ok(),
        before,
    )
}

/// Steps that only a migration that fails takes.
fn undoes(point: FaultPoint) -> bool {
    ["resume", "abort", "undo"]
        .iter()
        .any(|word| point.name().contains(word))
}

/// Where the pod is, once both sides have come to an end.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It runs on B.
    Completed,
    /// It runs on A.
    RolledBack,
    /// It is frozen on A until the two agree or a person decides.
    Held,
    /// Its shim was killed with it, and with it what it ran: kubelet sees the container end.
    Ended,
}

fn answers(node: &Node, pod: Option<&RunningPod>) -> bool {
    pod.is_some_and(|pod| {
        node.exec_in(pod, "redis", &["redis-cli", "ping"])
            .is_ok_and(|done| done.stdout.trim() == "PONG")
    })
}

fn settle(testbed: &Testbed, source: &RunningPod, arrived: Option<&RunningPod>) -> Result<Outcome> {
    let (a, b, _) = three(testbed)?;
    let mut outcome = Outcome::Held;
    let settled = expect::soon("the end of the migration", SETTLED, || {
        let running = [a, b].map(|node| {
            node.sh("pgrep -x redis-server | wc -l")
                .is_ok_and(|count| count != "0")
        });
        let answer = (answers(a, Some(source)), answers(b, arrived));
        outcome = match answer {
            (true, true) => bail!("the pod runs on both nodes"),
            (true, false) => Outcome::RolledBack,
            (false, true) => Outcome::Completed,
            (false, false) if !running[0] && !running[1] => Outcome::Ended,
            (false, false) => Outcome::Held,
        };
        Ok(matches!(outcome, Outcome::RolledBack | Outcome::Completed))
    });
    match settled {
        Err(error) if error.to_string().contains("both nodes") => Err(error),
        _ => Ok(outcome),
    }
}

fn check(
    testbed: &Testbed,
    point: FaultPoint,
    outcome: &Outcome,
    source: &RunningPod,
    arrived: Option<&RunningPod>,
    before: u64,
) -> Result<()> {
    let (a, b, _) = three(testbed)?;
    let (node, pod) = match outcome {
        Outcome::RolledBack => (a, source),
        Outcome::Completed => (b, arrived.context("B runs a pod that was not started")?),
        // A killed shim takes its containers with it: containerd ends them, as those of its own shim.
        Outcome::Ended if point.name().starts_with("shim-") => return Ok(()),
        Outcome::Held => {
            let list = a.sh("mycedrive migrations --json")?;
            ensure!(
                list.contains("held"),
                "the pod runs nowhere and is not held: {list}"
            );
            return Ok(());
        }
        Outcome::Ended => bail!("the pod is lost: it runs nowhere"),
    };
    let counter: u64 = expect::exec(node, pod, "redis", &["redis-cli", "get", "counter"])?
        .parse()
        .unwrap_or(0);
    ensure!(
        counter >= before,
        "the counter went back from {before} to {counter}"
    );
    print!("{outcome:?} ");
    Ok(())
}
