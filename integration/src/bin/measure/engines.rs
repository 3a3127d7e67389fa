//! The engines side by side: in turns, on one node, in one run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::workload::client::{Client, now_ns};
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, RunningPod, Testbed};
use serde::Serialize;

use crate::engine::{self, Engine};
use crate::statistics::Summary;
use crate::{Conditions, write_json};

/// Where CRI puts a checkpoint that nobody wants.
const ARCHIVE: &str = "/tmp/engines.tar";
/// Between two checkpoints, so that the client's gaps are told apart.
const SETTLE: Duration = Duration::from_millis(500);
const TESTS: [&str; 2] = ["SET", "GET"];

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    checkpoints: Vec<Checkpoints>,
    overhead: Vec<Overhead>,
}

/// Who asks for a checkpoint, after which the program goes on.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    /// The Checkpoint call alone: the program stands still for what the engine does.
    Task,
    /// CRI's CheckpointContainer: the container is paused until containerd has the image in its
    /// store as well, and the files.
    Cri,
}

impl Way {
    fn checkpoint(self, node: &Node, container: &str) -> Result<()> {
        match self {
            Self::Task => {
                let digests = node.cri()?.checkpoint_task(container)?.join(" ");
                node.sh(&format!("ctr -n k8s.io content rm {digests}"))?;
            }
            Self::Cri => {
                node.cri()?.checkpoint_container(container, ARCHIVE)?;
                node.sh(&format!("rm {ARCHIVE}"))?;
            }
        }
        Ok(())
    }
}

/// The client's longest gap around a checkpoint.
#[derive(Serialize)]
struct Checkpoints {
    way: Way,
    megabytes: u64,
    criu_ms: Summary,
    dmtcp_ms: Summary,
    /// Median of DMTCP by median of CRIU.
    ratio: f64,
    /// Writes of the clients that were lost or failed.
    lost_or_wrong: u64,
}

/// Requests per second of `redis-benchmark` on another node.
#[derive(Serialize)]
struct Overhead {
    test: &'static str,
    bare: Summary,
    dmtcp: Summary,
    /// Median under DMTCP by median of the bare program.
    ratio: f64,
}

/// Writes `engines.json`.
pub fn run(testbed: &Testbed, runs: usize, sizes: &[u64], requests: u64, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let overhead = overhead(testbed, runs, requests)?;
    let mut checkpoints = Vec::new();
    for way in [Way::Task, Way::Cri] {
        for &megabytes in sizes {
            let measured = checkpoints_of(testbed, way, runs, megabytes)?;
            println!(
                "{way:?}, {megabytes} MB: CRIU {:.0} ms, DMTCP {:.0} ms, ratio {:.2}",
                measured.criu_ms.median, measured.dmtcp_ms.median, measured.ratio
            );
            checkpoints.push(measured);
        }
    }
    let measured = Measured {
        conditions,
        checkpoints,
        overhead,
    };
    write_json(out, "engines", &measured)
}

/// Redis that is carried by an engine, or is bare.
fn start(node: &Node, engine: Engine) -> Result<RunningPod> {
    let name = format!("redis-{}", engine.name());
    let pod = node.run_pod(&engine.of(redis::pod(&name, "mycedrive")))?;
    std::thread::sleep(SETTLE);
    let (carried_by, why) = engine::of(node, &pod)?;
    ensure!(
        carried_by == engine.name(),
        "{name} is carried by {carried_by}: {why}"
    );
    Ok(pod)
}

fn checkpoints_of(testbed: &Testbed, way: Way, runs: usize, megabytes: u64) -> Result<Checkpoints> {
    let (node, outside) = (testbed.node("a")?, testbed.node("client")?);
    let engines = [Engine::Criu, Engine::Dmtcp];
    let mut clients = Vec::new();
    for engine in engines {
        let pod = start(node, engine)?;
        redis::fill(node, &pod, megabytes)?;
        let client = Client::start(outside, &Client::program()?, pod.ip.parse()?)?;
        clients.push((pod, client, Vec::new()));
    }
    // The first of each warms up.
    for number in 0..=runs {
        for (pod, _, times) in &mut clients {
            std::thread::sleep(SETTLE);
            let begin = now_ns();
            way.checkpoint(node, pod.id("redis"))?;
            std::thread::sleep(SETTLE);
            if number > 0 {
                times.push((begin, now_ns()));
            }
        }
    }
    let mut lost_or_wrong = 0;
    let mut summaries = Vec::new();
    for (pod, client, times) in clients {
        let report = client.finish()?;
        lost_or_wrong += report.lost + report.doubled + report.errors;
        let gaps: Vec<f64> = times
            .iter()
            .filter_map(|(begin, end)| Some(report.longest_gap(*begin, *end)?.milliseconds))
            .collect();
        summaries.push(Summary::of(&gaps).context("no gap")?);
        node.remove_pod(&pod)?;
    }
    let (criu_ms, dmtcp_ms) = (summaries[0], summaries[1]);
    Ok(Checkpoints {
        way,
        megabytes,
        criu_ms,
        dmtcp_ms,
        ratio: dmtcp_ms.median / criu_ms.median,
        lost_or_wrong,
    })
}

fn overhead(testbed: &Testbed, runs: usize, requests: u64) -> Result<Vec<Overhead>> {
    let (node, outside) = (testbed.node("a")?, testbed.node("client")?);
    let pods = [start(node, Engine::None)?, start(node, Engine::Dmtcp)?];
    let mut rates = vec![[Vec::new(), Vec::new()]; TESTS.len()];
    for number in 0..=runs {
        for (which, pod) in pods.iter().enumerate() {
            let text = outside.sh(&format!(
                "redis-benchmark -h {} -t set,get -n {requests} --csv",
                pod.ip
            ))?;
            for (test, rates) in TESTS.iter().zip(&mut rates) {
                let rate = rate(&text, test)?;
                if number > 0 {
                    rates[which].push(rate);
                }
            }
        }
    }
    for pod in &pods {
        node.remove_pod(pod)?;
    }
    let mut all = Vec::new();
    for (test, [bare, dmtcp]) in TESTS.into_iter().zip(rates) {
        let summary = |rates: &[f64]| Summary::of(rates).context("no turn of redis-benchmark");
        let (bare, dmtcp) = (summary(&bare)?, summary(&dmtcp)?);
        let ratio = dmtcp.median / bare.median;
        println!(
            "{test}: bare {:.0}/s, DMTCP {:.0}/s, ratio {ratio:.3}",
            bare.median, dmtcp.median
        );
        all.push(Overhead {
            test,
            bare,
            dmtcp,
            ratio,
        });
    }
    Ok(all)
}

/// Requests per second of a test in the CSV of redis-benchmark.
fn rate(csv: &str, test: &str) -> Result<f64> {
    let head = format!("\"{test}\",\"");
    csv.lines()
        .find_map(|line| line.strip_prefix(&head)?.split('"').next()?.parse().ok())
        .with_context(|| format!("redis-benchmark does not tell {test}: {csv}"))
}
