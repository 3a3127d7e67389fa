//! Redis as the pod that moves.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::protocol::Protocol;
use crate::{Error, Node, Pod, Result, RunningPod};

/// Size of a value: with Redis's own bytes before it, it fills a size class of jemalloc (20 KiB).
const VALUE: usize = 20_000;
/// Commands between two looks at the answers.
const BATCH: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(20);

/// Redis that keeps everything in memory only.
pub fn pod(name: &str, handler: &str) -> Pod {
    Pod::new("shop", name)
        .handler(handler)
        .container("redis", "redis", &[])
}

/// Fills Redis with so many megabytes of values, each half records as programs keep them and half
/// bytes that do not compress.
pub fn fill(node: &Node, pod: &RunningPod, megabytes: u64) -> Result<()> {
    let failed = |source: io::Error| Error::Command {
        command: format!("SET at {}", pod.ip),
        status: source.to_string(),
        output: String::new(),
    };
    let address: IpAddr = pod.ip.parse().map_err(|e| failed(io::Error::other(e)))?;
    let address = SocketAddr::new(address, Protocol::Redis.port());
    let mut stream = connect_in(node, address).map_err(failed)?;
    let values = megabytes * 1_000_000 / VALUE as u64;
    for first in (0..values).step_by(BATCH as usize) {
        let batch = first..values.min(first + BATCH);
        set(&mut stream, batch).map_err(failed)?;
    }
    Ok(())
}

/// Connects from the node's own network; waits for a program that is starting.
fn connect_in(node: &Node, address: SocketAddr) -> io::Result<TcpStream> {
    let namespace = File::open(format!("/proc/{}/ns/net", node.pid()))?;
    // A thread has a network namespace of its own; the socket stays in the one it was made in.
    let connecting = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                result => return result,
            }
        }
    });
    let stream = connecting
        .join()
        .map_err(|_| io::Error::other("the connecting thread died"))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends the commands for these values and reads `+OK` for each.
fn set(stream: &mut TcpStream, numbers: std::ops::Range<u64>) -> io::Result<()> {
    let mut commands = Vec::new();
    let count = numbers.clone().count();
    for number in numbers {
        let key = format!("fill:{number}");
        let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE}\r\n", key.len());
        commands.extend_from_slice(head.as_bytes());
        commands.extend_from_slice(&value(number));
        commands.extend_from_slice(b"\r\n");
    }
    stream.write_all(&commands)?;
    let mut answers = vec![0; count * b"+OK\r\n".len()];
    stream.read_exact(&mut answers)?;
    if answers.chunks(5).all(|answer| answer == b"+OK\r\n") {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&answers).into_owned(),
    ))
}

/// The same for the same number, other ones for others.
pub(super) fn value(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut records = String::new();
    while records.len() < VALUE / 2 {
        let (id, score) = (random.u64(..), random.u64(..));
        let _ = writeln!(
            records,
            r#"{{"id":{},"name":"player-{}","level":{},"score":{}.{:03},"active":{}}}"#,
            id % 1_000_000_000,
            id % 100_000,
            score % 80,
            score % 10_000,
            id % 1000,
            score.is_multiple_of(3),
        );
    }
    let mut value = records.into_bytes();
    value.truncate(VALUE / 2);
    value.resize(VALUE, 0);
    random.fill(&mut value[VALUE / 2..]);
    value
}
