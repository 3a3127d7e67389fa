//! `crictl`, as a person at a node uses it: a container's life under both handlers, and a checkpoint that
//! CRI restores. Skipped where this machine has no `crictl`: Debian has no package of it.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::{Node, Testbed, crictl};

use crate::engine::{self, ANNOTATION};
use crate::expect;
use crate::world::{Scenario, Skip, three};

pub fn all() -> Vec<Scenario> {
    let mut scenarios = vec![Scenario::new("crictl::life", life)];
    for engine in ["criu", "dmtcp"] {
        let body = move |testbed: &Testbed| checkpoint(testbed, engine);
        scenarios.push(Scenario::new(format!("crictl::checkpoint::{engine}"), body));
    }
    scenarios
}

/// Both engines carry it: counts in its root layer, ten times a second.
const COUNT: &str = r#"import os, time
print("up", flush=True)
n = 0
while True:
    n += 1
    with open("/count.new", "w") as file: file.write(str(n))
    os.replace("/count.new", "/count")
    time.sleep(0.1)"#;
const IMAGE: &str = "localhost/python:1";
const ARCHIVE: &str = "/srv/crictl/one.tar";
const TAMPERED: &str = "/srv/crictl/tampered.tar";
/// Changes the memory in an archive.
const TAMPER: &str = "cd /srv/crictl; rm -rf tampered; mkdir tampered; tar -xf one.tar -C tampered
    printf x >>$(ls tampered/checkpoint/pages-1.img tampered/checkpoint/*.dmtcp 2>/dev/null | head -n 1)
    tar -cf tampered.tar -C tampered .; rm -rf tampered";

fn program() -> Result<PathBuf> {
    crictl().ok_or_else(|| Skip("this machine has no crictl in its PATH".to_owned()).into())
}

/// A pod and its container, made and started by `crictl`. Removed at the end.
struct Made<'a> {
    node: &'a Node,
    pod: String,
    container: String,
}

impl<'a> Made<'a> {
    /// `image` may be an archive of a checkpoint.
    fn start(node: &'a Node, handler: &str, engine: &str, image: &str) -> Result<Self> {
        let security = serde_json::json!({ "namespace_options": { "pid": 1 } });
        let pod = serde_json::json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "1", "attempt": 0 },
            "hostname": "web",
            "log_directory": "/var/log/pods/shop_web_1",
            "annotations": { ANNOTATION: engine },
            "linux": {
                "cgroup_parent": "/kubepods/pod1",
                "security_context": security,
            },
        });
        let container = serde_json::json!({
            "metadata": { "name": "main" },
            "image": { "image": image },
            "command": ["python3", "-c", COUNT],
            "log_path": "main.log",
            "linux": { "security_context": security },
        });
        node.sh("mkdir -p /srv/crictl")?;
        for (name, text) in [("pod", pod), ("container", container)] {
            std::fs::write(
                node.path(&format!("/srv/crictl/{name}.json")),
                text.to_string(),
            )?;
        }
        let pod = node.sh(&format!(
            "crictl runp --runtime {handler} /srv/crictl/pod.json"
        ))?;
        let mut made = Self {
            node,
            pod,
            container: String::new(),
        };
        made.container = node.sh(&format!(
            "cd /srv/crictl; crictl create {} container.json pod.json",
            made.pod
        ))?;
        made.run("start", "")?;
        Ok(made)
    }

    /// A command of `crictl` for the container; its output.
    fn run(&self, command: &str, more: &str) -> Result<String> {
        let script = format!("crictl {command} {} {more}", self.container);
        Ok(self.node.sh(&script)?)
    }

    fn count(&self) -> Result<u64> {
        let text = self.run("exec --sync", "cat /count")?;
        text.parse().with_context(|| format!("the count {text:?}"))
    }

    fn counts_beyond(&self, before: u64) -> Result<u64> {
        let mut now = 0;
        expect::soon("a higher count", 20, || {
            now = self.count().unwrap_or(0);
            Ok(now > before)
        })?;
        Ok(now)
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.node.sh(&format!("crictl rmp -f {}", self.pod)) {
            eprintln!("pod {} of crictl: {error}", self.pod);
        }
    }
}

/// The same commands under both handlers say the same.
fn life(testbed: &Testbed) -> Result<()> {
    let (a, ..) = three(testbed)?;
    a.install_crictl(&program()?)?;
    let seen = |handler: &str| -> Result<String> {
        let made = Made::start(a, handler, "auto", IMAGE)?;
        made.counts_beyond(0)?;
        let id = &made.container;
        let state =
            "-o go-template --template '{{.status.state}} {{.status.exitCode}} {{.status.reason}}'";
        let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
        let mut text = String::new();
        for script in [
            "crictl pods --name web -o json | grep -c '\"runtimeHandler\"'".to_owned(),
            format!("crictl ps -q | grep -c {id}"),
            format!("crictl inspect {state} {id}"),
            format!("crictl exec {id} cat /etc/hostname"),
            format!("crictl exec --sync {id} sh -c 'exit 3' 2>&1 | grep -o 'exited with 3'"),
            format!("crictl logs {id}"),
            // Statistics and limits are of the same groups.
            format!("crictl stats -o json {id} | grep -c workingSetBytes"),
            format!(
                "crictl statsp -o json {} | grep -c workingSetBytes",
                made.pod
            ),
            format!(
                "crictl update --memory 67108864 {id} >/dev/null; crictl exec --sync {id} {limit}"
            ),
            format!("crictl stop -t 1 {id} >/dev/null; crictl inspect {state} {id}"),
            format!("crictl exec --sync {id} true 2>&1 | grep -o 'code = [A-Za-z]*' | tail -n 1"),
            format!("crictl rm {id} >/dev/null; crictl ps -aq | grep -c {id} || true"),
            format!(
                "crictl stopp {} >/dev/null; crictl pods -q --state NotReady | wc -l",
                made.pod
            ),
        ] {
            let said = a.sh(&script).with_context(|| handler.to_owned())?;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{}: {said}",
                script.replace(id, "ID").replace(&made.pod, "POD")
            );
        }
        Ok(text)
    };
    let reference = seen("runc")?;
    expect::equal("under mycedrive", seen("mycedrive")?, reference)
}

/// `crictl checkpoint` while the program goes on; CRIU's archive is read by `checkpointctl`, and another pod
/// goes on from it.
fn checkpoint(testbed: &Testbed, engine: &'static str) -> Result<()> {
    let (a, ..) = three(testbed)?;
    a.install_crictl(&program()?)?;
    engine::need(a, engine)?;
    let version = a.sh("crictl version | grep RuntimeVersion")?;
    if version.contains("1.7.") {
        return Err(Skip("containerd 1.7 has no CheckpointContainer".to_owned()).into());
    }
    // What CRI writes into the archive as the image is what it will pull.
    a.serve_image(IMAGE)?;
    let result = there_and_back(a, engine);
    a.stop_images()?;
    result
}

fn there_and_back(a: &Node, engine: &str) -> Result<()> {
    let before = {
        let made = Made::start(a, "mycedrive", engine, IMAGE)?;
        made.counts_beyond(3)?;
        a.sh(&format!("rm -f {ARCHIVE}"))?;
        made.run(&format!("checkpoint --export={ARCHIVE}"), "")?;
        let before = made.count()?;
        made.counts_beyond(before)?;
        before
    };
    let shown = a.sh(&format!("checkpointctl show {ARCHIVE}"))?;
    let wanted = ["io.containerd.mycedrive.v2", IMAGE, "main"];
    expect::contains("checkpointctl show", &shown, &wanted)?;
    if engine == "criu" {
        let inspected = a.sh(&format!(
            "checkpointctl inspect --stats --ps-tree {ARCHIVE}"
        ))?;
        let wanted = ["Frozen time", "Pages written", "[1]  python3"];
        expect::contains("checkpointctl inspect", &inspected, &wanted)?;
    }
    a.sh(TAMPER)?;
    let tampered = Made::start(a, "mycedrive", engine, TAMPERED).map(drop);
    let message = expect::failure("a pod from a changed archive", tampered)?;
    let named = if engine == "criu" {
        "pages-1.img"
    } else {
        ".dmtcp"
    };
    expect::contains("message", &message, &[named])?;
    let restored = Made::start(a, "mycedrive", engine, ARCHIVE)?;
    let first = restored.counts_beyond(1)?;
    ensure!(
        first > 3 && first < before + 100,
        "{first} after the restore, {before} at the checkpoint: it did not go on from there"
    );
    restored.counts_beyond(first)?;
    Ok(())
}
