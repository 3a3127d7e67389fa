//! What a stack costs beside a plain bind mount.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mycedrive_integration::workload::volume::empty_dir;
use mycedrive_integration::{Container, Pod, Testbed};
use serde::Serialize;

use super::Plan;
use crate::plot::{Group, bars};
use crate::statistics::Summary;
use crate::{Conditions, write, write_json};

#[derive(Serialize)]
struct Overhead {
    conditions: Conditions,
    /// Seconds for each kind of work.
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    work: &'static str,
    stack_s: Option<Summary>,
    plain_s: Option<Summary>,
    /// Of the medians.
    stack_to_plain: f64,
}

/// Seconds, printed by the work itself.
const WORK: &str = r"
import os, sys, time
d = '/data/'
def timed(f):
    os.sync(); t = time.monotonic(); f(); return time.monotonic() - t
def sequential():
    f = os.open(d + 'seq', os.O_RDWR | os.O_CREAT); b = os.urandom(1 << 20)
    for _ in range(256): os.write(f, b)
    os.fsync(f); os.lseek(f, 0, 0)
    while os.read(f, 1 << 20): pass
    os.close(f)
def rand():
    f = os.open(d + 'seq', os.O_RDWR); b = os.urandom(4096); x = 1
    for _ in range(20000):
        x = (x * 1103515245 + 12345) % (1 << 31); os.pwrite(f, b, 4096 * (x % 65536)); os.pread(f, 4096, 4096 * (x // 7 % 65536))
    os.fsync(f); os.close(f)
def small():
    for n in range(100000):
        if n % 1000 == 0: os.mkdir(d + str(n // 1000))
        f = os.open(d + '%d/%d' % (n // 1000, n), os.O_WRONLY | os.O_CREAT); os.write(f, b'x' * 100); os.close(f)
def walk():
    for r, ds, fs in os.walk(d):
        for f in fs: os.stat(r + '/' + f)
print(*['%.3f' % timed(f) for f in (sequential, rand, small, walk)])
";

/// Each kind of work on a stack and on a plain bind mount, in turn.
pub fn run(testbed: &Testbed, plan: &Plan, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let a = testbed.node("a")?;
    let names = [
        "sequential: write and read 256 MB",
        "random: 20,000 writes and reads of 4 KiB",
        "create: 100,000 files of 100 bytes",
        "stat: 100,000 files",
    ];
    let mut seconds = vec![[Vec::new(), Vec::new()]; names.len()];
    for number in 0..plan.runs {
        if Instant::now() > plan.until {
            println!("time is over after {number} runs");
            break;
        }
        for (column, annotation) in ["", "plain"].into_iter().enumerate() {
            // What the work before left is removed in the end: ext4 is slow to make files while it
            // passes over inodes that were deleted in the last half minute.
            let volume = empty_dir();
            a.sh(&format!(
                "if [ -e {volume} ]; then mv {volume} {volume}.$(date +%N); fi; mkdir -p {volume} && chmod 777 {volume}"
            ))?;
            let pod = Pod::new("shop", "volume")
                .annotation("mycedrive.io/volumes", annotation)
                .with(
                    Container::new("main", "python", &["python3", "-c", WORK]).mount(
                        empty_dir(),
                        "/data",
                        false,
                    ),
                );
            let running = a.run_pod(&pod)?;
            let until = Instant::now() + Duration::from_secs(300);
            let mut text = String::new();
            while text.split(' ').count() < names.len() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(300));
                a.container_log(&running, "main")?
                    .trim()
                    .clone_into(&mut text);
            }
            a.stop_pod(&running, Duration::from_secs(1))?;
            println!("{}: {text}", if column == 0 { "stack" } else { "plain" });
            ensure!(
                text.split(' ').count() == names.len(),
                "the work did not end: {text}"
            );
            for (row, word) in text.split(' ').enumerate().take(names.len()) {
                seconds[row][column].push(word.parse::<f64>().context("the work's seconds")?);
            }
        }
    }
    a.sh(&format!("rm -rf {}*", empty_dir()))?;
    let rows: Vec<Row> = names
        .into_iter()
        .zip(&seconds)
        .map(|(work, [stack, plain])| {
            let (stack_s, plain_s) = (Summary::of(stack), Summary::of(plain));
            let median = |summary: Option<Summary>| summary.map_or(f64::NAN, |found| found.median);
            Row {
                work,
                stack_s,
                plain_s,
                stack_to_plain: median(stack_s) / median(plain_s),
            }
        })
        .collect();
    let groups: Vec<Group> = rows
        .iter()
        .map(|row| Group {
            label: row.work.split(':').next().unwrap_or_default().to_owned(),
            values: [row.stack_s, row.plain_s]
                .map(|summary| summary.map_or(0.0, |found| found.median * 1000.0))
                .to_vec(),
        })
        .collect();
    let title = "A stack and a plain bind mount";
    let plot = bars(title, "ms, median", &["stack", "plain"], &groups);
    write(out, "volume-overhead.svg", &plot)?;
    write_json(out, "volume-overhead", &Overhead { conditions, rows })
}
