//! What the receiver has after a round, as far as the sender needs to know it.

use std::collections::{BTreeMap, HashMap};

use super::known::Block;
use crate::wire::Time;

/// A path relative to the tree's root; empty for the root. Sorted, a directory comes before what
/// is in it.
pub(crate) type RelPath = Box<[u8]>;

/// An inode that the receiver has.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    /// The S_IFMT part of the mode.
    pub(crate) kind: u32,
    pub(crate) device: u64,
    /// ctime of the stat taken before it was copied.
    pub(crate) ctime: Time,
    /// It may have changed since that stat without a new ctime, or was copied incompletely.
    pub(crate) doubtful: bool,
    /// The blocks that have data, sorted by number.
    pub(crate) blocks: Vec<Block>,
}

/// State of the receiver.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Every name, with its inode number on the source.
    pub(crate) paths: BTreeMap<RelPath, u64>,
    pub(crate) inodes: HashMap<u64, Inode>,
}
