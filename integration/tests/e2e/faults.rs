//! The fault matrix: daemon or shim dies at every numbered step, on either side.
//!
//! Whatever happens, the end is one of: completed, rolled back, held. The counter in Redis never goes
//! back, and the pod never runs on both nodes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, RunningPod, Testbed};

use crate::expect;
use crate::world::{Scenario, Skip, need_daemon, three};

/// How long kubelet on B tries while the fault is worked off.
const TRY: Duration = Duration::from_secs(8);
/// The same where a shim dies, after which there is nothing to wait for.
const TRY_WITHOUT_SHIM: Duration = Duration::from_secs(3);
/// Seconds within which a point is passed after the arrival.
const LATE: u64 = 3;
/// The nodes have come to an end after this.
const SETTLED: Duration = Duration::from_secs(15);
/// A pod without a process for this long is not about to come back.
const GONE: Duration = Duration::from_secs(3);

/// A shim that dies takes time: containerd notices, and cleans up after it.
const SHIMS: &str = "MYCEDRIVE_SHIM_FAULTS";

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
    if point.name().starts_with("shim-") && std::env::var_os(SHIMS).is_none() {
        return Err(Skip(format!("a shim's point; set {SHIMS}=1 to run it")).into());
    }
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
    let time = if point.name().starts_with("shim-") {
        TRY_WITHOUT_SHIM
    } else {
        TRY
    };
    let arrived = b.run_pod_within(&pod.migrate_from(&a.address()), time);
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

/// Looks until the pod answers somewhere, or has no process anywhere, or the time is over.
fn settle(testbed: &Testbed, source: &RunningPod, arrived: Option<&RunningPod>) -> Result<Outcome> {
    let (a, b, _) = three(testbed)?;
    let until = Instant::now() + SETTLED;
    let mut gone_since = None;
    loop {
        match (answers(a, Some(source)), answers(b, arrived)) {
            (true, true) => bail!("the pod runs on both nodes"),
            (true, false) => return Ok(Outcome::RolledBack),
            (false, true) => return Ok(Outcome::Completed),
            (false, false) => {}
        }
        let gone = [a, b].iter().all(|node| {
            node.sh("pgrep -x redis-server | wc -l")
                .is_ok_and(|count| count == "0")
        });
        gone_since = if gone {
            gone_since.or_else(|| Some(Instant::now()))
        } else {
            None
        };
        if gone_since.is_some_and(|since| since.elapsed() > GONE) {
            return Ok(Outcome::Ended);
        }
        if Instant::now() > until {
            return Ok(Outcome::Held);
        }
        std::thread::sleep(Duration::from_millis(100));
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
            // Frozen on A; the side that knows that it cannot go on says that a person has to decide.
            let lists = [a, b].map(|node| node.sh("mycedrive migrations --json"));
            let [on_a, on_b] = lists;
            let (on_a, on_b) = (on_a?, on_b?);
            ensure!(
                on_a.contains("\"held\"") || on_b.contains("\"held\""),
                "the pod runs nowhere and is not held: {on_a}\n{on_b}"
            );
            print!("Held ");
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
