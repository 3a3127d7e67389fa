//! Does something at a certain moment of a migration.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};

use super::outcome::answers;
use crate::engine::{ANNOTATION, carried, need};
use crate::expect;
use crate::migration::client;
use crate::world::{need_daemon, three};

/// A pod with a client, before it moves from A to B.
pub struct Before<'a> {
    pub a: &'a Node,
    pub b: &'a Node,
    pub pod: Pod,
    pub source: RunningPod,
    pub client: Client,
    /// The counter is at least this.
    pub counter: u64,
}

/// Redis on A, and a client on the third node.
pub fn before(testbed: &Testbed) -> Result<Before<'_>> {
    of(testbed, redis::pod("redis-0", "mycedrive"))
}

/// The same under DMTCP.
pub fn before_under_dmtcp(testbed: &Testbed) -> Result<Before<'_>> {
    need(three(testbed)?.0, "dmtcp")?;
    let pod = redis::pod("redis-0", "mycedrive").annotation(ANNOTATION, "dmtcp");
    let before = of(testbed, pod)?;
    ensure!(!carried(before.a)?.is_empty(), "Redis is not under DMTCP");
    Ok(before)
}

fn of(testbed: &Testbed, pod: Pod) -> Result<Before<'_>> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let source = a.run_pod(&pod)?;
    expect::soon("an answer of Redis", 10, || Ok(answers(a, Some(&source))))?;
    let counter = expect::exec(
        a,
        &source,
        "redis",
        &["redis-cli", "incrby", "counter", "41"],
    )?;
    let client = client(outside, &source.ip)?;
    Ok(Before {
        a,
        b,
        pod,
        source,
        client,
        counter: counter.parse()?,
    })
}

/// Starts the pod on B, as kubelet would for at most `time`, and does something when `side` has
/// come to `point`. The migration waits there meanwhile. Answers with how the start ended.
pub fn at(
    before: &Before<'_>,
    side: &Node,
    point: FaultPoint,
    time: Duration,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<mycedrive_integration::Result<RunningPod>> {
    let arriving = before.pod.migrate_from(&before.a.address());
    side.arm_fault(point.name(), "pause")?;
    std::thread::scope(|scope| {
        let start = scope.spawn(|| before.b.run_pod_within(&arriving, time));
        let reached = expect::soon(point.name(), 30, || Ok(side.fault_reached(point.name())));
        let done = reached.and_then(|()| meanwhile());
        let released = side.disarm_faults();
        let started = start
            .join()
            .map_err(|_| anyhow!("the thread that starts the pod panicked"))?;
        done?;
        released?;
        Ok(started)
    })
}
