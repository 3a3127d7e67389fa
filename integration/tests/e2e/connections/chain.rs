//! Moves in a row while the connections to earlier addresses live.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::workload::{leftovers, redis};
use mycedrive_integration::{Node, RunningPod, Testbed};

use super::{address, all_clean, counter};
use crate::expect;
use crate::migration::{client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};

const GRACE: Duration = Duration::from_secs(1);

pub fn all() -> Vec<Scenario> {
    let mut all = vec![
        Scenario::new(
            "connections::there_and_back_and_further",
            there_and_back_and_further,
        ),
        Scenario::new("connections::an_old_pod_goes", an_old_pod_goes),
        Scenario::new("connections::the_node_between_dies", the_node_between_dies),
        Scenario::new("connections::a_failed_second_move", a_failed_second_move),
        Scenario::new("connections::chain_leaves_nothing", chain_leaves_nothing),
    ];
    for (name, path) in [
        ("abc", &["a", "b", "c"][..]),
        ("aba", &["a", "b", "a"]),
        ("abcab", &["a", "b", "c", "a", "b"]),
    ] {
        for version in [4, 6] {
            let name = format!("connections::chain_{name}_ipv{version}");
            all.push(Scenario::new(name, move |testbed| {
                over_all_moves(testbed, path, version).map(drop)
            }));
        }
    }
    all
}

/// A to B, back to A, on to C, with a client of its own for each address; old pods go each time.
fn there_and_back_and_further(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let c = testbed.node("c")?;
    let pod = redis::pod("redis-0", "mycedrive");
    let mut here = a.run_pod(&pod)?;
    let mut last = 0;
    for (from, to) in [(a, b), (b, a), (a, c)] {
        let client = client(outside, &here.ip)?;
        let there = migrate(from, to, &pod)?;
        let value = finish(client)?;
        ensure!(value > last, "the counter went back from {last} to {value}");
        last = value;
        from.stop_pod(&here, GRACE)?;
        here = there;
    }
    let counter = expect::exec(c, &here, "redis", &["redis-cli", "get", "counter"])?;
    expect::equal("counter", counter, last.to_string())
}

/// A pod that moved, with its old pods and a client for each of their addresses.
struct Chain<'a> {
    pods: Vec<(&'a Node, RunningPod)>,
    clients: Vec<Client>,
}

/// Each stop gets a client that stays.
fn move_along<'a>(testbed: &'a Testbed, path: &[&str], version: u8) -> Result<Chain<'a>> {
    need_daemon(testbed)?;
    let outside = testbed.node("client")?;
    let pod = redis::pod("redis-0", "mycedrive");
    let first = testbed.node(path[0])?;
    let mut here = first.run_pod(&pod)?;
    client(outside, &here.ip).and_then(finish)?;
    let mut chain = Chain {
        pods: Vec::new(),
        clients: vec![counter(outside, address(&here, version)?, "at-0")?],
    };
    for (number, pair) in path.windows(2).enumerate() {
        let (from, to) = (testbed.node(pair[0])?, testbed.node(pair[1])?);
        std::thread::sleep(Duration::from_millis(300));
        let there = migrate(from, to, &pod).with_context(|| format!("move {}", number + 1))?;
        let client = counter(
            outside,
            address(&there, version)?,
            &format!("at-{}", number + 1),
        )?;
        chain.clients.push(client);
        chain.pods.push((from, std::mem::replace(&mut here, there)));
    }
    let last = testbed.node(path[path.len() - 1])?;
    chain.pods.push((last, here));
    std::thread::sleep(Duration::from_millis(500));
    Ok(chain)
}

fn over_all_moves<'a>(testbed: &'a Testbed, path: &[&str], version: u8) -> Result<Chain<'a>> {
    let mut chain = move_along(testbed, path, version)?;
    all_clean(std::mem::take(&mut chain.clients))?;
    Ok(chain)
}

/// Connections at an address, as Redis sees them.
fn connections(node: &Node, pod: &RunningPod, address: &str) -> Result<usize> {
    let list = expect::exec(node, pod, "redis", &["redis-cli", "client", "list"])?;
    Ok(list
        .lines()
        .filter(|line| line.contains(&format!("laddr={address}:")))
        .count())
}

/// A to B to C; the pod on A goes: its connections end in the program, those to B's go on. Then
/// the pod on B.
fn an_old_pod_goes(testbed: &Testbed) -> Result<()> {
    let mut chain = move_along(testbed, &["a", "b", "c"], 4)?;
    let (node, here) = chain.pods.pop().context("no pod")?;
    let (b, on_b) = chain.pods.pop().context("no pod")?;
    let (a, on_a) = chain.pods.pop().context("no pod")?;
    let mut clients = chain.clients.into_iter();
    let (first, second, third) = (clients.next(), clients.next(), clients.next());
    expect::equal("connections", connections(node, &here, &on_a.ip)?, 1)?;
    a.stop_pod(&on_a, GRACE)?;
    expect::soon("the end of the connection to A", 10, || {
        Ok(connections(node, &here, &on_a.ip)? == 0)
    })?;
    std::thread::sleep(Duration::from_millis(500));
    expect::equal("connections", connections(node, &here, &on_b.ip)?, 1)?;
    all_clean(second.into_iter().collect())?;
    b.stop_pod(&on_b, GRACE)?;
    all_clean(third.into_iter().collect())?;
    drop(first);
    // Nothing is left of both routes.
    expect::soon("the end of the routes", 10, || {
        let devices = node.sh(&format!(
            "for ns in /run/netns/*; do nsenter --net=$ns ip -o address; done | grep -E ' ({}|{})/' || true",
            on_a.ip, on_b.ip
        ))?;
        Ok(devices.is_empty())
    })
}

/// The pod goes on at C while B's daemon is away: A's packets do not pass through B.
fn the_node_between_dies(testbed: &Testbed) -> Result<()> {
    let mut chain = move_along(testbed, &["a", "b", "c"], 4)?;
    let b = testbed.node("b")?;
    b.set_link(false)?;
    std::thread::sleep(Duration::from_secs(2));
    let mut clients = chain.clients.drain(..);
    let first = clients.next().context("no client")?;
    let (_second, third) = (clients.next(), clients.next());
    finish(first)?;
    all_clean(third.into_iter().collect())?;
    b.set_link(true)?;
    Ok(())
}

/// The second move fails at its restore: the pod goes on at B, with the connections to both
/// addresses; then it works.
fn a_failed_second_move(testbed: &Testbed) -> Result<()> {
    let mut chain = move_along(testbed, &["a", "b"], 4)?;
    let (b, c) = (testbed.node("b")?, testbed.node("c")?);
    let pod = redis::pod("redis-0", "mycedrive");
    c.arm_fault("destination-after-restore", "error-once")?;
    let arrival = pod.migrate_from(&b.address());
    expect::failure("the arrival", c.run_pod_within(&arrival, Duration::ZERO))?;
    std::thread::sleep(Duration::from_millis(800));
    let (_, here) = &chain.pods[1];
    expect::equal(
        "pong",
        expect::exec(b, here, "redis", &["redis-cli", "ping"])?.as_str(),
        "PONG",
    )?;
    migrate(b, c, &pod)?;
    std::thread::sleep(Duration::from_millis(500));
    all_clean(std::mem::take(&mut chain.clients))
}

fn chain_leaves_nothing(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let before = testbed
        .workers()
        .map(leftovers::of)
        .collect::<mycedrive_integration::Result<Vec<_>>>()?;
    let chain = over_all_moves(testbed, &["a", "b", "c"], 4)?;
    for (node, pod) in &chain.pods {
        node.stop_pod(pod, GRACE)?;
    }
    for (node, before) in testbed.workers().zip(&before) {
        let left = leftovers::since(node, before)?;
        ensure!(left.is_empty(), "left on {}: {left:?}", node.name());
    }
    Ok(())
}
