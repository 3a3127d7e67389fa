//! kubelet, containerd and other destinations act in the middle of a migration.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{ContainerState, Node, RunningPod, Testbed};

use super::moment::{self, Before};
use super::outcome::{Outcome, answers, check, end_client, settled};
use crate::expect;
use crate::migration::{START_TIME, migrate};
use crate::world::{Scenario, need_daemon, three};

pub fn all() -> Vec<Scenario> {
    let mut all = vec![
        Scenario::new(
            "faults::restarts::container_on_a_frozen_source",
            container_on_a_frozen_source,
        ),
        Scenario::new(
            "faults::restarts::pod_made_anew_where_it_left",
            pod_made_anew_where_it_left,
        ),
        Scenario::new(
            "faults::restarts::destination_that_died_before_the_freeze",
            destination_that_died_before_the_freeze,
        ),
    ];
    for point in [
        FaultPoint::DestinationAfterCopy,
        FaultPoint::DestinationDuringImages,
        FaultPoint::DestinationAfterRestore,
    ] {
        for side in ["a", "b"] {
            all.push(Scenario::new(
                format!("faults::restarts::containerd_on_{side}_{}", point.name()),
                move |testbed| containerd(testbed, side, point),
            ));
        }
    }
    all
}

/// While it is not decided where the pod runs, no container of it starts on A.
fn container_on_a_frozen_source(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let (a, b) = (before.a, before.b);
    let mut source = before.source.clone();
    let arrived = moment::at(
        &before,
        a,
        FaultPoint::SourceAfterOfferRecorded,
        START_TIME,
        || {
            // A failed probe: kubelet ends the container and starts another attempt.
            let stop = a.cri()?.stop_container(source.id("redis"), Duration::ZERO);
            ensure!(stop.is_ok(), "stop: {stop:?}");
            let message = expect::failure(
                "a start in a frozen pod",
                a.start_container(&mut source, &before.pod.containers()[0], 1),
            )?;
            expect::contains("message", &message, &["frozen"])?;
            let created = expect::state(a, &source, "redis")?;
            ensure!(created != ContainerState::ContainerRunning, "{created:?}");
            Ok(())
        },
    )?;
    let arrived = arrived?;
    expect::soon("Redis on B", 10, || Ok(answers(b, Some(&arrived))))?;
    // The next attempt is held.
    a.start_container(&mut source, &before.pod.containers()[0], 2)?;
    nothing_runs(a)?;
    end_client(before.client, false)?;
    check(
        testbed,
        Outcome::Completed,
        &source,
        Some(&arrived),
        before.counter,
    )
}

fn nothing_runs(node: &Node) -> Result<()> {
    std::thread::sleep(Duration::from_millis(500));
    expect::equal(
        "processes of Redis",
        node.sh("pgrep -x redis-server | wc -l")?.as_str(),
        "0",
    )
}

/// The shim of a pod that left is killed: kubelet makes the pod anew, and its containers are held.
fn pod_made_anew_where_it_left(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    let arrived = migrate(a, b, &pod)?;
    expect::soon("the end of Redis on A", 5, || {
        Ok(a.sh("pgrep -x redis-server | wc -l")? == "0")
    })?;
    a.sh("pkill -KILL -f '^[^ ]*containerd-shim-mycedrive-v2 '")?;
    expect::soon("the end of the container", 10, || {
        Ok(expect::state(a, &source, "redis")? == ContainerState::ContainerExited)
    })?;
    a.remove_pod(&source)?;
    // The same uid.
    let anew = a.run_pod(&pod)?;
    expect::equal(
        "state of the held container",
        expect::state(a, &anew, "redis")?,
        ContainerState::ContainerRunning,
    )?;
    nothing_runs(a)?;
    let message = expect::failure("exec", expect::exec(a, &anew, "redis", &["true"]))?;
    expect::contains("message", &message, &["node-b"])?;
    expect::equal("Redis on B", answers(b, Some(&arrived)), true)
}

/// B opened the migration and died. When C asks, A asks B, and gives it up.
fn destination_that_died_before_the_freeze(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let (a, b) = (before.a, before.b);
    let c = testbed.node("c")?;
    b.arm_fault(FaultPoint::DestinationAfterCopy.name(), "kill")?;
    let arriving = before.pod.migrate_from(&a.address());
    std::thread::scope(|scope| -> Result<()> {
        let start = scope.spawn(|| b.run_pod_within(&arriving, Duration::ZERO));
        expect::soon("the end of B's daemon", 20, || {
            Ok(!b.fault_armed(FaultPoint::DestinationAfterCopy.name()))
        })?;
        b.stop_service("mycedrive")?;
        let moved = migrate(a, c, &before.pod)?;
        expect::soon("Redis on C", 5, || Ok(answers(c, Some(&moved))))?;
        b.start_service("mycedrive")?;
        // B learns that it has lost the pod to C, and says so to kubelet.
        let _ = start.join();
        expect::equal("Redis on C", answers(c, Some(&moved)), true)
    })?;
    end_client(before.client, true)
}

/// containerd is killed while the migration stands at `point`. kubelet's call on B fails with it;
/// kubelet looks at the container again, and the migration goes on or kubelet tries again.
fn containerd(testbed: &Testbed, side: &str, point: FaultPoint) -> Result<()> {
    let before = moment::before(testbed)?;
    let (a, b) = (before.a, before.b);
    let node = testbed.node(side)?;
    let arriving = before.pod.migrate_from(&a.address());
    let mut running = b.run_sandbox(&arriving)?;
    let container = arriving.containers()[0].clone();
    b.arm_fault(point.name(), "pause")?;
    let started = std::thread::scope(|scope| -> Result<_> {
        let start = scope.spawn(|| {
            let result = b.start_container(&mut running, &container, 0);
            (result, running)
        });
        expect::soon(point.name(), 30, || Ok(b.fault_reached(point.name())))?;
        node.kill_service("containerd")?;
        node.start_service("containerd")?;
        node.wait_ready()?;
        if side == "b" {
            is_not_a_leftover(b)?;
        }
        b.disarm_faults()?;
        start
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that starts the container panicked"))
    })?;
    let (result, mut running) = started;
    if side == "a" {
        result?;
    } else {
        ensure!(result.is_err(), "a call outlived containerd");
        as_kubelet_does(&before, &mut running)?;
        // A container that waits for its migration counts as running for a new containerd.
        expect::soon("Redis on B", 30, || Ok(answers(b, Some(&running))))?;
    }
    let outcome = settled(testbed, &before, Some(&running))?;
    end_client(before.client, true)?;
    expect::equal("outcome", outcome, Outcome::Completed)
}

/// The container that waits was found again by the new containerd.
fn is_not_a_leftover(node: &Node) -> Result<()> {
    let tasks = node.sh("ctr --namespace k8s.io tasks list --quiet | wc -l")?;
    expect::equal("tasks on B (sandbox and container)", tasks.as_str(), "2")
}

/// kubelet looks at the container whose start failed: one that runs is left alone, another one is
/// made in the place of one that does not.
fn as_kubelet_does(before: &Before<'_>, running: &mut RunningPod) -> Result<()> {
    let (b, container) = (before.b, before.pod.containers()[0].clone());
    let mut attempt = 1;
    expect::soon("a running container on B", 30, || {
        if expect::state(b, running, "redis")? == ContainerState::ContainerRunning {
            return Ok(true);
        }
        b.cri()?.remove_container(running.id("redis"))?;
        let started = b.start_container(running, &container, attempt);
        attempt += 1;
        Ok(started.is_ok())
    })
}
