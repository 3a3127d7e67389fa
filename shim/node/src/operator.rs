//! The operator's socket: what the command asks of the daemon.
//!
//! One JSON object a line, on the unix socket `operator.sock` (mode 0600). The command sends an
//! [`Ask`]; the daemon answers with [`Answer`]s: one, or for [`Ask::Watch`] one per change until
//! the migration has ended.

pub mod client;
pub mod pods;
pub mod server;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::archive::sealed::Protection;
use crate::progress::Progress;
use pods::PodInfo;

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

/// A question of the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Pods of this node.
    Pods,
    /// All migrations, newest first.
    Migrations,
    /// One migration as it is now.
    Show {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// One migration until it has ended.
    Watch {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// Copies a consistent layer of a volume.
    CheckpointVolume {
        /// `NAMESPACE/POD`.
        pod: String,
        /// `CONTAINER:PATH`, as the container sees it.
        volume: String,
        /// Directory for the layer; must not exist.
        out: std::path::PathBuf,
    },
    /// Decides a held migration.
    Resolve {
        /// Its id, or the beginning of it.
        id: String,
        /// How.
        decide: Decide,
    },
    /// Gives a parked pod up.
    Drop {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// Cancels a migration that has not been decided.
    Cancel {
        /// Its id, or the beginning of it.
        id: String,
        /// For the log and the other side.
        reason: String,
    },
    /// Writes an archive of a pod.
    Checkpoint {
        /// NAMESPACE/POD, or the id of a task.
        target: String,
        /// The file, an absolute path.
        output: std::path::PathBuf,
        /// The pod is held afterwards.
        hold: bool,
        /// Who can read the file.
        protection: Protection,
    },
}

/// An answer of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Ask::Pods`].
    Pods(Vec<PodInfo>),
    /// To [`Ask::Migrations`].
    Migrations(Vec<Progress>),
    /// To [`Ask::Show`] and [`Ask::Watch`].
    Migration(Box<Progress>),
    /// What was done.
    Done(String),
    /// Why not.
    Failed(String),
}
