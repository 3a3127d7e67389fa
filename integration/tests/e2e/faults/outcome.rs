//! Where a pod is once both sides have come to an end, and whether that is right.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::{Node, RunningPod, Testbed};

use super::moment::Before;
use crate::expect;
use crate::world::three;

/// The nodes have come to an end after this.
const SETTLED: Duration = Duration::from_secs(15);
/// A pod without a process for this long is not about to come back.
const GONE: Duration = Duration::from_secs(3);

/// Where the pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It runs on B.
    Completed,
    /// It runs on A.
    RolledBack,
    /// It is frozen on A until the two agree or a person decides.
    Held,
    /// It is an image on A, to be taken over.
    Parked,
    /// It has no process and no image: kubelet sees its containers end.
    Ended,
}

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Completed => "completed",
            Self::RolledBack => "rolled back",
            Self::Held => "held",
            Self::Parked => "parked",
            Self::Ended => "ended",
        })
    }
}

/// Redis answers.
pub fn answers(node: &Node, pod: Option<&RunningPod>) -> bool {
    pod.is_some_and(|pod| {
        node.exec_in(pod, "redis", &["redis-cli", "ping"])
            .is_ok_and(|done| done.stdout.trim() == "PONG")
    })
}

/// How many processes of Redis a node has, frozen ones as well.
fn processes(node: &Node) -> Result<usize> {
    Ok(node.sh("pgrep -x redis-server | wc -l")?.parse()?)
}

fn is_parked(node: &Node) -> bool {
    node.sh("mycedrive ps --json")
        .is_ok_and(|text| text.contains("\"parked\""))
}

fn is_held(node: &Node) -> bool {
    node.sh("mycedrive migrations --json")
        .is_ok_and(|text| text.contains("\"held\""))
}

/// Looks until the pod answers somewhere, or has no process anywhere, or the time is over.
pub fn settle(
    testbed: &Testbed,
    source: &RunningPod,
    arrived: Option<&RunningPod>,
) -> Result<Outcome> {
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
        let gone = processes(a)? == 0 && processes(b)? == 0;
        gone_since = if gone {
            gone_since.or_else(|| Some(Instant::now()))
        } else {
            None
        };
        if gone_since.is_some_and(|since| since.elapsed() > GONE) {
            return Ok(if is_parked(a) {
                Outcome::Parked
            } else {
                Outcome::Ended
            });
        }
        if Instant::now() > until {
            return Ok(Outcome::Held);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// [`settle`], and the counter where the pod is did not go back.
pub fn settled(
    testbed: &Testbed,
    before: &Before<'_>,
    arrived: Option<&RunningPod>,
) -> Result<Outcome> {
    let outcome = settle(testbed, &before.source, arrived)?;
    check(testbed, outcome, &before.source, arrived, before.counter)?;
    Ok(outcome)
}

/// The counter where the pod is did not go back. A held pod is resolved as a person would.
pub fn check(
    testbed: &Testbed,
    outcome: Outcome,
    source: &RunningPod,
    arrived: Option<&RunningPod>,
    before: u64,
) -> Result<()> {
    let (a, b, _) = three(testbed)?;
    let (node, pod) = match outcome {
        Outcome::RolledBack => (a, source),
        Outcome::Completed => (b, arrived.context("B runs a pod that was not started")?),
        Outcome::Held => {
            resolve(a, b, source)?;
            (a, source)
        }
        Outcome::Parked | Outcome::Ended => return Ok(()),
    };
    let counter: u64 = expect::exec(node, pod, "redis", &["redis-cli", "get", "counter"])?
        .parse()
        .unwrap_or(0);
    ensure!(
        counter >= before,
        "the counter went back from {before} to {counter}"
    );
    Ok(())
}

/// The side that knows that it cannot go on says that a person has to decide. The pod does not
/// run on B, so the person lets it go on on A.
fn resolve(a: &Node, b: &Node, source: &RunningPod) -> Result<()> {
    expect::soon("a side that says held", 10, || Ok(is_held(a) || is_held(b)))?;
    ensure!(processes(b)? == 0, "held, and processes are on B");
    let id = mycedrive_integration::workload::migrations::newest(a)?.id;
    a.sh(&format!("mycedrive resolve {id} --run-here"))?;
    expect::soon("the pod on A", 10, || Ok(answers(a, Some(source))))
}

/// Ends the client. It never saw the counter go back; and where the pod's processes went on, it
/// saw no error and kept its connection.
pub fn end_client(client: Client, undisturbed: bool) -> Result<()> {
    if undisturbed {
        return crate::migration::finish(client).map(drop);
    }
    let report = client.finish()?;
    ensure!(
        report.lost == 0,
        "the client saw {} lost writes",
        report.lost
    );
    Ok(())
}
