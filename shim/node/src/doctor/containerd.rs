//! containerd: does it answer, does it know the runtime.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use toml::{Table, Value};

use super::Check;
use crate::config::Config;
use crate::digest::Digests;

const FILE: &str = "/etc/containerd/config.toml";
const RUNTIME: &str = "io.containerd.mycedrive.v2";
const ANNOTATIONS: &str = "mycedrive.io/*";
const NAME: &str = "containerd runtime";

/// All checks of containerd.
pub async fn checks(config: &Config) -> Vec<Check> {
    let socket = &config.containerd.socket;
    let answers = match Digests::new(socket.clone()).reachable().await {
        Ok(()) => Check::ok("containerd", format!("answers on {}", socket.display())),
        Err(error) => Check::fail(
            "containerd",
            error.to_string(),
            "start containerd, or set containerd.socket",
        ),
    };
    vec![answers, runtime().await]
}

async fn runtime() -> Check {
    let Some(text) = configuration().await else {
        return Check::fail(
            NAME,
            format!("containerd has no configuration {FILE}"),
            "mycedrive-installer writes it",
        );
    };
    match text.parse::<Table>() {
        Ok(table) => runtime_in(&table),
        Err(error) => Check::fail(NAME, format!("{FILE}: {}", error.message()), "correct it"),
    }
}

/// What containerd itself makes of its files, else the file.
async fn configuration() -> Option<String> {
    if !Path::new(FILE).exists() {
        return None;
    }
    let mut command = Command::new("containerd");
    command.args(["config", "dump"]).kill_on_drop(true);
    if let Ok(Ok(output)) = timeout(Duration::from_secs(10), command.output()).await
        && output.status.success()
    {
        return String::from_utf8(output.stdout).ok();
    }
    std::fs::read_to_string(FILE).ok()
}

/// Looks for the handler in a parsed configuration (version 2 or 3).
pub(super) fn runtime_in(table: &Table) -> Check {
    let handler = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
        .iter()
        .find_map(|plugin| {
            table
                .get("plugins")?
                .get(plugin)?
                .get("containerd")?
                .get("runtimes")?
                .as_table()
        })
        .and_then(|all| {
            all.iter().find(|(_, runtime)| {
                runtime.get("runtime_type").and_then(Value::as_str) == Some(RUNTIME)
            })
        });
    let Some((name, runtime)) = handler else {
        return Check::fail(
            NAME,
            format!("no runtime of type {RUNTIME}"),
            "mycedrive-installer adds it; then restart containerd",
        );
    };
    let passed = runtime
        .get("pod_annotations")
        .and_then(Value::as_array)
        .is_some_and(|all| all.iter().any(|one| one.as_str() == Some(ANNOTATIONS)));
    if passed {
        Check::ok(NAME, format!("{name}, annotations are passed"))
    } else {
        Check::fail(
            NAME,
            format!("runtime {name} does not pass the pods' annotations"),
            format!("add pod_annotations = [\"{ANNOTATIONS}\"] to it; then restart containerd"),
        )
    }
}
