//! Digests of a file's blocks and of the pieces of a block, and which blocks did not change.

use std::collections::HashSet;
use std::fs::File;

use super::content::{Block, blocks, fill};
use crate::wire::Digest;

/// Files are compared in blocks of this many bytes.
pub(crate) const BLOCK: u64 = 64 * 1024;
/// Blocks that differ are sent in pieces of this many bytes, where the pieces' prints are known.
pub(super) const PIECE: usize = 4096;
const PIECES: usize = BLOCK as usize / PIECE;
/// Threads that compare a file, and blocks (4 MiB) from which on it is worth starting them.
const MOST_THREADS: usize = 4;
const BLOCKS_FOR_THREADS: usize = 64;

/// The first half of a piece's digest.
type Print = [u8; 16];
/// Prints of a block's pieces.
pub(crate) type Prints = Box<[Print; PIECES]>;

/// Digest of a block: of its bytes, where all of it is data; else of the places and bytes of its
/// data.
pub(super) fn digest(pieces: &[(u64, u64)], number: u64, buffer: &[u8]) -> Digest {
    digest_of(pieces, number * BLOCK, BLOCK, buffer)
}

/// Prints of a block's pieces: of no data, zeros.
pub(super) fn prints_of(pieces: &[(u64, u64)], number: u64, buffer: &[u8]) -> Prints {
    let mut prints: Prints = Box::default();
    for (at, print) in prints.iter_mut().enumerate() {
        let start = number * BLOCK + (at * PIECE) as u64;
        let mut data = clip(pieces, start, start + PIECE as u64).peekable();
        if data.peek().is_some() {
            let data: Vec<(u64, u64)> = data.collect();
            let digest = digest_of(&data, start, PIECE as u64, buffer);
            print.copy_from_slice(&digest[..size_of::<Print>()]);
        }
    }
    prints
}

/// Digest of the range of `length` bytes at `start`, whose data is in `data`.
fn digest_of(data: &[(u64, u64)], start: u64, length: u64, buffer: &[u8]) -> Digest {
    if data == [(start, start + length)] {
        let from = (start % BLOCK) as usize;
        return *blake3::hash(&buffer[from..from + length as usize]).as_bytes();
    }
    in_parts(data.iter().copied(), buffer)
}

/// Numbers of the blocks that are what the receiver has. The freeze waits for this when a large
/// file has changed, so it is done by several threads. A file that changes meanwhile is found to
/// have done so by its ctime.
pub(super) fn unchanged(file: &File, segments: &[(u64, u64)], there: &[Block]) -> HashSet<u64> {
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
                && digest(pieces, *number, &buffer) == known.digest
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

fn in_parts(data: impl Iterator<Item = (u64, u64)>, buffer: &[u8]) -> Digest {
    // A key of its own: no bytes of a whole piece have such a digest.
    let mut hasher = blake3::Hasher::new_keyed(b"parts of a piece, between holes.");
    for (start, end) in data {
        let at = (start % BLOCK) as usize;
        let bytes = &buffer[at..at + (end - start) as usize];
        hasher.update(&(at as u32).to_le_bytes());
        hasher.update(&(bytes.len() as u32).to_le_bytes());
        hasher.update(bytes);
    }
    *hasher.finalize().as_bytes()
}

/// The parts of `pieces` between two offsets.
pub(super) fn clip(
    pieces: &[(u64, u64)],
    from: u64,
    to: u64,
) -> impl Iterator<Item = (u64, u64)> + '_ {
    pieces
        .iter()
        .map(move |&(start, end)| (start.max(from), end.min(to)))
        .filter(|(start, end)| start < end)
}
