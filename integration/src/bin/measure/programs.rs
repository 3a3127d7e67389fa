//! Which programs move: each in a pod, with a client connected. Under DMTCP also: which it carries.

mod list;
mod page;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mycedrive_integration::workload::client::{Client, now_ns};
use mycedrive_integration::workload::migrations;
use mycedrive_integration::{Node, Pod, RunningPod, Testbed};
use serde::Serialize;

use crate::engine::{self, Engine};
use crate::{Conditions, write_json};
use list::Program;

/// A program may take this long to serve.
const READY: Duration = Duration::from_secs(40);
/// kubelet tries this long to start the destination.
const TRY: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_millis(700);
const CONTAINER: &str = "main";
/// Where CRI puts a checkpoint that nobody wants.
const CHECKPOINT: &str = "/tmp/programs.tar";

/// What happened to one program.
#[derive(Default, Serialize)]
struct Outcome {
    program: &'static str,
    version: String,
    user: String,
    processes: String,
    engine: String,
    /// Why it is not the one that was asked for.
    engine_why: String,
    /// Empty: CRI checkpointed it, and the program and its client went on.
    checkpoint: String,
    moved: bool,
    freeze_ms: Option<u64>,
    longest_gap_ms: Option<f64>,
    lost: u64,
    errors: u64,
    reason: String,
}

#[derive(Serialize)]
struct Measured {
    conditions: Conditions,
    programs: Vec<Outcome>,
}

/// Moves the programs whose name contains `only`; writes `programs.json`, and the page if it was all of
/// them.
pub fn run(testbed: &Testbed, engine: Engine, only: &str, page: &Path, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let mut outcomes = Vec::new();
    for program in list::all() {
        if !program.name.contains(only) {
            continue;
        }
        // What an earlier program did to DMTCP is not to be held against this one.
        let forget = "rm -rf /var/lib/mycedrive/dmtcp/fatal";
        testbed
            .workers()
            .try_for_each(|node| node.sh(forget).map(drop))?;
        let outcome = try_one(testbed, engine, &program).unwrap_or_else(|error| Outcome {
            program: program.name,
            reason: format!("not tried: {}", short(&format!("{error:#}"))),
            ..Outcome::default()
        });
        println!("{}", page::row(engine, &outcome));
        outcomes.push(outcome);
        testbed.workers().try_for_each(Node::remove_all_pods)?;
    }
    if only.is_empty() {
        let text = page::text(engine, &conditions, &outcomes);
        std::fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))?;
    }
    write_json(
        out,
        &engine.result("programs"),
        &Measured {
            conditions,
            programs: outcomes,
        },
    )
}

fn try_one(testbed: &Testbed, engine: Engine, program: &Program) -> Result<Outcome> {
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    let pod = engine.of(Pod::new("programs", "pod").with(program.container.clone()));
    let source = a.run_pod(&pod)?;
    let client = connect(testbed.node("client")?, program, &source)?;
    let inside = |script: &str| -> Result<String> {
        // Images of one static program have no shell; the node sees the same processes.
        let pid = format!(
            "ps -e -o pid=,cgroup= | grep {} | awk '{{print $1}}' | head -1",
            &source.id(CONTAINER)[..12]
        );
        Ok(a.sh(&format!("pid=$({pid}); {script}"))?)
    };
    let user = inside("ps -o user:20= -p $pid")?;
    let processes = inside("pgrep -c . --ns $pid --nslist pid")?;
    let version = match program.version {
        [] => String::new(),
        command => a
            .exec_in(&source, CONTAINER, command)?
            .stdout
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let (carried_by, engine_why) = engine::of(a, &source)?;
    let checkpoint = match engine {
        Engine::Dmtcp => checkpoint(a, &source)?,
        _ => String::new(),
    };
    let start = now_ns();
    let arrived = b.run_pod_within(&pod.migrate_from(&a.address()), TRY);
    std::thread::sleep(SETTLE);
    let report = client.finish()?;
    let reason = match &arrived {
        Err(error) => short(&error.to_string()),
        Ok(_) if report.is_clean() && report.connections == 1 => String::new(),
        Ok(_) => format!(
            "the client lost its connection: {}",
            report.first_error.clone().unwrap_or_default()
        ),
    };
    Ok(Outcome {
        program: program.name,
        version,
        user: user.trim().to_owned(),
        processes: processes.trim().to_owned(),
        engine: carried_by,
        engine_why: engine_why.replace('|', "/"),
        checkpoint,
        moved: arrived.is_ok(),
        freeze_ms: arrived
            .is_ok()
            .then(|| migrations::newest(b).ok()?.freeze_ms)
            .flatten(),
        longest_gap_ms: report
            .longest_gap(start, u64::MAX)
            .map(|gap| gap.milliseconds),
        lost: report.lost + report.doubled,
        errors: report.errors,
        reason,
    })
}

/// What CRI says of a checkpoint; nothing when it made one.
fn checkpoint(node: &Node, pod: &RunningPod) -> Result<String> {
    let made = node
        .cri()?
        .checkpoint_container(pod.id(CONTAINER), CHECKPOINT);
    node.sh(&format!("rm -f {CHECKPOINT}"))?;
    std::thread::sleep(SETTLE);
    Ok(made.map_or_else(|error| short(&error.to_string()), |()| String::new()))
}

/// A client that counts, once the program serves.
fn connect(node: &Node, program: &Program, pod: &RunningPod) -> Result<Client> {
    let port = program.protocol.port().to_string();
    let script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)";
    let until = Instant::now() + READY;
    while !node
        .exec(&["python3", "-c", script, &pod.ip, &port])?
        .success()
    {
        if Instant::now() > until {
            bail!("{} does not serve", program.name);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let address = pod.ip.parse()?;
    let client = Client::speaking(program.protocol, node, &Client::program()?, address)?;
    std::thread::sleep(SETTLE);
    Ok(client)
}

/// The cause, without what is around it in the CRI's error.
fn short(error: &str) -> String {
    let cause = ["cannot move now: ", "failed: "]
        .iter()
        .find_map(|before| Some(error.rsplit_once(before)?.1))
        .unwrap_or(error);
    cause
        .split(" (whole log")
        .next()
        .unwrap_or(cause)
        .replace('|', "/")
}
