//! Bytes that are sent for a change inside a large file.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mycedrive_integration::workload::migrations;
use mycedrive_integration::workload::volume::{empty_dir, fresh};
use mycedrive_integration::{Container, Pod, Testbed};
use serde::Serialize;

use crate::plot::{Group, bars};
use crate::{Conditions, write, write_json};

/// Size of the file.
const FILE: u64 = 1_048_576_000;
/// Each hundredth block of this size is rewritten.
const BLOCKS: [u64; 3] = [65_536, 16_384, 4096];

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    file_bytes: u64,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    block_bytes: u64,
    /// Of all blocks that were rewritten, with bytes that do not compress.
    changed_bytes: u64,
    /// On the wire from then on, the freeze with the processes' memory included.
    sent_bytes: u64,
    sent_to_changed: f64,
    /// As the daemon says.
    rounds: Vec<String>,
}

/// The file is sent in the first round; then a hundredth of its blocks is rewritten at once.
pub fn run(testbed: &Testbed, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let mut changes = Vec::new();
    for block in BLOCKS {
        let change = one(testbed, block)?;
        println!(
            "blocks of {block}: {} bytes changed, {} sent, {:.3} of the change",
            change.changed_bytes, change.sent_bytes, change.sent_to_changed
        );
        changes.push(change);
    }
    let groups: Vec<Group> = changes
        .iter()
        .map(|change| Group {
            label: format!("blocks of {} KiB", change.block_bytes / 1024),
            values: vec![
                change.changed_bytes as f64 / 1e6,
                change.sent_bytes as f64 / 1e6,
            ],
        })
        .collect();
    let title = "A file of 1 GB, 1 % of its blocks rewritten";
    let plot = bars(title, "MB", &["changed", "sent"], &groups);
    write(out, "volume-change.svg", &plot)?;
    let measured = Measured {
        conditions,
        file_bytes: FILE,
        changes,
    };
    write_json(out, "volume-change", &measured)
}

fn one(testbed: &Testbed, block: u64) -> Result<Change> {
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    fresh(a)?;
    fresh(b)?;
    let count = FILE / block;
    // Written by the pod, so that it is in the upper.
    let script = format!(
        "cd /data; head -c {FILE} /dev/urandom >file; touch ready; \
         while [ ! -e go ]; do sleep 0.1; done; n=0; while [ $n -lt {count} ]; do \
         dd if=/dev/urandom of=file bs={block} count=1 conv=notrunc seek=$n 2>/dev/null; \
         n=$((n+100)); done; touch done; exec tail -f /dev/null"
    );
    // A second container comes when the change is made: the rounds wait for it.
    let late = Container::new("late", "busybox", &["sh", "-c", "exec tail -f /dev/null"]);
    let pod = Pod::new("shop", "volume")
        .with(
            Container::new("writer", "busybox", &["sh", "-c", &script]).mount(
                empty_dir(),
                "/data",
                false,
            ),
        )
        .with(late.clone());
    let source = a.run_pod(&pod)?;
    let wait = |file: &str| -> Result<()> {
        let until = Instant::now() + Duration::from_secs(300);
        while a.exec_in(&source, "writer", &["test", "-e", file])?.code != 0 {
            ensure!(Instant::now() < until, "no {file} in five minutes");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    };
    wait("/data/ready")?;
    let there = pod.migrate_from(&a.address());
    let mut destination = b.run_sandbox(&there)?;
    b.start_container(&mut destination, &there.containers()[0], 0)?;
    let before = migrations::newest(b)?.bytes_sent;
    ensure!(before >= FILE, "only {before} bytes were sent before");
    a.exec_in(&source, "writer", &["touch", "/data/go"])?;
    wait("/data/done")?;
    b.start_container(&mut destination, &late, 0)?;
    let progress = migrations::newest(b)?;
    a.stop_pod(&source, Duration::from_secs(1))?;
    b.stop_pod(&destination, Duration::from_secs(1))?;
    let rounds = progress.events.iter();
    let rounds = rounds.filter(|event| event.name == "round" || event.name == "transferred");
    let changed_bytes = count.div_ceil(100) * block;
    let sent_bytes = progress.bytes_sent - before;
    Ok(Change {
        block_bytes: block,
        changed_bytes,
        sent_bytes,
        sent_to_changed: sent_bytes as f64 / changed_bytes as f64,
        rounds: rounds.map(|event| event.detail.clone()).collect(),
    })
}
