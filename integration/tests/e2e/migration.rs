//! Pods that move: the client sees a pause, and nothing else.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::workload::{leftovers, redis};
use mycedrive_integration::{Container, ContainerState, Node, Pod, RunningPod, Testbed};

use crate::expect;
use crate::world::{Scenario, need_daemon, three};

/// kubelet would try much longer.
pub const START_TIME: Duration = Duration::from_secs(40);
const GRACE: Duration = Duration::from_secs(1);
/// A client works this long before and after a move.
const SETTLE: Duration = Duration::from_millis(400);

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("migration::nothing_is_left", nothing_is_left),
        Scenario::new("migration::source_is_held", source_is_held),
        Scenario::new("migration::several_containers", several_containers),
        Scenario::new("migration::execs", execs),
        Scenario::new("migration::root_layer", root_layer),
        Scenario::new(
            "migration::shared_memory_pipes_and_clocks",
            shared_memory_pipes_and_clocks,
        ),
        Scenario::new(
            "migration::finished_init_container",
            finished_init_container,
        ),
        Scenario::new("migration::crash_after_arrival", crash_after_arrival),
        Scenario::new("migration::kernel_is_known", kernel_is_known),
    ]
}

/// CRIU looks at the kernel when the daemon starts, not in the first freeze.
fn kernel_is_known(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, ..) = three(testbed)?;
    a.stop_service("mycedrive")?;
    a.sh("rm -f /run/criu.kdat")?;
    a.start_service("mycedrive")?;
    expect::soon("what CRIU found out", 20, || {
        Ok(a.sh("test -s /run/criu.kdat").is_ok())
    })
}

/// A session stands in the way, and is named; a probe, which ends by itself, does not.
fn execs(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    let id = source.id("redis").to_owned();
    let arrival = pod.migrate_from(&a.address());
    let meanwhile = |seconds: &'static str| {
        let (node, id) = (a.clone(), id.clone());
        let exec = std::thread::spawn(move || {
            let command = ["sleep", seconds];
            node.cri()?
                .exec_sync(&id, &command, Duration::from_secs(30))
        });
        let what = format!("sleep {seconds}");
        expect::soon(&what, 5, || {
            Ok(a.sh(&format!("pgrep -fx '{what}'")).is_ok())
        })?;
        anyhow::Ok(exec)
    };
    let session = meanwhile("20")?;
    let message = expect::failure("the arrival", b.run_pod_within(&arrival, Duration::ZERO))?;
    expect::contains("message", &message, &["1 exec session(s)", "end them"])?;
    a.sh("pkill -fx 'sleep 20'")?;
    drop(session.join());
    let probe = meanwhile("0.3")?;
    b.run_pod_within(&arrival, Duration::ZERO)
        .context("while a probe ran")?;
    drop(probe.join());
    Ok(())
}

/// Moves a pod as kubelet does.
pub fn migrate(from: &Node, to: &Node, pod: &Pod) -> Result<RunningPod> {
    to.run_pod_within(&pod.migrate_from(&from.address()), START_TIME)
        .with_context(|| format!("{} from {} to {}", pod.name(), from.name(), to.name()))
}

/// A client that counts in a Redis at this address.
pub fn client(node: &Node, address: &str) -> Result<Client> {
    expect::soon("an answer of Redis", 10, || {
        Ok(node
            .sh(&format!("redis-cli -h {address} ping"))
            .is_ok_and(|answer| answer == "PONG"))
    })?;
    let address: IpAddr = address
        .parse()
        .with_context(|| format!("address `{address}`"))?;
    let client = Client::start(node, &Client::program()?, address)?;
    std::thread::sleep(SETTLE);
    Ok(client)
}

/// Ends the client: it had one connection, and every write is there once.
pub fn finish(client: Client) -> Result<u64> {
    std::thread::sleep(SETTLE);
    let report = client.finish()?;
    ensure!(
        report.is_clean() && report.connections == 1,
        "the client saw {} lost, {} doubled, {} errors ({:?}), {} connections",
        report.lost,
        report.doubled,
        report.errors,
        report.first_error,
        report.connections
    );
    Ok(report
        .answers
        .last()
        .context("the client got no answer")?
        .value)
}

fn nothing_is_left(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let before = [leftovers::of(a)?, leftovers::of(b)?];
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    let client = client(outside, &source.ip)?;
    let destination = migrate(a, b, &pod)?;
    finish(client)?;
    a.stop_pod(&source, GRACE)?;
    b.stop_pod(&destination, GRACE)?;
    for (node, before) in [(a, &before[0]), (b, &before[1])] {
        let left = leftovers::since(node, before)?;
        ensure!(left.is_empty(), "left on {}: {left:?}", node.name());
    }
    Ok(())
}

/// After the handover nothing of the pod runs on A, however kubelet behaves there.
fn source_is_held(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let mut source = a.run_pod(&pod)?;
    let destination = migrate(a, b, &pod)?;
    expect::equal(
        "held state",
        expect::state(a, &source, "redis")?,
        ContainerState::ContainerRunning,
    )?;
    no_redis(a)?;
    let message = expect::failure(
        "exec into the held container",
        expect::exec(a, &source, "redis", &["true"]),
    )?;
    expect::contains("message", &message, &["node-b"])?;
    // A failed probe: kubelet stops the container, which ends at once, and starts another attempt.
    let started = std::time::Instant::now();
    a.cri()?
        .stop_container(source.id("redis"), Duration::from_secs(10))?;
    ensure!(
        started.elapsed() < Duration::from_secs(3),
        "the end took {:?}",
        started.elapsed()
    );
    a.start_container(&mut source, &pod.containers()[0], 1)?;
    expect::equal(
        "held state",
        expect::state(a, &source, "redis")?,
        ContainerState::ContainerRunning,
    )?;
    no_redis(a)?;
    a.stop_pod(&source, GRACE)?;
    expect::equal(
        "pong",
        expect::exec(b, &destination, "redis", &["redis-cli", "ping"])?.as_str(),
        "PONG",
    )
}

/// Frozen processes are killed when B has said that its own run, shortly after the arrival.
fn no_redis(node: &Node) -> Result<()> {
    expect::soon("the end of Redis on A", 5, || {
        Ok(node.sh("pgrep -x redis-server | wc -l")? == "0")
    })
}

const SERVER: &str = "
import socket
s = socket.create_server(('127.0.0.1', 4000))
while True:
    c, _ = s.accept()
    while d := c.recv(100): c.sendall(d)
";

/// Asks the other container ten times a second over one connection, and counts in its log.
const ASKER: &str = "
import socket, time
while True:
    try:
        s = socket.create_connection(('127.0.0.1', 4000)); break
    except OSError:
        time.sleep(0.1)
n = 0
while True:
    s.sendall(b'%d' % n)
    assert s.recv(100) == b'%d' % n
    open('/dev/shm/count', 'w').write(str(n))
    n += 1
    time.sleep(0.05)
";

/// One freeze for the whole pod: a connection between its containers goes on.
fn several_containers(testbed: &Testbed) -> Result<()> {
    pair(testbed, &pair_of())
}

/// Two containers with a connection between them.
pub fn pair_of() -> Pod {
    Pod::new("shop", "pair")
        .container("server", "python", &["python3", "-c", SERVER])
        .container("asker", "python", &["python3", "-c", ASKER])
}

/// Moves a [`pair_of`] containers.
pub fn pair(testbed: &Testbed, pod: &Pod) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let source = a.run_pod(pod)?;
    let count = |node: &Node, pod: &RunningPod| -> Result<u64> {
        Ok(
            expect::exec(node, pod, "server", &["cat", "/dev/shm/count"])?
                .parse()
                .unwrap_or(0),
        )
    };
    expect::soon("the first questions", 5, || {
        Ok(count(a, &source).unwrap_or(0) > 5)
    })?;
    let before = count(a, &source)?;
    let destination = migrate(a, b, pod)?;
    let after = count(b, &destination)?;
    ensure!(
        after >= before,
        "the count went back from {before} to {after}"
    );
    expect::soon("more questions", 5, || {
        Ok(count(b, &destination)? > after + 5)
    })
}

/// Everything a process can do to its root. It ends in `tail`, since a sleep that CRIU interrupts is over
/// (EINTR), and busybox does not sleep on.
const CHANGE_ROOT: &str = "
set -e
echo new >/etc/new; ln /etc/new /etc/hard; ln -s new /etc/soft
rm /etc/issue; rm -rf /usr/share/perl5; mkdir -p /opt/dir; chmod 1751 /opt/dir; chown 12:34 /opt/dir
echo more >>/etc/passwd; mkfifo /opt/fifo; truncate -s 50000000 /opt/sparse; printf x >>/opt/sparse
rm -rf /etc/mosquitto; mkdir /etc/mosquitto; echo only >/etc/mosquitto/file
touch /done; exec tail -f /dev/null
";

const DESCRIBE_ROOT: &str = "
cd /; for f in etc/new etc/hard etc/soft etc/issue opt/dir opt/fifo opt/sparse etc/mosquitto etc/passwd; do
stat -c '%n %F %a %u %g %s %h' $f 2>&1 || true; done
ls -A etc/mosquitto; md5sum etc/passwd opt/sparse etc/hard; stat -c %b opt/sparse
";

fn root_layer(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = Pod::new("shop", "root").container("main", "busybox", &["sh", "-c", CHANGE_ROOT]);
    let source = a.run_pod(&pod)?;
    expect::soon("the changes", 10, || {
        Ok(a.exec_in(&source, "main", &["test", "-e", "/done"])?.code == 0)
    })?;
    let before = expect::exec(a, &source, "main", &["sh", "-c", DESCRIBE_ROOT])?;
    let destination = migrate(a, b, &pod)?;
    expect::equal(
        "root",
        expect::exec(b, &destination, "main", &["sh", "-c", DESCRIBE_ROOT])?,
        before,
    )
}

/// A file in /dev/shm held open and mapped, a pipe with unread bytes, the monotonic clock.
const STATE: &str = "
import mmap, os, time
f = open('/dev/shm/mapped', 'w+b'); f.truncate(4096)
m = mmap.mmap(f.fileno(), 4096)
m[0:5] = b'hello'
r, w = os.pipe(); os.write(w, b'unread')
last, worst, n = time.monotonic(), 0.0, 0
while True:
    now = time.monotonic()
    assert now >= last, 'the clock went back'
    worst, last, n = max(worst, now - last), now, n + 1
    m[100:120] = b'%020d' % n
    with open('/tmp/state.new', 'w') as out: out.write('%d %.3f %s' % (n, worst, m[0:5].decode()))
    os.rename('/tmp/state.new', '/tmp/state')
    if os.path.exists('/tmp/ask'):
        os.unlink('/tmp/ask'); open('/tmp/answer', 'w').write(os.read(r, 100).decode())
    time.sleep(0.02)
";

fn shared_memory_pipes_and_clocks(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = Pod::new("shop", "state").container("main", "python", &["python3", "-c", STATE]);
    let source = a.run_pod(&pod)?;
    expect::soon("the state", 10, || {
        Ok(a.exec_in(&source, "main", &["test", "-e", "/tmp/state"])?
            .code
            == 0)
    })?;
    let destination = migrate(a, b, &pod)?;
    expect::exec(b, &destination, "main", &["touch", "/tmp/ask"])?;
    expect::soon("the pipe's bytes", 5, || {
        Ok(b.exec_in(&destination, "main", &["cat", "/tmp/answer"])?
            .stdout
            == "unread")
    })?;
    let state = expect::exec(b, &destination, "main", &["cat", "/tmp/state"])?;
    let words: Vec<&str> = state.split(' ').collect();
    let worst: f64 = words
        .get(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(f64::MAX);
    ensure!(worst < 5.0, "the clock jumped by {worst} s");
    expect::contains("mapped memory", &state, &["hello"])?;
    let text = expect::exec(
        b,
        &destination,
        "main",
        &["head", "-c", "5", "/dev/shm/mapped"],
    )?;
    expect::equal("file in /dev/shm", text.as_str(), "hello")
}

/// It exits 0 at once on B and is not run again.
fn finished_init_container(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let init = Container::new("init", "busybox", &["sh", "-c", "echo ran; exit 0"]);
    let main = Container::new("main", "redis", &[]);
    let pod = Pod::new("shop", "init")
        .with(init.clone())
        .with(main.clone());
    let mut source = a.run_sandbox(&pod)?;
    a.start_container(&mut source, &init, 0)?;
    expect::equal("exit code", expect::exit_code(a, &source, "init")?, 0)?;
    a.start_container(&mut source, &main, 0)?;
    expect::exec(a, &source, "main", &["redis-cli", "set", "key", "value"])?;

    let moved = pod.migrate_from(&a.address());
    let mut destination = b.run_sandbox(&moved)?;
    b.start_container(&mut destination, &init, 0)?;
    expect::equal("exit code", expect::exit_code(b, &destination, "init")?, 0)?;
    expect::equal(
        "log of init on B",
        b.container_log(&destination, "init")?.as_str(),
        "",
    )?;
    b.start_container(&mut destination, &main, 0)?;
    expect::equal(
        "key",
        expect::exec(b, &destination, "main", &["redis-cli", "get", "key"])?.as_str(),
        "value",
    )
}

/// A container that crashes later on B starts from its image, without migrating again.
fn crash_after_arrival(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    expect::exec(a, &source, "redis", &["redis-cli", "set", "key", "value"])?;
    let mut destination = migrate(a, b, &pod)?;
    b.sh("pkill -KILL -x redis-server")?;
    expect::equal(
        "exit code",
        expect::exit_code(b, &destination, "redis")?,
        137,
    )?;
    b.start_container(&mut destination, &pod.containers()[0], 7)?;
    expect::soon("the new Redis", 5, || {
        Ok(b.exec_in(&destination, "redis", &["redis-cli", "ping"])?
            .stdout
            .trim()
            == "PONG")
    })?;
    expect::equal(
        "key",
        expect::exec(b, &destination, "redis", &["redis-cli", "get", "key"])?.as_str(),
        "",
    )
}
