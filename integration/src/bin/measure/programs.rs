//! Which programs move: each in a pod, with a client connected.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mycedrive_integration::workload::client::{Client, now_ns};
use mycedrive_integration::workload::migrations;
use mycedrive_integration::workload::protocol::Protocol;
use mycedrive_integration::{Container, Node, Pod, RunningPod, Testbed};
use serde::Serialize;

use crate::{Conditions, write_json};

const ASYNCIO: &str = include_str!("../../image/programs/counter_asyncio.py");
const THREADS: &str = include_str!("../../image/programs/counter_threads.py");
/// A program may take this long to serve.
const READY: Duration = Duration::from_secs(40);
/// kubelet tries this long to start the destination.
const TRY: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_millis(700);
const CONTAINER: &str = "main";

/// A program and how to reach it.
struct Program {
    name: &'static str,
    container: Container,
    protocol: Protocol,
    /// Prints its version in the first line.
    version: &'static [&'static str],
}

fn all() -> Vec<Program> {
    let program = |name, image: &str, args: &[&str], protocol, version| Program {
        name,
        container: Container::new(CONTAINER, image, args),
        protocol,
        version,
    };
    let counter = Protocol::Redis;
    let python = &["python3", "--version"][..];
    vec![
        program(
            "redis",
            "redis",
            &[],
            counter,
            &["redis-server", "--version"],
        ),
        program(
            "redis, user 999",
            "redis-user",
            &[],
            counter,
            &["redis-server", "--version"],
        ),
        program(
            "python, asyncio",
            "python",
            &["python3", "-c", ASYNCIO],
            counter,
            python,
        ),
        program(
            "python, threads",
            "python",
            &["python3", "-c", THREADS],
            counter,
            python,
        ),
        program(
            "mosquitto",
            "mosquitto",
            &[],
            Protocol::Mqtt,
            &["sh", "-c", "mosquitto -h"],
        ),
        program(
            "memcached",
            "memcached",
            &[],
            Protocol::Memcached,
            &["memcached", "--version"],
        ),
        program(
            "nginx, 2 workers",
            "nginx",
            &[],
            Protocol::Http,
            &["sh", "-c", "nginx -v 2>&1"],
        ),
        program(
            "postgres",
            "postgres",
            &[],
            Protocol::Postgres,
            &["postgres", "--version"],
        ),
        program("node", "node", &[], counter, &["node", "--version"]),
        Program {
            name: "node, seccomp RuntimeDefault",
            container: Container::new(CONTAINER, "node", &[]).default_seccomp(),
            protocol: counter,
            version: &["node", "--version"],
        },
        program(
            "java",
            "java",
            &[],
            counter,
            &["sh", "-c", "java -version 2>&1"],
        ),
        program("Go, net.Listen", "go", &[], counter, &[]),
        program("static, musl, threads", "musl", &[], counter, &[]),
    ]
}

/// What happened to one program.
#[derive(Default, Serialize)]
struct Outcome {
    program: &'static str,
    version: String,
    user: String,
    processes: String,
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
pub fn run(testbed: &Testbed, only: &str, page: &Path, out: &Path) -> Result<()> {
    let conditions = Conditions::now();
    let mut outcomes = Vec::new();
    for program in all() {
        if !program.name.contains(only) {
            continue;
        }
        let outcome = try_one(testbed, &program).unwrap_or_else(|error| Outcome {
            program: program.name,
            reason: format!("not tried: {}", short(&format!("{error:#}"))),
            ..Outcome::default()
        });
        println!("{}", row(&outcome));
        outcomes.push(outcome);
        testbed.workers().try_for_each(Node::remove_all_pods)?;
    }
    if only.is_empty() {
        let text = page_text(&conditions, &outcomes);
        std::fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))?;
    }
    write_json(
        out,
        "programs",
        &Measured {
            conditions,
            programs: outcomes,
        },
    )
}

fn try_one(testbed: &Testbed, program: &Program) -> Result<Outcome> {
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    let pod = Pod::new("programs", "pod").with(program.container.clone());
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

fn row(outcome: &Outcome) -> String {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.0}"));
    let result = match (outcome.moved, outcome.reason.is_empty()) {
        (true, true) => "yes",
        (true, false) => "without the connection",
        (false, _) => "no",
    };
    format!(
        "| {} | {} | {} | {} | {result} | {} | {} | {} | {} |",
        outcome.program,
        outcome.version,
        outcome.user,
        outcome.processes,
        number(outcome.freeze_ms.map(|value| value as f64)),
        number(outcome.longest_gap_ms),
        outcome.lost + outcome.errors,
        outcome.reason
    )
}

fn page_text(conditions: &Conditions, outcomes: &[Outcome]) -> String {
    let mut text = String::from(HEAD);
    for outcome in outcomes {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", row(outcome));
    }
    let _ = write!(
        text,
        "\nOne run: {} build, {} cores, kernel {}, load {}.\n{FOOT}",
        conditions.build, conditions.cores, conditions.kernel, conditions.load_1min
    );
    text
}

const HEAD: &str = "\
# Programs that move

Written by `cargo run --release --bin measure -- programs`: each program runs in a pod on one node of the
testbed, a client on a third node counts in it over one TCP connection, and the pod moves to another node.
Engine: CRIU. Packages are those of Debian forky; the Go and musl programs and what python, node and java run
are in `integration/src/image/programs`. Times are milliseconds.

| program | version | user | processes | moves | freeze | client's longest gap | lost or wrong | reason |
|---|---|---|---|---|---|---|---|---|
";

const FOOT: &str = "
- **MPTCP.** Go programs listen with MPTCP where the kernel has it, and CRIU has no image for it. The shim
  switches it off in a pod's network namespace before the pod's first process starts (`net.mptcp.enabled=0`).
- **io_uring.** A process that has a ring open is refused. node 24 opens one when it starts, also with
  `UV_USE_IO_URING=0`; with the seccomp profile RuntimeDefault it cannot, and works without.
";
