//! Volumes: as stacks on one node, and moved with everything that programs do with files.

mod crashes;
mod moves;
mod stack;

use std::time::Duration;

use anyhow::Result;
use mycedrive_integration::Node;

use crate::expect;
use crate::world::Scenario;

const GRACE: Duration = Duration::from_secs(1);
const FOLDER: &str = ".mycedrive-stack";

pub fn all() -> Vec<Scenario> {
    [stack::all(), moves::all(), crashes::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// Where kubelet would have an emptyDir; the same path on each node.
pub fn empty_dir(name: &str) -> String {
    format!("/var/lib/kubelet/pods/{name}/volumes/kubernetes.io~empty-dir/data")
}

/// An empty volume on these nodes, as kubelet makes one.
pub fn fresh(nodes: &[&Node], volume: &str) -> Result<()> {
    for node in nodes {
        node.sh(&format!(
            "rm -rf {volume} && mkdir -p {volume} && chmod 0777 {volume}"
        ))?;
    }
    Ok(())
}

pub fn is_stack(node: &Node, volume: &str) -> Result<bool> {
    Ok(node.sh(&format!("ls -A {volume}"))? == FOLDER)
}

/// No stack is mounted on the node, and none is on record.
pub fn nothing_mounted(node: &Node) -> Result<()> {
    let mounts = node.sh("grep -c mycedrive/volumes /proc/self/mountinfo || true")?;
    expect::equal("mounts of volumes", mounts.as_str(), "0")?;
    let records = node.sh("ls -A /var/lib/mycedrive/volumes 2>/dev/null || true")?;
    expect::equal("records of volumes", records.as_str(), "")
}
