//! The operator's socket: what the command asks of the daemon.

use serde::{Deserialize, Serialize};

/// A person's decision about a held migration. The text that `resolve` returns says what was
/// done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decide {
    /// The pod goes on on this node; the person vouches that it does not run on the other.
    RunHere,
    /// The pod runs on the other node; this node's copy is discarded.
    RunThere,
}
