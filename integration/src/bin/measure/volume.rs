//! Volumes: what rounds do to the freeze, what is sent, and what a stack costs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use mycedrive_integration::workload::volume::{Case, empty_dir, move_once};
use mycedrive_integration::{Container, Pod, Testbed};
use serde::Serialize;

use crate::plot::{Group, bars};
use crate::statistics::Summary;
use crate::{Conditions, write, write_json};

const WAYS: [&str; 4] = ["0", "1", "2", "auto"];

/// What is measured.
#[derive(Clone, Copy, ValueEnum)]
pub enum Part {
    /// Freeze with 0, 1, 2 and automatic rounds, of a volume that is written all the time.
    Rounds,
    /// Freeze against the size of the volume, automatic rounds.
    Size,
    /// Bytes sent for a file of 1 GB of which 1 % was rewritten.
    Change,
    /// Sequential and random I/O and 100,000 small files, on a stack and on a plain bind mount.
    Overhead,
}

/// How much of it.
pub struct Plan {
    /// Runs for each value.
    pub runs: usize,
    /// Mbit/s; 0: no limit.
    pub links: Vec<u64>,
    /// Megabytes.
    pub size: u64,
    /// Megabytes.
    pub sizes: Vec<u64>,
    /// No run begins later.
    pub until: Instant,
}

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    values: Vec<Value>,
}

#[derive(Serialize)]
struct Value {
    name: String,
    runs: Vec<Run>,
    freeze_ms: Option<Summary>,
}

#[derive(Clone, Serialize)]
struct Run {
    freeze_ms: u64,
    bytes_sent: u64,
    rounds: Vec<String>,
}

/// Measures one part and writes `volume-PART.json` and, for the first two, a plot.
pub fn run(testbed: &Testbed, part: Part, plan: &Plan, out: &Path) -> Result<()> {
    match part {
        Part::Rounds => rounds(testbed, plan, out),
        Part::Size => size(testbed, plan, out),
        Part::Change => change(testbed, plan, out),
        Part::Overhead => overhead(testbed, plan, out),
    }
}

fn measure(testbed: &Testbed, plan: &Plan, name: String, case: &Case) -> Result<Value> {
    let mut runs = Vec::new();
    for number in 1..=plan.runs {
        if Instant::now() > plan.until {
            println!("{name}: time is over after {} runs", runs.len());
            break;
        }
        let moved = move_once(testbed, case)?;
        println!(
            "{name}, run {number} of {}: freeze {} ms, {} bytes in {} rounds",
            plan.runs,
            moved.freeze_ms,
            moved.bytes_sent,
            moved.rounds.len()
        );
        runs.push(Run {
            freeze_ms: moved.freeze_ms,
            bytes_sent: moved.bytes_sent,
            rounds: moved.rounds,
        });
    }
    let freezes: Vec<f64> = runs.iter().map(|run| run.freeze_ms as f64).collect();
    Ok(Value {
        name,
        freeze_ms: Summary::of(&freezes),
        runs,
    })
}

/// The writer gets a fifth of the link, so that what it writes scales with it as the thesis's
/// message load did; without a limit 5 MB/s.
fn rounds(testbed: &Testbed, plan: &Plan, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let bytes = plan.size * 1_000_000;
    let (mut values, mut groups) = (Vec::new(), Vec::new());
    for &link in &plan.links {
        let rate = (link > 0).then(|| format!("{link}mbit"));
        for node in testbed.workers() {
            node.set_rate(rate.as_deref())?;
        }
        let label = rate.unwrap_or_else(|| "no limit".to_owned());
        let mut medians = Vec::new();
        for way in WAYS {
            let case = Case {
                rounds: way.to_owned(),
                base: 0,
                written: if link == 0 {
                    5_000_000
                } else {
                    link * 125_000 / 5
                },
                file: bytes,
                plain: false,
                client: false,
            };
            let value = measure(testbed, plan, format!("{label}, {way} rounds"), &case)?;
            medians.push(value.freeze_ms.map_or(0.0, |summary| summary.median));
            values.push(value);
        }
        groups.push(Group {
            label,
            values: medians,
        });
    }
    for node in testbed.workers() {
        node.set_rate(None)?;
    }
    let series = ["0 rounds", "1", "2", "auto"];
    let plot = bars("Freeze by pre-copy rounds", "ms, median", &series, &groups);
    write(out, "volume-rounds.svg", &plot)?;
    write_json(out, "volume-rounds", &Measured { conditions, values })
}

/// Nothing but 4 MB is written, so that only the size differs.
fn size(testbed: &Testbed, plan: &Plan, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let (mut values, mut groups) = (Vec::new(), Vec::new());
    for &megabytes in &plan.sizes {
        let case = Case {
            rounds: "auto".to_owned(),
            base: megabytes.saturating_sub(4) * 1_000_000,
            written: 500_000,
            file: 4_000_000,
            plain: false,
            client: false,
        };
        let value = measure(testbed, plan, format!("{megabytes} MB"), &case)?;
        groups.push(Group {
            label: value.name.clone(),
            values: vec![value.freeze_ms.map_or(0.0, |summary| summary.median)],
        });
        values.push(value);
    }
    let plot = bars(
        "Freeze by size of the volume",
        "ms, median",
        &["freeze"],
        &groups,
    );
    write(out, "volume-size.svg", &plot)?;
    write_json(out, "volume-size", &Measured { conditions, values })
}

#[derive(Serialize)]
struct Changes {
    conditions: Conditions,
    /// Bytes of the blocks of 64 KiB that were rewritten.
    changed_bytes: u64,
    /// Bytes that the round after it sent, as the daemon says.
    rounds: Vec<String>,
    bytes_sent: u64,
}

/// A gigabyte is sent in the first round; then a hundredth of it is rewritten at once.
fn change(testbed: &Testbed, _plan: &Plan, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    let volume = empty_dir();
    for node in [a, b] {
        node.sh(&format!(
            "rm -rf {volume} && mkdir -p {volume} && chmod 777 {volume}"
        ))?;
    }
    // Written by the pod, so that it is in the upper. When told to, it rewrites every hundredth
    // block of 64 KiB of 16,000.
    let script = "cd /data; head -c 1048576000 /dev/urandom >file; touch ready; \
         while [ ! -e go ]; do sleep 0.1; done; n=0; while [ $n -lt 16000 ]; do \
         dd if=/dev/urandom of=file bs=64k count=1 conv=notrunc seek=$n 2>/dev/null; n=$((n+100)); done; \
         touch done; exec tail -f /dev/null";
    // A second container comes when the change is made: the rounds wait for it.
    let late = Container::new("late", "busybox", &["sh", "-c", "exec tail -f /dev/null"]);
    let pod = Pod::new("shop", "volume")
        .with(
            Container::new("writer", "busybox", &["sh", "-c", script])
                .mount(volume, "/data", false),
        )
        .with(late.clone());
    let source = a.run_pod(&pod)?;
    let wait = |file: &str| -> Result<()> {
        let until = Instant::now() + Duration::from_secs(300);
        while a.exec_in(&source, "writer", &["test", "-e", file])?.code != 0 {
            anyhow::ensure!(Instant::now() < until, "no {file} in five minutes");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    };
    wait("/data/ready")?;
    let there = pod.migrate_from(&a.address());
    let mut destination = b.run_sandbox(&there)?;
    b.start_container(&mut destination, &there.containers()[0], 0)?;
    a.exec_in(&source, "writer", &["touch", "/data/go"])?;
    wait("/data/done")?;
    b.start_container(&mut destination, &late, 0)?;
    let progress = mycedrive_integration::workload::migrations::newest(b)?;
    let rounds: Vec<String> = progress
        .events
        .iter()
        .filter(|event| event.name == "round" || event.name == "transferred")
        .map(|event| event.detail.clone())
        .collect();
    for round in &rounds {
        println!("{round}");
    }
    a.stop_pod(&source, Duration::from_secs(1))?;
    b.stop_pod(&destination, Duration::from_secs(1))?;
    let changes = Changes {
        conditions,
        changed_bytes: 160 * 65536,
        rounds,
        bytes_sent: progress.bytes_sent,
    };
    write_json(out, "volume-change", &changes)
}

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

fn overhead(testbed: &Testbed, plan: &Plan, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let a = testbed.node("a")?;
    let names = [
        "write and read 256 MB in order",
        "20,000 random writes and reads of 4 KiB",
        "create 100,000 files of 100 bytes",
        "stat 100,000 files",
    ];
    let mut seconds = vec![[Vec::new(), Vec::new()]; names.len()];
    for number in 0..plan.runs {
        if Instant::now() > plan.until {
            println!("time is over after {number} runs");
            break;
        }
        for (column, annotation) in ["", "plain"].into_iter().enumerate() {
            let volume = empty_dir();
            a.sh(&format!(
                "rm -rf {volume} && mkdir -p {volume} && chmod 777 {volume}"
            ))?;
            let pod = Pod::new("shop", "volume")
                .annotation("mycedrive.io/volumes", annotation)
                .with(
                    Container::new("main", "python", &["python3", "-c", WORK])
                        .mount(volume, "/data", false),
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
            for (row, word) in text.split(' ').enumerate().take(names.len()) {
                seconds[row][column].push(word.parse::<f64>().context("the work's seconds")?);
            }
        }
    }
    let rows = names
        .into_iter()
        .zip(&seconds)
        .map(|(work, [stack, plain])| Row {
            work,
            stack_s: Summary::of(stack),
            plain_s: Summary::of(plain),
        })
        .collect();
    write_json(out, "volume-overhead", &Overhead { conditions, rows })
}
