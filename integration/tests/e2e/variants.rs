//! Nodes that are made in another way: with other clocks, with an older containerd.

use std::fs;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Containerd, Node, Pod, RunningPod, Testbed, TestbedOptions};

use crate::expect;
use crate::migration::{client, finish, migrate};
use crate::runtime;
use crate::world::{Scenario, need_daemon};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("variants::clocks", clocks),
        Scenario::new("variants::containerd_1_7", containerd_1_7),
    ]
}

/// Watches three clocks. Writes how many steps it made, the smallest step of the first two, the largest by
/// which one of them was ahead of the third, and what the first two say.
const CLOCKS: &str = "
import os, time
clocks = time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_REALTIME
read = lambda: [time.clock_gettime(clock) for clock in clocks]
last, least, ahead, count = read(), 1e9, -1e9, 0
while True:
    time.sleep(0.02)
    now = read()
    monotonic, boot, real = [b - a for a, b in zip(last, now)]
    least, ahead = min(least, monotonic, boot), max(ahead, monotonic - real, boot - real)
    last, count = now, count + 1
    with open('/tmp/new', 'w') as out: print(count, least, ahead, now[0], now[1], file=out)
    os.rename('/tmp/new', '/tmp/clocks')
";

struct Clocks {
    count: u64,
    least: f64,
    ahead: f64,
    monotonic: f64,
    boot: f64,
}

impl Clocks {
    fn of(node: &Node, pod: &RunningPod) -> Result<Self> {
        let text = expect::exec(node, pod, "main", &["cat", "/tmp/clocks"])?;
        let words: Vec<f64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [count, least, ahead, monotonic, boot] = words[..] else {
            anyhow::bail!("`{text}` is not what the program writes");
        };
        Ok(Self {
            count: count as u64,
            least,
            ahead,
            monotonic,
            boot,
        })
    }
}

/// Seconds since the boot, as a node's own processes see it.
fn uptime(node: &Node) -> Result<f64> {
    node.sh("cut -d ' ' -f 1 /proc/uptime")?
        .parse()
        .context("uptime")
}

/// The source's clocks are far ahead of the destination's, and far behind: a container's clocks go on
/// where they were. (CRIU stops them from the dump to the restore.)
fn clocks(shared: &Testbed) -> Result<()> {
    /// More than any stall of a busy machine, less than the clocks differ.
    const TOLERANCE: f64 = 60.0;
    const AHEAD: i64 = 100_000;
    need_daemon(shared)?;
    let up: f64 = fs::read_to_string("/proc/uptime")?
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .context("/proc/uptime")?;
    let behind = (up / 2.0) as i64;
    ensure!(behind as f64 > TOLERANCE, "the machine has just booted");
    let testbed = Testbed::start(&TestbedOptions {
        name: format!("{}-clocks", shared.name()),
        nodes: 3,
        client: false,
        clock_offsets: vec![AHEAD, 0, -behind],
        ..TestbedOptions::default()
    })?;
    let b = testbed.node("b")?;
    for (source, offset) in [("a", AHEAD), ("c", -behind)] {
        let source = testbed.node(source)?;
        let offset = offset as f64;
        let pod =
            Pod::new("shop", "clocks").container("main", "python", &["python3", "-c", CLOCKS]);
        let running = source.run_pod(&pod)?;
        expect::soon(
            "the clocks",
            20,
            || Ok(Clocks::of(source, &running).is_ok()),
        )?;
        let before = Clocks::of(source, &running)?;
        ensure!(
            (uptime(source)? - uptime(b)? - offset).abs() < TOLERANCE
                && (before.boot - uptime(source)?).abs() < TOLERANCE,
            "the nodes' clocks do not differ as they should"
        );
        let arrived = migrate(source, b, &pod)?;
        let mut after = Clocks::of(b, &arrived)?;
        expect::soon("further steps on B", 20, || {
            after = Clocks::of(b, &arrived)?;
            Ok(after.count > before.count + 20)
        })?;
        ensure!(
            after.least >= 0.0,
            "a clock went back by {} s",
            -after.least
        );
        ensure!(
            after.ahead < TOLERANCE,
            "a clock jumped by {} s",
            after.ahead
        );
        ensure!(
            after.monotonic > before.monotonic && after.boot > before.boot,
            "a clock went back"
        );
        // Its own, not the node's.
        let difference = after.boot - uptime(b)?;
        ensure!(
            (difference - offset).abs() < TOLERANCE,
            "the boot clock is {difference} s ahead of B's, not {offset} s"
        );
        b.remove_pod(&arrived)?;
        source.remove_pod(&running)?;
    }
    Ok(())
}

/// What containerd 1.7 could do differently from 2.x. `MYCEDRIVE_E2E_CONTAINERD=1.7` runs all scenarios
/// over it.
fn containerd_1_7(shared: &Testbed) -> Result<()> {
    need_daemon(shared)?;
    let testbed = Testbed::start(&TestbedOptions {
        name: format!("{}-17", shared.name()),
        containerd: Containerd::V1_7,
        ..TestbedOptions::default()
    })?;
    let a = testbed.node("a")?;
    expect::contains("version", &a.cri()?.version()?.runtime_version, &["1.7."])?;
    for body in [runtime::life_cycle, runtime::exec, runtime::terminal] {
        body(a, "mycedrive")?;
        a.remove_all_pods()?;
    }
    let b = testbed.node("b")?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    let client = client(testbed.node("client")?, &source.ip)?;
    migrate(a, b, &pod)?;
    finish(client).map(drop)
}
