//! The shim beside containerd's own, in turns, on one node.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use mycedrive_integration::{Node, Testbed};
use serde::Serialize;

use crate::plot::{Group, bars};
use crate::statistics::Summary;
use crate::{Conditions, write, write_json};

const RUNTIMES: [&str; 2] = ["io.containerd.runc.v2", "io.containerd.mycedrive.v2"];

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    runs: usize,
    operations: Vec<Operation>,
}

#[derive(Serialize)]
struct Operation {
    name: &'static str,
    unit: &'static str,
    runc: Summary,
    mycedrive: Summary,
    /// Median of mycedrive by median of runc.
    ratio: f64,
}

/// One container's numbers.
#[derive(Default, Clone)]
struct Sample {
    start_ms: f64,
    exec_ms: f64,
    delete_ms: f64,
    resident_kb: f64,
    proportional_kb: f64,
}

type Reading = (&'static str, &'static str, fn(&Sample) -> f64);
const READINGS: [Reading; 5] = [
    ("start", "ms", |s| s.start_ms),
    ("exec", "ms", |s| s.exec_ms),
    ("delete", "ms", |s| s.delete_ms),
    ("resident memory", "kB", |s| s.resident_kb),
    ("proportional memory", "kB", |s| s.proportional_kb),
];

/// Measures `runs` containers of each runtime, in turns; writes `shim.json` and `shim.svg`.
pub fn run(testbed: &Testbed, runs: usize, out: &Path) -> Result<()> {
    let node = testbed.node("a")?;
    let conditions = Conditions::now();
    let mut samples = [Vec::new(), Vec::new()];
    for number in 0..=runs {
        for (runtime, samples) in RUNTIMES.iter().zip(&mut samples) {
            let sample =
                one(node, runtime).with_context(|| format!("{runtime}, container {number}"))?;
            // The first of each warms the page cache.
            if number > 0 {
                samples.push(sample);
            }
        }
    }
    let mut operations = Vec::new();
    for (name, unit, read) in READINGS {
        let of = |samples: &[Sample]| Summary::of(&samples.iter().map(read).collect::<Vec<_>>());
        let (runc, mycedrive) = (of(&samples[0]), of(&samples[1]));
        let (runc, mycedrive) = runc.zip(mycedrive).context("no runs")?;
        let ratio = mycedrive.median / runc.median;
        println!(
            "{name:<20} runc.v2 {:>9.1} {unit}, mycedrive.v2 {:>9.1} {unit}: {ratio:.2}x",
            runc.median, mycedrive.median
        );
        operations.push(Operation {
            name,
            unit,
            runc,
            mycedrive,
            ratio,
        });
    }
    let groups: Vec<Group> = operations
        .iter()
        .map(|o| Group {
            label: o.name.to_owned(),
            values: vec![100.0, o.ratio * 100.0],
        })
        .collect();
    write(
        out,
        "shim.svg",
        &bars(
            "Shim beside runc.v2",
            "% of runc.v2, median",
            &RUNTIMES,
            &groups,
        ),
    )?;
    write_json(
        out,
        "shim",
        &Measured {
            conditions,
            runs,
            operations,
        },
    )
}

/// Creates, starts, execs in, kills and deletes one task with `ctr`.
fn one(node: &Node, runtime: &str) -> Result<Sample> {
    let ctr = |line: &str| node.sh(&format!("ctr -n measure {line}"));
    // The images are in CRI's namespace; a second name for the content costs nothing.
    node.sh("ctr -n measure images ls -q | grep -q busybox || \
        (ctr -n k8s.io images export --local /run/busybox.tar localhost/busybox:1 && \
         ctr -n measure images import --local /run/busybox.tar >/dev/null && rm /run/busybox.tar)")?;
    ctr(&format!(
        "containers create --runtime {runtime} localhost/busybox:1 m"
    ))?;
    let mut sample = Sample::default();
    timed(&mut sample.start_ms, || ctr("tasks start --detach m"))?;
    timed(&mut sample.exec_ms, || {
        ctr("tasks exec --exec-id e m /bin/true")
    })?;
    let (resident, proportional) = memory(node)?;
    (sample.resident_kb, sample.proportional_kb) = (resident, proportional);
    ctr("tasks kill --signal KILL m")?;
    node.wait_for(
        "the end of the task",
        std::time::Duration::from_secs(5),
        || ctr("tasks ls").is_ok_and(|list| !list.contains("RUNNING")),
    )?;
    timed(&mut sample.delete_ms, || ctr("tasks delete m"))?;
    ctr("containers delete m")?;
    Ok(sample)
}

fn timed<T>(milliseconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    *milliseconds = start.elapsed().as_secs_f64() * 1e3;
    value
}

/// Rss and Pss of the one shim that serves namespace `measure`, kB (proc_pid_smaps(5)).
fn memory(node: &Node) -> Result<(f64, f64)> {
    let text = node.sh(
        "for p in $(pgrep -f 'containerd-shim.*-namespace measure'); do cat /proc/$p/smaps_rollup; done",
    )?;
    let field = |name: &str| {
        text.lines()
            .filter_map(|line| {
                line.strip_prefix(name)?
                    .trim()
                    .strip_suffix("kB")?
                    .trim()
                    .parse::<f64>()
                    .ok()
            })
            .sum::<f64>()
    };
    Ok((field("Rss:"), field("Pss:")))
}
