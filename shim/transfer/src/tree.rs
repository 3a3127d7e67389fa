//! Directory trees: writable root layers, `/dev/shm`, emptyDirs.

mod applying;
mod blocks;
mod content;
mod digests;
mod have;
mod index;
mod known;
mod marks;
pub(crate) mod meta;
mod plan;
mod receiver;
mod scan;
mod sender;
mod sending;
mod wipe;
mod written;

pub use have::have;
pub use receiver::{ReceivedRound, TreeReceiver};
pub(crate) use scan::{ScannedFile, list_files};
pub use sender::{FinalRound, Round, RoundSummary, TreeSender};
pub(crate) use wipe::wipe;
pub use written::Written;

use std::fmt;

use crate::error::{Error, Result};
use crate::wire::MAX_NAME;

/// Names a tree within a migration, for example `rootfs/redis`. It is a label, never used as a
/// path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeId(String);

impl TreeId {
    /// A name of 1 to 255 bytes.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.len() > MAX_NAME {
            let (size, limit) = (name.len() as u64, MAX_NAME as u64);
            return Err(Error::TooLarge {
                what: "a tree's name",
                size,
                limit,
            });
        }
        Ok(Self(name))
    }

    /// From a frame, whose decoder has checked it.
    pub(crate) fn decoded(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Stands for a round before: the receiver has what it listed with [`have`].
pub(crate) const LISTED: u32 = u32::MAX;

/// Announces a round of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeBegin {
    /// Which tree.
    pub id: TreeId,
    /// Random number of the sender's index, so that a delta never meets another sender's state.
    pub(crate) session: u64,
    /// The round this one builds on; 0 for a full round, [`LISTED`] for one that builds on what
    /// the receiver found in its directory.
    pub(crate) base: u32,
    /// This round's number, counted from 1.
    pub(crate) round: u32,
}

impl TreeBegin {
    /// Whether the round carries the whole tree and so fits any receiver.
    pub const fn is_full(&self) -> bool {
        self.base == 0
    }

    /// The round's number, counted from 1.
    pub const fn round(&self) -> u32 {
        self.round
    }
}
