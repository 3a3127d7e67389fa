//! Connections between a pod's own containers.

use anyhow::{Result, ensure};
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};

use crate::expect;
use crate::migration::migrate;
use crate::world::{Scenario, need_daemon, three};

const SERVER: &str = "
import socket, threading
def serve(c):
    while d := c.recv(100): c.sendall(d)
s = socket.create_server(('::', 4000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    threading.Thread(target=serve, args=s.accept()[:1], daemon=True).start()
";

/// Asks at several addresses over one connection each, and writes down how often all answered.
const ASKER: &str = "
import socket, time
def own(family, there):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.connect((there, 9))
        return s.getsockname()[0]
def dial(host):
    while True:
        try: return socket.create_connection((host, 4000))
        except OSError: time.sleep(0.1)
hosts = ['127.0.0.1', '::1', own(socket.AF_INET, '10.77.0.100'), own(socket.AF_INET6, 'fd77::64')]
all = {host: dial(host) for host in hosts}
n = 0
while True:
    for host, s in all.items():
        s.sendall(b'%d' % n)
        assert s.recv(100) == b'%d' % n, host
    n += 1
    with open('/dev/shm/count', 'w') as out: out.write('%d %s' % (n, ' '.join(all)))
    time.sleep(0.02)
";

pub fn all() -> Vec<Scenario> {
    vec![Scenario::new("connections::inside_the_pod", inside_the_pod)]
}

/// How often all connections answered, and at which addresses.
fn count(node: &Node, pod: &RunningPod) -> Result<(u64, String)> {
    let text = node
        .exec_in(pod, "server", &["cat", "/dev/shm/count"])?
        .stdout;
    let (number, addresses) = text.split_once(' ').unwrap_or(("0", ""));
    Ok((number.parse().unwrap_or(0), addresses.to_owned()))
}

/// Over loopback and over the pod's own addresses, over two moves.
fn inside_the_pod(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let c = testbed.node("c")?;
    let pod = Pod::new("shop", "pair")
        .container("server", "python", &["python3", "-c", SERVER])
        .container("asker", "python", &["python3", "-c", ASKER]);
    let source = a.run_pod(&pod)?;
    expect::soon("the first questions", 10, || Ok(count(a, &source)?.0 > 10))?;
    let (_, addresses) = count(a, &source)?;
    ensure!(
        addresses.contains(&source.ip),
        "the pod asks at {addresses}, not at its own address {}",
        source.ip
    );
    let mut last = 0;
    for (from, to) in [(a, b), (b, c)] {
        let there = migrate(from, to, &pod)?;
        let (now, _) = count(to, &there)?;
        ensure!(now >= last, "the count went back from {last} to {now}");
        last = now;
        expect::soon(
            "more questions",
            10,
            || Ok(count(to, &there)?.0 > last + 20),
        )?;
    }
    Ok(())
}
