//! A pod with a volume that is written all the time, moved with a chosen number of rounds.

use std::time::{Duration, Instant};

use super::client::{Client, now_ns};
use super::migrations;
use super::report::Report;
use crate::{Container, Node, Pod, Result, RunningPod, Testbed};

/// kubelet would give up later.
const START_TIME: Duration = Duration::from_secs(900);
/// Works this long before the move.
const SETTLE: Duration = Duration::from_secs(2);

/// What is to be moved, and how.
#[derive(Debug, Clone)]
pub struct Case {
    /// `mycedrive.io/volume-rounds`.
    pub rounds: String,
    /// Bytes in the volume at the start, which do not compress.
    pub base: u64,
    /// Bytes written each second, in place, in a file of `file` bytes. 0: nothing.
    pub written: u64,
    /// Size of that file.
    pub file: u64,
    /// Without a stack.
    pub plain: bool,
    /// With Redis that appends to a file in the volume, and a client.
    pub client: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Moved {
    /// No process ran, milliseconds.
    pub freeze_ms: u64,
    /// Bytes on the wire.
    pub bytes_sent: u64,
    /// One line for each round, as the daemon says it.
    pub rounds: Vec<String>,
    /// The new pod was asked for, and it ran; `CLOCK_REALTIME` nanoseconds.
    pub span: (u64, u64),
    /// What the client saw.
    pub report: Option<Report>,
}

/// Where kubelet would have the volume.
pub fn empty_dir() -> &'static str {
    "/var/lib/kubelet/pods/measured/volumes/kubernetes.io~empty-dir/data"
}

/// Writes in place, a block of 16 KiB at a time, round and round. It is a shell, whose memory is
/// small beside what it writes.
fn writer(case: &Case) -> String {
    const BLOCK: u64 = 16 * 1024;
    let blocks = (case.file / BLOCK).max(1);
    // Each turn: eight blocks at scattered places, then a pause.
    let turns_per_second = (case.written as f64 / (8 * BLOCK) as f64).max(0.1);
    format!(
        "cd /data; [ -e file ] || head -c {} /dev/urandom >file; touch ready; at=0; \
         while :; do for n in 1 2 3 4 5 6 7 8; do at=$(( (at + 7919) % {blocks} )); \
         dd if=/dev/urandom of=file bs=16k count=1 conv=notrunc seek=$at 2>/dev/null; done; \
         sleep {:.3}; done",
        case.file,
        1.0 / turns_per_second
    )
}

fn pod(case: &Case) -> Pod {
    let script = if case.written > 0 {
        writer(case)
    } else {
        "touch /data/ready; exec tail -f /dev/null".to_owned()
    };
    let mut pod = Pod::new("shop", "volume").with(
        Container::new("writer", "busybox", &["sh", "-c", &script]).mount(
            empty_dir(),
            "/data",
            false,
        ),
    );
    if case.client {
        let args = [
            "redis-server",
            "--protected-mode",
            "no",
            "--dir",
            "/data",
            "--appendonly",
            "yes",
        ];
        pod = pod.with(Container::new("redis", "redis", &args).mount(empty_dir(), "/data", false));
    }
    if case.plain {
        pod = pod.annotation("mycedrive.io/volumes", "plain");
    }
    pod
}

/// Makes an empty volume on a node.
pub fn fresh(node: &Node) -> Result<()> {
    let volume = empty_dir();
    node.sh(&format!(
        "rm -rf {volume} && mkdir -p {volume} && chmod 777 {volume}"
    ))
    .map(drop)
}

/// Moves the pod once, from the first node to the second. Links are as the caller has set them.
pub fn move_once(testbed: &Testbed, case: &Case) -> Result<Moved> {
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    for node in [a, b] {
        fresh(node)?;
    }
    if case.base > 0 {
        a.sh(&format!(
            "head -c {} /dev/urandom >{}/base",
            case.base,
            empty_dir()
        ))?;
    }
    let pod = pod(case);
    let source = a.run_pod(&pod)?;
    let moved = moving(testbed, case, &pod, &source);
    let stopped = a.stop_pod(&source, Duration::from_secs(1));
    let moved = moved?;
    stopped?;
    Ok(moved)
}

fn moving(testbed: &Testbed, case: &Case, pod: &Pod, source: &RunningPod) -> Result<Moved> {
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    let until = Instant::now() + Duration::from_secs(60);
    while a
        .exec_in(source, "writer", &["test", "-e", "/data/ready"])?
        .code
        != 0
        && Instant::now() < until
    {
        std::thread::sleep(Duration::from_millis(100));
    }
    let client = if case.client {
        let address = source.ip.parse().unwrap_or([0, 0, 0, 0].into());
        Some(Client::start(
            testbed.node("client")?,
            &Client::program()?,
            address,
        )?)
    } else {
        None
    };
    std::thread::sleep(SETTLE);
    let there = pod
        .migrate_from(&a.address())
        .annotation("mycedrive.io/volume-rounds", &case.rounds);
    let from = now_ns();
    let destination = b.run_pod_within(&there, START_TIME)?;
    let to = now_ns();
    let report = match client {
        Some(client) => {
            std::thread::sleep(SETTLE);
            Some(client.finish()?)
        }
        None => None,
    };
    let progress = migrations::newest(b)?;
    b.stop_pod(&destination, Duration::from_secs(1))?;
    let rounds = progress.events.iter().filter(|event| event.name == "round");
    Ok(Moved {
        freeze_ms: progress.freeze_ms.unwrap_or_default(),
        bytes_sent: progress.bytes_sent,
        rounds: rounds.map(|event| event.detail.clone()).collect(),
        span: (from, to),
        report,
    })
}
