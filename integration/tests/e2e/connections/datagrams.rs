//! UDP sockets, connected and bound, go on.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};

use super::{Script, address, in_network};
use crate::expect;
use crate::migration::migrate;
use crate::world::{Scenario, need_daemon, three};

/// Two sockets: one that is bound to no address and answers whoever asks, one that is connected
/// and asks itself. It writes how many answers the latter got. A third one only sends, all the
/// time; what the kernel refused of it is written too: nothing, as the lock comes after the freeze
/// and goes before it ends.
const POD: &str = "
import socket, sys, threading, time
bound = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
bound.bind(('::', 5000))
def answer():
    while True:
        data, peer = bound.recvfrom(100)
        bound.sendto(data, peer)
threading.Thread(target=answer, daemon=True).start()
family, host = (socket.AF_INET6, sys.argv[1]) if ':' in sys.argv[1] else (socket.AF_INET, sys.argv[1])
def only_send():
    sends = socket.socket(family, socket.SOCK_DGRAM)
    while True:
        try: sends.sendto(b'x', (host, 9))
        except OSError as error:
            with open('/dev/shm/refused', 'a') as out: out.write('%s\\n' % error)
        time.sleep(0.0002)
threading.Thread(target=only_send, daemon=True).start()
asks = socket.socket(family, socket.SOCK_DGRAM)
asks.connect((host, 5001)); asks.settimeout(0.2)
n = got = 0
while True:
    n += 1
    try:
        asks.send(b'%d' % n)
        while asks.recv(100) != b'%d' % n: pass
        got += 1
    except OSError: pass
    with open('/dev/shm/answers', 'w') as out: out.write('%d' % got)
    time.sleep(0.02)
";

/// Answers, and writes down each new sender.
const OUTSIDE: &str = "
import os, socket, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(('::', 5001))
peers = set()
while True:
    data, peer = s.recvfrom(100)
    s.sendto(data, peer)
    if peer[:2] not in peers:
        peers.add(peer[:2])
        with open('/run/peers', 'a') as out: out.write('%s %d\\n' % peer[:2])
";

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("connections::datagrams_ipv4", |testbed| go_on(testbed, 4)),
        Scenario::new("connections::datagrams_ipv6", |testbed| go_on(testbed, 6)),
    ]
}

fn answers(node: &Node, pod: &RunningPod) -> Result<u64> {
    let found = node.exec_in(pod, "main", &["cat", "/dev/shm/answers"])?;
    Ok(found.stdout.trim().parse().unwrap_or(0))
}

fn go_on(testbed: &Testbed, version: u8) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let c = testbed.node("c")?;
    let host = if version == 4 {
        outside.address()
    } else {
        outside.address6()
    };
    outside.sh("rm -f /run/peers")?;
    let _answers = Script::start(outside, OUTSIDE, &[])?;
    let pod = Pod::new("shop", "udp").container("main", "python", &["python3", "-c", POD, &host]);
    let mut source = a.run_pod(&pod)?;
    let server = SocketAddr::new(address(&source, version)?, 5000);
    // It takes answers from the address that it asked only.
    let client = in_network(outside, || {
        let any = if version == 4 { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(socket)
    })?;
    exchange(&client, 20)?;
    expect::soon("answers in the pod", 10, || Ok(answers(a, &source)? > 10))?;
    for (from, to) in [(a, b), (b, c)] {
        let destination = std::thread::scope(|scope| {
            // The client goes on exchanging during the move.
            let asks = scope.spawn(|| exchange(&client, 100));
            let destination = migrate(from, to, &pod);
            match asks.join() {
                Ok(asked) => asked.and(destination),
                Err(_) => anyhow::bail!("the client panicked"),
            }
        })?;
        exchange(&client, 20)?;
        let before = answers(to, &destination)?;
        expect::soon("more answers in the pod", 10, || {
            Ok(answers(to, &destination)? > before + 20)
        })?;
        let refused = to.exec_in(&destination, "main", &["cat", "/dev/shm/refused"])?;
        ensure!(
            refused.stdout.is_empty(),
            "sending failed: {}",
            refused.stdout
        );
        source = destination;
    }
    let peers = outside.sh("cat /run/peers")?;
    ensure!(
        peers.lines().count() == 1,
        "the connected socket was seen with several addresses: {peers}"
    );
    drop(source);
    Ok(())
}

/// Gets this many answers; a datagram may be lost, as on any network, and is sent again.
fn exchange(client: &UdpSocket, count: u32) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(40);
    let mut buffer = [0; 100];
    for number in 0..count {
        loop {
            ensure!(Instant::now() < until, "no answer to datagram {number}");
            // An ICMP error of an earlier datagram would be an error here too.
            if client.send(&number.to_be_bytes()).is_ok()
                && let Ok(length) = client.recv(&mut buffer)
                && buffer[..length] == number.to_be_bytes()
            {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
