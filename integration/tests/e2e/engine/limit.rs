//! A memory limit that an image in memory would break: the processes that write it pay for it.

use std::time::Duration;

use anyhow::Result;
use mycedrive_integration::{Container, Node, Pod, RunningPod, Testbed};

use super::{ANNOTATION, CTR, clear, need};
use crate::expect;
use crate::world::{Scenario, need_daemon, three};

/// Bytes that the container may have. The program uses two thirds.
const LIMIT: i64 = 120 << 20;
/// Uses 60 MiB that are all different, and counts.
const PROGRAM: &str = "import os, time
kept = os.urandom(60 << 20)
i = 0
while True:
    i += 1
    print(i, flush=True)
    time.sleep(0.1)";
/// What a refusal says.
const REFUSED: [&str; 4] = [
    "counts for the memory limit of 120 MiB",
    "nothing was done",
    "raise",
    "image_dir",
];

pub(super) fn scenario() -> Scenario {
    Scenario::new("engine::memory_limit::dmtcp", memory_limit)
}

/// Refused, by `ctr` and in a migration, and the pod goes on. On a disk the image is no problem.
fn memory_limit(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, ..) = three(testbed)?;
    need(a, "dmtcp")?;
    clear(a)?;
    let container = Container::new("main", "python", &["python3", "-c", PROGRAM]).memory(LIMIT);
    let pod = Pod::new("shop", "limited")
        .with(container)
        .annotation(ANNOTATION, "dmtcp");
    let source = a.run_pod(&pod)?;
    goes_on(a, &source)?;
    a.sh("mkdir -p /tmp/image /srv/disk; mount -t tmpfs tmpfs /tmp/image")?;
    let in_memory = checkpoint(a, &source, "/tmp/image");
    a.sh("umount /tmp/image")?;
    let message = expect::failure("a checkpoint into memory", in_memory)?;
    expect::contains("message", &message, &REFUSED)?;
    goes_on(a, &source)?;
    let arrival = pod.clone().migrate_from(&a.address());
    let moved = b.run_pod_within(&arrival, Duration::ZERO);
    let message = expect::failure("the migration", moved)?;
    expect::contains("message", &message, &REFUSED)?;
    goes_on(a, &source)?;
    checkpoint(a, &source, "/srv/disk")?;
    a.sh("rm -r /srv/disk")?;
    goes_on(a, &source)
}

fn checkpoint(node: &Node, pod: &RunningPod, directory: &str) -> Result<()> {
    node.sh(&format!(
        "{CTR} ctr task checkpoint --image-path {directory} {} 2>&1",
        pod.id("main")
    ))?;
    Ok(())
}

/// It prints more numbers.
fn goes_on(node: &Node, pod: &RunningPod) -> Result<()> {
    let lines = || -> Result<usize> { Ok(node.container_log(pod, "main")?.lines().count()) };
    let before = lines()?;
    expect::soon("more output", 10, || Ok(lines()? > before + 2))
}
