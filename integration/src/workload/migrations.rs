//! What a node's daemon tells of its migrations.

use mycedrive_node::progress::Progress;

use crate::{Error, Node, Result};

/// All that the node knows, the newest first.
pub fn all(node: &Node) -> Result<Vec<Progress>> {
    let text = node.sh("mycedrive migrations --json")?;
    let mut all: Vec<Progress> = serde_json::from_str(&text).map_err(|error| Error::Command {
        command: "mycedrive migrations --json".to_owned(),
        status: error.to_string(),
        output: text,
    })?;
    all.sort_by_key(|progress| std::cmp::Reverse(progress.started_ns));
    Ok(all)
}

/// The newest.
pub fn newest(node: &Node) -> Result<Progress> {
    all(node)?.into_iter().next().ok_or_else(|| Error::Unknown {
        kind: "migration",
        name: "any".to_owned(),
        hint: format!("see `mycedrive migrations` on {}", node.name()),
    })
}
