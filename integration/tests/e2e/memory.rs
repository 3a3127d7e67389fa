//! Memory that is sent in rounds before the freeze.

mod broken;
mod image;
mod place;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Container, Node, Pod, RunningPod, Testbed};

use crate::migration::{client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};
use crate::{engine, expect};

pub fn all() -> Vec<Scenario> {
    let mut all = broken::all();
    all.extend(image::all());
    all.extend(place::all());
    all.extend([
        Scenario::new(
            "memory::the_freeze_carries_changes",
            the_freeze_carries_changes,
        ),
        Scenario::new("memory::under_dmtcp", under_dmtcp),
        Scenario::new("memory::written_all_the_time", written_all_the_time),
        Scenario::new("memory::without_room_for_rounds", without_room_for_rounds),
    ]);
    all
}

const GRACE: Duration = Duration::from_secs(1);
const WRITER: &str = include_str!("memory/writer.py");

/// Details of the newest migration's events with this name at a node.
fn events(node: &Node, name: &str) -> Result<Vec<String>> {
    let text = node.sh("mycedrive migrations --json")?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    let events = all[0]["events"].as_array().context("events")?;
    let named = events.iter().filter(|event| event["name"] == name);
    Ok(named
        .map(|event| event["detail"].as_str().unwrap_or_default().to_owned())
        .collect())
}

/// Mebibytes of the memory images in the freeze.
fn in_the_freeze(node: &Node) -> Result<f64> {
    let transferred = events(node, "transferred")?;
    let text = transferred.first().context("nothing was transferred")?;
    let mut words = text.split(' ');
    let number: f64 = words.next().unwrap_or_default().parse()?;
    Ok(number
        * match words.next() {
            Some("B") => 1.0 / f64::from(1 << 20),
            Some("KiB") => 1.0 / 1024.0,
            Some("MiB") => 1.0,
            other => anyhow::bail!("unit {other:?} in {text}"),
        })
}

fn the_freeze_carries_changes(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    carries_changes(testbed, "criu")
}

/// The images of DMTCP hold the libraries as well, and say nowhere which page is which.
fn under_dmtcp(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, ..) = three(testbed)?;
    engine::need(a, "dmtcp")?;
    carries_changes(testbed, "dmtcp")
}

/// There and back, with a client. Values are compared by Redis itself.
fn carries_changes(testbed: &Testbed, engine: &str) -> Result<()> {
    let (a, b, outside) = three(testbed)?;
    let args = ["redis-server", "--protected-mode", "no", "--save", ""];
    let args = [&args[..], &["--enable-debug-command", "yes"]].concat();
    let pod = Pod::new("shop", "redis-0")
        .with(Container::new("redis", "redis", &args))
        .annotation(engine::ANNOTATION, engine);
    let mut source = a.run_pod(&pod)?;
    let address = source.ip.clone();
    redis::fill(a, &source, 40)?;
    let keys = || -> Result<Vec<String>> {
        let all = a.sh(&format!("redis-cli -h {address} keys '*'"))?;
        Ok(all
            .lines()
            .filter(|key| *key != "counter")
            .map(str::to_owned)
            .collect())
    };
    let keys = keys()?;
    let values = |node: &Node, pod: &RunningPod| -> Result<String> {
        let mut command = vec!["redis-cli", "debug", "digest-value"];
        command.extend(keys.iter().map(String::as_str));
        expect::exec(node, pod, "redis", &command)
    };
    let before = values(a, &source)?;
    ensure!(before.lines().count() > 100, "{before}");
    let mut at = a;
    for to in [b, a] {
        let client = client(outside, &source.ip)?;
        let destination = migrate(at, to, &pod)?;
        finish(client)?;
        let memory = in_the_freeze(to)?;
        ensure!(memory < 20.0, "{memory} MiB went in the freeze");
        let rounds = events(to, "round")?;
        ensure!(
            rounds
                .iter()
                .any(|round| !round.contains(" 0 B of 0 B memory")),
            "no memory in {rounds:?}"
        );
        ensure!(values(to, &destination)? == before, "values differ");
        at.stop_pod(&source, GRACE)?;
        (source, at) = (destination, to);
    }
    at.stop_pod(&source, GRACE)?;
    nothing_left(&[a, b])
}

fn nothing_left(nodes: &[&Node]) -> Result<()> {
    for node in nodes {
        let left = node.sh("ls /run/mycedrive/images 2>/dev/null || true")?;
        ensure!(left.is_empty(), "left on {}: {left}", node.name());
    }
    Ok(())
}

/// Several processes; pages that come, change and go while rounds run.
fn written_all_the_time(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = Pod::new("shop", "writer").container("main", "python", &["python3", "-c", WRITER]);
    let mut source = a.run_pod(&pod)?;
    let mut at = a;
    for to in [b, a] {
        compared(at, &source)?;
        let destination = migrate(at, to, &pod)?;
        at.stop_pod(&source, GRACE)?;
        (source, at) = (destination, to);
    }
    compared(at, &source)?;
    at.stop_pod(&source, GRACE)?;
    Ok(())
}

/// Waits until each process has compared its memory twice from now on.
fn compared(node: &Node, pod: &RunningPod) -> Result<()> {
    let read = || -> Result<Vec<u64>> {
        let names = ["/tmp/parent", "/tmp/first", "/tmp/second"];
        let command = [&["cat"][..], &names].concat();
        let text = expect::exec(node, pod, "main", &[&command[..]].concat())?;
        text.split_whitespace()
            .map(|number| number.parse().with_context(|| text.clone()))
            .collect()
    };
    expect::soon("the writers", 10, || Ok(read().is_ok()))?;
    let begin = read()?;
    expect::soon("two comparisons of each writer", 30, || {
        sleep(Duration::from_millis(100));
        let now = read()?;
        Ok(now
            .iter()
            .zip(&begin)
            .all(|(now, begin)| now >= &(begin + 2)))
    })
}

/// Where memory cannot be kept twice it comes in the freeze, and the pod moves nevertheless.
fn without_room_for_rounds(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    redis::fill(a, &source, 30)?;
    let client = client(outside, &source.ip)?;
    b.sh("mount -t tmpfs -o size=90m none /run/mycedrive/images")?;
    let moved = migrate(a, b, &pod).and_then(|destination| {
        let memory = in_the_freeze(b)?;
        ensure!(memory > 30.0, "only {memory} MiB went in the freeze");
        Ok(destination)
    });
    b.sh("umount /run/mycedrive/images")?;
    let destination = moved?;
    finish(client)?;
    a.stop_pod(&source, GRACE)?;
    b.stop_pod(&destination, GRACE)?;
    Ok(())
}
