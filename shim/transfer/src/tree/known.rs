//! What a sender knows of the blocks that the receiver has, and which of them are as they were.

use std::collections::HashSet;
use std::fs::File;

use super::blocks::{BLOCK, blocks, fill};
use super::digests::digest;
use super::marks::{Mark, Marks, Prints};
use crate::wire::Digest;

/// Threads that compare a file, and blocks (4 MiB) from which on it is worth starting them.
const MOST_THREADS: usize = 4;
const BLOCKS_FOR_THREADS: usize = 64;

/// A block with data at the receiver.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Where it is in the file, counted in blocks.
    pub(crate) number: u64,
    pub(crate) content: Content,
    /// `None`: when it differs all of it is sent.
    pub(crate) prints: Option<Prints>,
}

/// What the receiver has in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// This sender sent it.
    Sent(Mark),
    /// The receiver listed it.
    Listed(Digest),
    /// Not known.
    Unknown,
}

impl Content {
    /// Whether the receiver has what is in `buffer`.
    pub(super) fn is(
        &self,
        marks: &Marks,
        pieces: &[(u64, u64)],
        number: u64,
        buffer: &[u8],
    ) -> bool {
        match self {
            Self::Sent(mark) => *mark == marks.of_block(pieces, number, buffer),
            Self::Listed(listed) => *listed == digest(pieces, number, buffer),
            Self::Unknown => false,
        }
    }
}

/// Numbers of the blocks that are what the receiver has. The freeze waits for this when a large
/// file has changed, so it is done by several threads. A file that changes meanwhile is found to
/// have done so by its ctime.
pub(super) fn unchanged(
    file: &File,
    segments: &[(u64, u64)],
    there: &[Block],
    marks: &Marks,
) -> HashSet<u64> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.clamp(1, MOST_THREADS);
    if there.len() < BLOCKS_FOR_THREADS || threads == 1 {
        return HashSet::new();
    }
    let all: Vec<(u64, Vec<(u64, u64)>)> = blocks(segments).collect();
    let compare = |part: &[(u64, Vec<(u64, u64)>)]| -> Vec<u64> {
        let mut buffer = vec![0; BLOCK as usize];
        let mut same = Vec::new();
        let first = part.first().map_or(0, |(number, _)| *number);
        let from = there.partition_point(|block| block.number < first);
        let mut known = there[from..].iter().peekable();
        for (number, pieces) in part {
            while known.next_if(|block| block.number < *number).is_some() {}
            let Some(known) = known.next_if(|block| block.number == *number) else {
                continue;
            };
            let end = pieces
                .last()
                .map_or(0, |(_, end)| (end - number * BLOCK) as usize);
            if fill(file, pieces, *number, &mut buffer) == Some(end)
                && known.content.is(marks, pieces, *number, &buffer)
            {
                same.push(*number);
            }
        }
        same
    };
    std::thread::scope(|scope| {
        let size = all.len().div_ceil(threads).max(1);
        let working: Vec<_> = all
            .chunks(size)
            .map(|part| scope.spawn(|| compare(part)))
            .collect();
        // What a thread that failed has not compared is compared again.
        let found = working
            .into_iter()
            .map(|work| work.join().unwrap_or_default());
        found.flatten().collect()
    })
}
