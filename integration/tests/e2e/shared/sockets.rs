//! Unix sockets that connect two containers of a pod.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::leftovers;
use mycedrive_integration::{Container, Node, Pod, RunningPod, Testbed};

use crate::expect;
use crate::migration::migrate;
use crate::volumes::{empty_dir, fresh};
use crate::world::{Scenario, need_daemon, three};

const PAIR: &str = include_str!("pair.py");
const GRACE: Duration = Duration::from_secs(1);
const FOLDER: &str = "/shared";
/// Who sends, and over which kind of socket.
const CHANNELS: [&str; 7] = [
    "client-datagram",
    "client-log",
    "client-packet",
    "client-stream",
    "server-datagram",
    "server-packet",
    "server-stream",
];
/// Those whose queue has room for hundreds of messages.
const LONG_QUEUES: [&str; 5] = [
    "client-packet",
    "client-stream",
    "server-datagram",
    "server-packet",
    "server-stream",
];

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("shared::sockets::there_and_back", there_and_back),
        Scenario::new("shared::sockets::rollback", rollback),
        Scenario::new("shared::sockets::shim_killed", shim_killed),
        Scenario::new("shared::sockets::archive", archive),
        Scenario::new("shared::sockets::outside", outside),
        Scenario::new("shared::sockets::not_accepted", not_accepted),
        Scenario::new("shared::sockets::descriptor_in_message", descriptor),
        Scenario::new("shared::sockets::one_container", one_container),
    ]
}

/// The client has a user of its own.
fn pair(volume: &str) -> Pod {
    pair_of(volume, 1000)
}

fn pair_of(volume: &str, client: i64) -> Pod {
    let container = |role: &str, user: i64| {
        Container::new(role, "python", &["python3", "-c", PAIR, role, FOLDER])
            .mount(volume, FOLDER, false)
            .user(user)
    };
    Pod::new("shop", "pair")
        .with(container("server", 0))
        .with(container("client", client))
}

/// What both have counted, and seen of their peers.
fn state(node: &Node, pod: &RunningPod) -> Result<BTreeMap<String, String>> {
    let text = expect::exec(
        node,
        pod,
        "server",
        &["cat", "/dev/shm/server", "/dev/shm/client"],
    )?;
    Ok(text
        .split_whitespace()
        .filter_map(|one| one.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

fn number(state: &BTreeMap<String, String>, channel: &str, what: &str) -> u64 {
    let found = state.get(&format!("{channel}-{what}"));
    found.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// All channels bring more than in `before`; answers with what was brought.
fn goes_on(
    node: &Node,
    pod: &RunningPod,
    before: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let (mut now, mut problem) = (BTreeMap::new(), String::new());
    let went_on = expect::soon("more messages on each channel", 15, || {
        // Before both have begun there is nothing to read.
        now = match state(node, pod) {
            Ok(now) => now,
            Err(error) => {
                problem = format!("{error:#}");
                BTreeMap::new()
            }
        };
        Ok(CHANNELS
            .iter()
            .all(|channel| number(&now, channel, "got") > number(before, channel, "got") + 20))
    });
    went_on.with_context(|| {
        let said = node
            .sh("tail -qn 3 /var/log/pods/shop_pair*/*/*")
            .unwrap_or_default();
        format!("before: {before:?}; now: {now:?}; {problem}; the programs: {said}")
    })?;
    ensure!(!now.keys().any(|name| name.ends_with("-bad")), "{now:?}");
    for (who, other) in [("client", "server"), ("server", "client")] {
        for kind in ["stream", "packet"] {
            let seen = now.get(&format!("{who}-{kind}-peer"));
            expect::equal("the peer", seen, now.get(&format!("{other}-ids")))?;
        }
    }
    Ok(now)
}

/// Runs the pod; there is much in the queues of both sides.
fn running(node: &Node, pod: &Pod) -> Result<(RunningPod, BTreeMap<String, String>)> {
    let running = node.run_pod(pod)?;
    let mut now = goes_on(node, &running, &BTreeMap::new())?;
    let unread = expect::soon("queues with something in them", 15, || {
        now = state(node, &running)?;
        Ok(LONG_QUEUES
            .iter()
            .all(|channel| number(&now, channel, "sent") > number(&now, channel, "got") + 20))
    });
    unread.with_context(|| format!("{now:?}"))?;
    Ok((running, now))
}

/// No container has ended, which it would at a message that is not the next one.
fn both_run(node: &Node, pod: &RunningPod) -> Result<()> {
    for container in ["server", "client"] {
        expect::exec(node, pod, container, &["true"])?;
    }
    Ok(())
}

fn there_and_back(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("pair");
    fresh(&[a, b], &volume)?;
    let left = [leftovers::of(a)?, leftovers::of(b)?];
    let pod = pair(&volume);
    let (first, before) = running(a, &pod)?;
    let second = migrate(a, b, &pod)?;
    let middle = goes_on(b, &second, &before)?;
    a.stop_pod(&first, GRACE)?;
    let third = migrate(b, a, &pod)?;
    goes_on(a, &third, &middle)?;
    both_run(a, &third)?;
    b.stop_pod(&second, GRACE)?;
    a.stop_pod(&third, GRACE)?;
    for (node, before) in [(a, &left[0]), (b, &left[1])] {
        let left = leftovers::since(node, before)?;
        ensure!(left.is_empty(), "left on {}: {left:?}", node.name());
    }
    Ok(())
}

/// The restore fails on B; the connections go on on A, and move later.
fn rollback(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("pair-back");
    fresh(&[a, b], &volume)?;
    let pod = pair(&volume);
    let (source, mut before) = running(a, &pod)?;
    for point in [
        FaultPoint::ShimDestinationDuringRestore,
        FaultPoint::ShimDestinationAfterRestore,
    ] {
        b.arm_fault(point.name(), "error-once")?;
        let arriving = pod.migrate_from(&a.address());
        let failed = expect::failure("the move", b.run_pod_within(&arriving, Duration::ZERO))?;
        expect::contains("message", &failed, &[point.name()])?;
        before = goes_on(a, &source, &before)?;
    }
    b.remove_all_pods()?;
    // kubelet starts only that container again whose start failed; the other one waits.
    let point = FaultPoint::ShimDestinationDuringRestore.name();
    b.arm_fault(point, "error-once")?;
    let there = migrate(a, b, &pod)?;
    ensure!(!b.fault_armed(point), "the first restore did not fail");
    goes_on(b, &there, &before)?;
    both_run(b, &there)
}

/// The daemon dumps what a dead shim left frozen.
fn shim_killed(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("pair-left");
    fresh(&[a, b], &volume)?;
    // The testbed lets a daemon's CRIU read the limits of root's processes only.
    let pod = pair_of(&volume, 0);
    let (_, before) = running(a, &pod)?;
    a.arm_fault(FaultPoint::ShimSourceBeforeDump.name(), "kill")?;
    let arriving = pod.migrate_from(&a.address());
    expect::failure("the move", b.run_pod_within(&arriving, Duration::ZERO))?;
    ensure!(
        !a.fault_armed(FaultPoint::ShimSourceBeforeDump.name()),
        "the shim was not killed"
    );
    expect::soon("the parked pod", 20, || {
        Ok(a.sh("mycedrive ps --json")?.contains("\"parked\""))
    })?;
    b.remove_all_pods()?;
    let there = migrate(a, b, &pod)?;
    goes_on(b, &there, &before)?;
    both_run(b, &there)
}

/// A pod in a file.
fn archive(testbed: &Testbed) -> Result<()> {
    const FILE: &str = "/srv/pair.myce";
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("pair-file");
    fresh(&[a, b], &volume)?;
    let pod = pair(&volume);
    let (source, before) = running(a, &pod)?;
    a.sh(&format!(
        "rm -f {FILE}; mycedrive checkpoint shop/pair --output {FILE} --hold"
    ))?;
    a.stop_pod(&source, GRACE)?;
    std::fs::copy(a.path(FILE), b.path(FILE))?;
    b.sh(&format!(
        "rm -rf /var/lib/mycedrive/archives; mycedrive restore {FILE}"
    ))?;
    let there = b.run_pod(
        &pod.clone()
            .annotation("mycedrive.io/restore-from", "pair.myce"),
    )?;
    goes_on(b, &there, &before)?;
    both_run(b, &there)
}

/// The pod goes on, and nothing of it was touched.
fn refused(testbed: &Testbed, pod: &Pod, parts: &[&str]) -> Result<()> {
    let (a, b, _) = three(testbed)?;
    let source = a.run_pod(pod)?;
    for container in pod.containers() {
        expect::soon("the program", 10, || {
            let done = a.exec_in(&source, container.name(), &["test", "-e", "/tmp/ready"])?;
            Ok(done.code == 0)
        })?;
    }
    let arriving = pod.migrate_from(&a.address());
    let message = expect::failure("the move", b.run_pod_within(&arriving, Duration::ZERO))?;
    expect::contains("message", &message, parts)?;
    for container in pod.containers() {
        expect::exec(a, &source, container.name(), &["true"])?;
    }
    Ok(())
}

fn python(name: &str, program: &str) -> Container {
    let program = format!(
        "import os, socket, time\ndef dial(kind, path):\n while True:\n  try:\n   \
         s = socket.socket(socket.AF_UNIX, kind); s.connect(path); return s\n  \
         except OSError: time.sleep(0.1)\n{program}\nopen('/tmp/ready', 'w').close()\n\
         while True: time.sleep(1000)"
    );
    Container::new(name, "python", &["python3", "-c", &program])
}

/// A connection to a program of the node.
fn outside(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let client = python(
        "client",
        "s = dial(socket.SOCK_STREAM, '/host/containerd.sock')",
    );
    let pod = Pod::new("shop", "outside").with(client.mount("/run/containerd", "/host", true));
    let parts = [
        "container client",
        "/containerd.sock",
        "no process of the pod",
    ];
    refused(testbed, &pod, &parts)?;
    // Said before anybody asks for a move.
    let (a, ..) = three(testbed)?;
    let shown = a.sh("mycedrive ps --json")?;
    expect::contains("ps", &shown, &["/containerd.sock"])
}

fn two(volume: &str, server: &str, client: &str) -> Pod {
    Pod::new("shop", "two")
        .with(python("server", server).mount(volume, FOLDER, false))
        .with(python("client", client).mount(volume, FOLDER, false))
}

fn not_accepted(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("not-accepted");
    fresh(&[a, b], &volume)?;
    let pod = two(
        &volume,
        "s = socket.socket(socket.AF_UNIX); s.bind('/shared/s'); s.listen()",
        "s = dial(socket.SOCK_STREAM, '/shared/s')",
    );
    let parts = [
        "container server",
        "container client",
        "/shared/s",
        "not accepted",
    ];
    refused(testbed, &pod, &parts)
}

fn descriptor(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("descriptor");
    fresh(&[a, b], &volume)?;
    let pod = two(
        &volume,
        "s = socket.socket(socket.AF_UNIX); s.bind('/shared/s'); s.listen(); c, _ = s.accept()",
        "s = dial(socket.SOCK_STREAM, '/shared/s'); socket.send_fds(s, [b'x'], [0])",
    );
    refused(
        testbed,
        &pod,
        &["container server", "/shared/s", "descriptors"],
    )
}

/// A checkpoint of a single container.
fn one_container(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, ..) = three(testbed)?;
    let volume = empty_dir("pair-one");
    fresh(&[a], &volume)?;
    let (pod, before) = running(a, &pair(&volume))?;
    let asked = a
        .cri()?
        .checkpoint_container(pod.id("client"), "/srv/one.tar");
    let message = expect::failure("the checkpoint", asked)?;
    expect::contains("message", &message, &["container client", "one container"])?;
    goes_on(a, &pod, &before).map(drop)
}
