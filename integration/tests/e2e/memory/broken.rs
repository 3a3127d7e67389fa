//! A round of memory that is cut short: the pod goes on where it is, and moves at a later try.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};

use super::{GRACE, nothing_left};
use crate::expect;
use crate::migration::{client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};

/// Of memory that does not compress; some ten seconds at [`BANDWIDTH`].
const MEGABYTES: u64 = 40;
const BANDWIDTH: &str = "4MB/s";

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("memory::broken::daemons", daemons),
        Scenario::new("memory::broken::link", link),
        Scenario::new("memory::broken::shim_of_the_destination", shim_of_b),
        Scenario::new("memory::broken::shim_of_the_source", shim_of_a),
    ]
}

/// Kills something while the first round is under way.
type Breaks<'a> = &'a (dyn Fn(&Node, &Node) -> Result<()> + Sync);

/// Breaks a move in its round, then moves. The client of the pod notices nothing of the former.
fn moves_later(testbed: &Testbed, breaks: Breaks<'_>) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    redis::fill(a, &source, MEGABYTES)?;
    let client = client(outside, &source.ip)?;
    let destination = match broken(a, b, &pod, breaks)? {
        Some(arrived) => arrived,
        // kubelet's next pod.
        None => migrate(a, b, &pod)?,
    };
    finish(client)?;
    a.stop_pod(&source, GRACE)?;
    b.stop_pod(&destination, GRACE)?;
    nothing_left(&[a, b])
}

/// A move over a slow link that is broken in its round. The pod, if it arrived nevertheless.
fn broken(a: &Node, b: &Node, pod: &Pod, breaks: Breaks<'_>) -> Result<Option<RunningPod>> {
    let slow = pod.clone().annotation("mycedrive.io/bandwidth", BANDWIDTH);
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| migrate(a, b, &slow));
        expect::soon("a round of memory", 20, || in_a_round(b))?;
        breaks(a, b)?;
        let moved = moving.join();
        let moved = moved.map_err(|_| anyhow::anyhow!("the move panicked"))?;
        Ok(moved.ok())
    })
}

/// Whether a tenth or so of the memory has come in a round that goes on.
fn in_a_round(node: &Node) -> Result<bool> {
    let text = node.sh("mycedrive migrations --json")?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    let newest = &all[0];
    Ok(newest["phase"] == "copying" && newest["round_done"].as_u64().unwrap_or(0) > 4_000_000)
}

fn daemons(testbed: &Testbed) -> Result<()> {
    moves_later(testbed, &|a, b| {
        for node in [b, a] {
            node.sh("pkill -KILL -x mycedrive")?;
            node.start_service("mycedrive")?;
            sleep(Duration::from_secs(2));
        }
        Ok(())
    })
}

fn link(testbed: &Testbed) -> Result<()> {
    moves_later(testbed, &|_, b| {
        b.set_link(false)?;
        // Both ends notice after 15 s.
        sleep(Duration::from_secs(20));
        Ok(b.set_link(true)?)
    })
}

const KILL_SHIM: &str = "pkill -KILL -f '^[^ ]*containerd-shim-mycedrive-v2 '";

fn shim_of_b(testbed: &Testbed) -> Result<()> {
    moves_later(testbed, &|_, b| Ok(b.sh(KILL_SHIM).map(drop)?))
}

/// The pod ends with its shim, as under containerd's own; the other node has nothing of it.
fn shim_of_a(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    redis::fill(a, &source, MEGABYTES)?;
    let arrived = broken(a, b, &pod, &|a, _| Ok(a.sh(KILL_SHIM).map(drop)?))?;
    ensure!(arrived.is_none(), "the pod arrived");
    expect::soon("the end of the pod", 10, || {
        Ok(a.sh("pgrep -x redis-server").is_err())
    })?;
    let doubled = b.sh("pgrep -x redis-server");
    ensure!(doubled.is_err(), "Redis runs on b");
    drop(source);
    nothing_left(&[a, b])
}
