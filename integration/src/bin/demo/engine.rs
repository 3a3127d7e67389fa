//! Which engines the demo shows, and whether a pod really runs under the one that it asked for.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use mycedrive_integration::{Node, RunningPod};
use mycedrive_node::operator::pods::PodInfo;

/// Which engine a pod is given.
pub const ANNOTATION: &str = "mycedrive.io/engine";
pub const CRIU: &str = "criu";
pub const DMTCP: &str = "dmtcp";

/// What `--engine` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The kernel's checkpoint support.
    Criu,
    /// Checkpoints in user space; DMTCP must be installed on this machine.
    Dmtcp,
    /// One after the other.
    Both,
}

impl Choice {
    /// The engines, in the order in which they are shown.
    pub fn engines(self) -> &'static [&'static str] {
        match self {
            Self::Criu => &[CRIU],
            Self::Dmtcp => &[DMTCP],
            Self::Both => &[CRIU, DMTCP],
        }
    }

    /// An error if this machine, which has DMTCP in the prefix `dmtcp`, cannot show them.
    pub fn check(self, dmtcp: Option<&Path>) -> Result<()> {
        ensure!(
            !self.engines().contains(&DMTCP) || dmtcp.is_some(),
            "DMTCP is not installed on this machine. It is looked for in /opt/dmtcp, then by the \
             dmtcp_launch in PATH, whose prefix must be its own (not /usr). Build DMTCP 4.1.1 or \
             newer with ./configure --prefix=/opt/dmtcp and install it (docs/engines.md), or show \
             --engine criu"
        );
        Ok(())
    }
}

/// An error if a pod runs under another engine than `engine`: the shim falls back where an engine
/// cannot carry a program.
pub fn verify(node: &Node, pod: &RunningPod, engine: &str) -> Result<()> {
    let text = node.sh("mycedrive ps --json")?;
    let pods: Vec<PodInfo> = serde_json::from_str(&text).context("`mycedrive ps --json`")?;
    carried(&pods, &pod.sandbox, engine).with_context(|| format!("on {}", node.name()))
}

/// Whether all containers of the pod with this sandbox are carried by `engine`.
pub fn carried(pods: &[PodInfo], sandbox: &str, engine: &str) -> Result<()> {
    let pod = pods.iter().find(|pod| pod.sandbox == sandbox);
    let pod = pod.with_context(|| format!("`mycedrive ps` does not show sandbox {sandbox}"))?;
    ensure!(
        !pod.containers.is_empty(),
        "`mycedrive ps` shows no container of pod {}",
        pod.name
    );
    for container in &pod.containers {
        if container.engine != engine {
            bail!(
                "container {} of pod {} asked for {engine} and runs under {}: {}",
                container.name,
                pod.name,
                container.engine,
                container.engine_why
            );
        }
    }
    Ok(())
}
