//! Programs that the shims and the daemons need are killed in the freeze.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, Testbed};

use super::moment;
use super::outcome::{Outcome, end_client, settled};
use crate::expect;
use crate::world::Scenario;

const ONCE: Duration = Duration::ZERO;
const MORE: Duration = Duration::from_secs(15);
/// So much that the dump lasts long enough to be hit.
const MEGABYTES: u64 = 64;
/// So much that something else can be done meanwhile.
const MUCH: u64 = 300;

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (node, program) in [("a", "criu"), ("a", "runc"), ("b", "criu"), ("b", "runc")] {
        all.push(Scenario::new(
            format!("faults::programs::{program}_on_{node}"),
            move |testbed| killed(testbed, node, program),
        ));
    }
    all.push(Scenario::new(
        "faults::programs::restored_on_b",
        restored_killed,
    ));
    all.push(Scenario::new(
        "faults::programs::shim_in_its_dump",
        |testbed| shim_in_its_dump(testbed, false),
    ));
    all.push(Scenario::new(
        "faults::programs::shim_and_containerd_is_late",
        |testbed| shim_in_its_dump(testbed, true),
    ));
    for point in [
        FaultPoint::SourceDuringImages,
        FaultPoint::DestinationAfterOffer,
        FaultPoint::DestinationBeforeConclude,
    ] {
        all.push(Scenario::new(
            format!("faults::programs::both_daemons_{}", point.name()),
            move |testbed| both_daemons(testbed, point),
        ));
    }
    all
}

/// A dump or a restore is cut short: the pod goes on on A, and kubelet's next attempt succeeds.
fn killed(testbed: &Testbed, on: &str, program: &str) -> Result<()> {
    let before = moment::before(testbed)?;
    redis::fill(before.a, &before.source, MEGABYTES)?;
    let victim = testbed.node(on)?;
    let arriving = before.pod.migrate_from(&before.a.address());
    let arrived = std::thread::scope(|scope| -> Result<_> {
        let start = scope.spawn(|| before.b.run_pod_within(&arriving, ONCE));
        let hit = kill_when_seen(victim, program);
        let started = start.join();
        ensure!(hit?, "{program} was not seen");
        started.map_err(|_| anyhow::anyhow!("the thread that starts the pod panicked"))
    })?
    .ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    print!("{outcome} ");
    end_client(before.client, true)
}

/// Kills a program's dump or restore as soon as it is there, and those that are started in its place.
/// Looking and killing is one shell loop in the node: it must be quick.
fn kill_when_seen(node: &Node, program: &str) -> Result<bool> {
    let pattern = match program {
        "criu" => "^criu( swrk|: )",
        _ => "^(/usr/sbin/)?runc .*(checkpoint|restore) ",
    };
    let script = format!(
        "i=0; hit=missed; while [ $i -lt 3000 ]; do \
         if pkill -KILL -f '{pattern}'; then \
         [ $hit = missed ] && i=2700; hit=hit; fi; i=$((i+1)); done; echo $hit"
    );
    Ok(node.sh(&script)? == "hit")
}

/// The shim dies while CRIU dumps, and holds the processes with their control group thawed: they are
/// the pod nevertheless. With `late`, containerd is told to clear away what the shim left only when
/// the daemon dumps them again.
fn shim_in_its_dump(testbed: &Testbed, late: bool) -> Result<()> {
    let before = moment::before(testbed)?;
    redis::fill(before.a, &before.source, MUCH)?;
    let arriving = before.pod.migrate_from(&before.a.address());
    let wait = |file: &str| {
        format!(
            "i=0; until [ -s {file} ] || [ $i -gt 6000 ]; do sleep 0.005; i=$((i+1)); done; [ -s {file} ]"
        )
    };
    let kill = format!(
        "pkill -KILL -f '[c]ontainerd-shim-mycedrive.*{}'",
        before.source.sandbox
    );
    let mut script = vec![wait("/run/mycedrive/images/*.out/redis/pages-1.img")];
    if late {
        script.push("pkill -STOP -x containerd".to_owned());
    }
    script.push(kill);
    if late {
        script.push(wait("/var/lib/mycedrive/parked/*/images/redis/pages-1.img"));
    }
    let script = format!(
        "set -e; trap 'pkill -CONT -x containerd' EXIT; {}",
        script.join("; ")
    );
    let arrived = std::thread::scope(|scope| -> Result<_> {
        let start = scope.spawn(|| before.b.run_pod_within(&arriving, MORE));
        let hit = before.a.sh(&script);
        let started = start.join();
        hit?;
        started.map_err(|_| anyhow::anyhow!("the thread that starts the pod panicked"))
    })?
    .ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    print!("{outcome} ");
    ensure!(
        matches!(outcome, Outcome::Completed | Outcome::Parked),
        "the pod is {outcome}"
    );
    end_client(before.client, false)
}

/// The restored processes end before they could run: A still has them.
fn restored_killed(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let point = FaultPoint::DestinationBeforeRunRecorded;
    let arrived = moment::at(&before, before.b, point, ONCE, || {
        before.b.sh("pkill -KILL -x redis-server")?;
        Ok(())
    })?
    .ok();
    ensure!(arrived.is_none(), "a pod without processes was started");
    let outcome = settled(testbed, &before, None)?;
    expect::equal("outcome", outcome, Outcome::RolledBack)?;
    end_client(before.client, true)
}

/// Both daemons die at one moment.
fn both_daemons(testbed: &Testbed, point: FaultPoint) -> Result<()> {
    let before = moment::before(testbed)?;
    let side = if point.name().starts_with("source") {
        before.a
    } else {
        before.b
    };
    let arrived = moment::at(&before, side, point, MORE, || {
        std::thread::scope(|scope| {
            let one = scope.spawn(|| before.a.kill_service("mycedrive"));
            let other = before.b.kill_service("mycedrive");
            let one = one.join();
            ensure!(matches!(one, Ok(Ok(()))) && other.is_ok(), "not killed");
            Ok(())
        })
    })?
    .ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    expect::equal("held", outcome.to_string() == "held", false)?;
    print!("{outcome} ");
    end_client(before.client, true)
}
