//! Connections that end at both sides: those of a pod that moves with `mycedrive.io/connections:
//! close`, and those that were kept, when the old pod is deleted.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};

use super::{address, in_network};
use crate::expect;
use crate::migration::migrate;
use crate::world::{Scenario, need_daemon, three};

const GRACE: Duration = Duration::from_secs(1);
const KEEP: &str = "mycedrive.io/connections";
/// A client waits this long for the end of its connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Echoes; a thread for each connection, which notes how it ended.
const SERVER: &str = "
import os, socket, threading
def serve(c, peer):
    try:
        while d := c.recv(100): c.sendall(d)
        how = 'end'
    except OSError as error:
        how = type(error).__name__
    with open('/dev/shm/ended', 'a') as out: out.write(how + '\\n')
s = socket.create_server(('::', 4000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, peer = s.accept()
    threading.Thread(target=serve, args=(c, peer), daemon=True).start()
";

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("connections::close_ipv4", |testbed| closes(testbed, 4)),
        Scenario::new("connections::close_ipv6", |testbed| closes(testbed, 6)),
        Scenario::new("connections::close_after_keep", closes_after_keep),
        Scenario::new("connections::close_with_old_pod_ipv4", |testbed| {
            closes_with_old_pod(testbed, 4, &["b"])
        }),
        Scenario::new("connections::close_with_old_pod_ipv6", |testbed| {
            closes_with_old_pod(testbed, 6, &["b"])
        }),
        Scenario::new("connections::close_with_first_pod", |testbed| {
            closes_with_old_pod(testbed, 4, &["b", "c"])
        }),
        Scenario::new("connections::old_pod_goes_source_hangs", |testbed| {
            old_pod_goes_although_one_hangs(testbed, "a")
        }),
        Scenario::new("connections::old_pod_goes_destination_hangs", |testbed| {
            old_pod_goes_although_one_hangs(testbed, "b")
        }),
        Scenario::new("connections::old_pod_goes_its_shim_dies", its_shim_dies),
    ]
}

fn pod() -> Pod {
    Pod::new("shop", "echo").container("main", "python", &["python3", "-c", SERVER])
}

fn connect(node: &Node, pod: &RunningPod, version: u8) -> Result<TcpStream> {
    let address = SocketAddr::new(address(pod, version)?, 4000);
    let mut stream = None;
    expect::soon("a connection", 10, || {
        stream = in_network(node, || Ok(TcpStream::connect(address).ok()))?;
        Ok(stream.is_some())
    })?;
    let mut stream = stream.context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    echo(&mut stream)?;
    Ok(stream)
}

fn echo(stream: &mut TcpStream) -> Result<()> {
    let mut bytes = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut bytes)?;
    ensure!(&bytes == b"hello", "the echo was {bytes:?}");
    Ok(())
}

/// The client hears of the end without saying anything.
fn was_reset(mut stream: TcpStream) -> Result<()> {
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => bail!("expected a reset, found {other:?}"),
    }
}

fn closes(testbed: &Testbed, version: u8) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let source = a.run_pod(&pod())?;
    let silent = connect(outside, &source, version)?;
    let on_the_source = connect(a, &source, version)?;
    let destination = migrate(a, b, &pod().annotation(KEEP, "close"))?;
    was_reset(silent).context("client on a third node")?;
    was_reset(on_the_source).context("client on the source")?;
    ended(b, &destination, 2)?;
    // The listening socket moved; the program serves, at its new address only.
    echo(&mut connect(outside, &destination, version)?)?;
    let old = SocketAddr::new(address(&source, version)?, 4000);
    let refused = in_network(outside, || Ok(TcpStream::connect(old)))?;
    let refused = refused.err().context("the old address still serves")?;
    expect::equal("error", refused.kind(), ErrorKind::ConnectionRefused)
}

/// The program has seen the end of its old connections: nothing hangs.
fn ended(node: &Node, pod: &RunningPod, count: usize) -> Result<()> {
    expect::soon("the ends in the program", 10, || {
        let ended = node.exec_in(pod, "main", &["cat", "/dev/shm/ended"])?;
        Ok(ended.stdout.lines().count() == count)
    })
}

/// A connection that was kept over a first move is closed by the second one, at both ends.
fn closes_after_keep(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let c = testbed.node("c")?;
    let source = a.run_pod(&pod())?;
    let mut to_a = connect(outside, &source, 4)?;
    let between = migrate(a, b, &pod())?;
    echo(&mut to_a)?;
    let to_b = connect(outside, &between, 4)?;
    let destination = migrate(b, c, &pod().annotation(KEEP, "close"))?;
    was_reset(to_b).context("client of B's address")?;
    was_reset(to_a).context("client of A's address")?;
    ended(c, &destination, 2)?;
    echo(&mut connect(outside, &destination, 4)?)
}

/// The pod that clients are connected to is deleted after the moves: they hear of it at once, and so
/// does the program.
fn closes_with_old_pod(testbed: &Testbed, version: u8, path: &[&str]) -> Result<()> {
    need_daemon(testbed)?;
    let (a, _, outside) = three(testbed)?;
    let source = a.run_pod(&pod())?;
    let mut silent = connect(outside, &source, version)?;
    let mut on_the_source = connect(a, &source, version)?;
    let mut pods = Vec::new();
    let mut from = a;
    for name in path {
        let to = testbed.node(name)?;
        pods.push((to, migrate(from, to, &pod())?));
        from = to;
    }
    let (last, here) = pods.last().context("no move")?;
    echo(&mut silent)?;
    echo(&mut on_the_source)?;
    let mut stays = connect(outside, here, version)?;
    a.stop_pod(&source, GRACE)?;
    was_reset(silent).context("client on a third node")?;
    was_reset(on_the_source).context("client on the source")?;
    ended(last, here, 2)?;
    echo(&mut stays)
}

/// A daemon that does not answer keeps no pod from its end. Clients hear nothing then; the program
/// hears of it when the daemon goes on.
fn old_pod_goes_although_one_hangs(testbed: &Testbed, hangs: &str) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let source = a.run_pod(&pod())?;
    let mut silent = connect(outside, &source, 4)?;
    let destination = migrate(a, b, &pod())?;
    echo(&mut silent)?;
    let mut stays = connect(outside, &destination, 4)?;
    let hangs = testbed.node(hangs)?;
    hangs.sh("pkill -STOP -x mycedrive")?;
    let begun = Instant::now();
    let stopped = a.stop_pod(&source, GRACE);
    let took = begun.elapsed();
    hangs.sh("pkill -CONT -x mycedrive")?;
    stopped?;
    ensure!(took < PATIENCE, "the old pod took {took:?} to go");
    ended(b, &destination, 1)?;
    echo(&mut stays)
}

/// It dies while it waits for the destination's last words.
fn its_shim_dies(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let source = a.run_pod(&pod())?;
    let mut silent = connect(outside, &source, 4)?;
    let destination = migrate(a, b, &pod())?;
    echo(&mut silent)?;
    let mut stays = connect(outside, &destination, 4)?;
    b.sh("pkill -STOP -x mycedrive")?;
    let killed = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| a.stop_pod(&source, GRACE));
        std::thread::sleep(Duration::from_millis(600));
        let killed = a.sh("pkill -KILL -f '^[^ ]*containerd-shim-mycedrive-v2 '");
        // It fails with its shim.
        let _ = stopping.join();
        killed
    });
    b.sh("pkill -CONT -x mycedrive")?;
    killed?;
    // kubelet asks until containerd has cleaned up after the shim.
    expect::soon("the end of the old pod", 20, || {
        Ok(a.stop_pod(&source, GRACE).is_ok())
    })?;
    ended(b, &destination, 1)?;
    echo(&mut stays)
}
