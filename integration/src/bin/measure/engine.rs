//! Under which engine pods are measured.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use mycedrive_integration::{Node, Pod, RunningPod, dmtcp};
use mycedrive_node::operator::pods::PodInfo;

const ANNOTATION: &str = "mycedrive.io/engine";

/// The one that a pod asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    Criu,
    /// Must be installed on this machine.
    Dmtcp,
    /// None: the bare program.
    None,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Criu => "criu",
            Self::Dmtcp => "dmtcp",
            Self::None => "none",
        }
    }

    /// Results under it are named so: `NAME`, or for DMTCP `NAME-dmtcp`.
    pub fn result(self, name: &str) -> String {
        match self {
            Self::Criu => name.to_owned(),
            other => format!("{name}-{}", other.name()),
        }
    }

    /// An error if this machine does not have it.
    pub fn check(self) -> Result<()> {
        ensure!(
            self != Self::Dmtcp || dmtcp().is_some(),
            "DMTCP is not installed on this machine (docs/engines.md)"
        );
        Ok(())
    }

    /// The pod, asking for it.
    pub fn of(self, pod: Pod) -> Pod {
        pod.annotation(ANNOTATION, self.name())
    }
}

/// The engine of a pod's first container, and why it is not the one that was asked for.
pub fn of(node: &Node, pod: &RunningPod) -> Result<(String, String)> {
    let text = node.sh("mycedrive ps --json")?;
    let pods: Vec<PodInfo> = serde_json::from_str(&text).context("`mycedrive ps --json`")?;
    let container = pods
        .into_iter()
        .find(|known| known.sandbox == pod.sandbox)
        .and_then(|known| known.containers.into_iter().next())
        .context("`mycedrive ps` does not show the pod")?;
    Ok((container.engine, container.engine_why))
}
