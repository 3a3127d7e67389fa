//! Clients that come while a pod moves: connections that are just being made, datagrams.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::{Pod, Testbed};
use serde_json::Value;

use crate::engine;
use crate::migration::migrate;
use crate::world::{Scenario, need_daemon, three};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("newcomers::criu", |testbed| come(testbed, "criu")),
        Scenario::new("newcomers::dmtcp", |testbed| come(testbed, "dmtcp")),
    ]
}

const SERVER: &str = include_str!("newcomers/server.py");
const CLIENT: &str = include_str!("newcomers/client.py");

/// A client outside connects every few milliseconds and sends datagrams all the time. None of its
/// connections fails, no datagram is missing.
fn come(testbed: &Testbed, engine: &str) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    engine::need(a, engine)?;
    let pod = Pod::new("shop", "echo")
        .container("main", "python", &["python3", "-c", SERVER])
        .annotation(engine::ANNOTATION, engine);
    let source = a.run_pod(&pod)?;
    sleep(Duration::from_secs(1));
    let mut client = outside
        .command(&["python3", "-c", CLIENT, &source.ip])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    sleep(Duration::from_secs(2));
    let moved = migrate(a, b, &pod);
    sleep(Duration::from_secs(2));
    drop(client.stdin.take());
    let report = client.wait_with_output()?.stdout;
    let destination = moved?;
    let report: Value = serde_json::from_slice(&report).context("no report")?;
    let number = |value: &Value| value.as_u64().context("no number");
    ensure!(number(&report["failed"])? == 0, "{report}");
    ensure!(number(&report["done"])? > 100, "{report}");
    let sent = number(&report["sent"])?;
    ensure!(sent > 50, "{report}");
    ensure!(
        number(&report["came"])? == sent,
        "datagrams are missing: {report}"
    );
    b.stop_pod(&destination, Duration::from_secs(1))?;
    a.stop_pod(&source, Duration::from_secs(1))?;
    Ok(())
}
