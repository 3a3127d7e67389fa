//! A file's data in blocks, and where the holes are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Files are compared in blocks of this many bytes.
pub(crate) const BLOCK: u64 = 64 * 1024;
/// Blocks that differ are sent in pieces of this many bytes, where the pieces' marks are known.
pub(super) const PIECE: usize = 4096;
pub(super) const PIECES: usize = BLOCK as usize / PIECE;

/// What is data in a range of a block.
pub(super) enum Data<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// These parts: each with where it begins in the block, and its length, as u32.
    Parts(Vec<([u8; 8], &'a [u8])>),
}

/// The range of `length` bytes at `start`, whose data is in `pieces`, out of its block's `buffer`.
pub(super) fn data<'a>(
    pieces: &[(u64, u64)],
    start: u64,
    length: u64,
    buffer: &'a [u8],
) -> Data<'a> {
    let bytes = |start: u64, end: u64| {
        let at = (start % BLOCK) as usize;
        &buffer[at..at + (end - start) as usize]
    };
    if pieces == [(start, start + length)] {
        return Data::Whole(bytes(start, start + length));
    }
    let parts = pieces.iter().map(|&(start, end)| {
        let mut head = [0; 8];
        head[..4].copy_from_slice(&((start % BLOCK) as u32).to_le_bytes());
        head[4..].copy_from_slice(&((end - start) as u32).to_le_bytes());
        (head, bytes(start, end))
    });
    Data::Parts(parts.collect())
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

/// Reads the pieces of a block to their places in the buffer; returns where the last read byte
/// lies, or `None` after an error (EIO and the like end up as a torn file, retried next round).
pub(super) fn fill(
    file: &File,
    pieces: &[(u64, u64)],
    number: u64,
    buffer: &mut [u8],
) -> Option<usize> {
    let mut reached = 0;
    for (start, end) in pieces {
        let from = (start - number * BLOCK) as usize;
        let to = (end - number * BLOCK) as usize;
        reached = from;
        while reached < to {
            let offset = number * BLOCK + reached as u64;
            match file.read_at(&mut buffer[reached..to], offset) {
                Ok(0) => return Some(reached),
                Ok(count) => reached += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
    Some(reached)
}

/// Ranges with data, clipped to `size` (lseek(2), SEEK_DATA and SEEK_HOLE).
pub(super) fn segments(file: &File, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match lseek(file, at as i64, Whence::SeekData) {
            Ok(start) => start as u64,
            // No data up to the end.
            Err(Errno::ENXIO) => break,
            // The file system does not know holes.
            Err(Errno::EINVAL) if at == 0 => return Ok(vec![(0, size)]),
            Err(errno) => return Err(errno),
        };
        if start >= size {
            break;
        }
        let end = match lseek(file, start as i64, Whence::SeekHole) {
            Ok(end) => (end as u64).min(size),
            // Truncated in between.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno),
        };
        found.push((start, end));
        at = end;
    }
    Ok(found)
}

/// Cuts segments into blocks; yields each block that has data with its pieces.
pub(super) fn blocks(segments: &[(u64, u64)]) -> impl Iterator<Item = (u64, Vec<(u64, u64)>)> + '_ {
    let mut cut = segments.iter().flat_map(|&(start, end)| {
        (start / BLOCK..end.div_ceil(BLOCK))
            .map(move |number| (start.max(number * BLOCK), end.min((number + 1) * BLOCK)))
    });
    let mut ahead = cut.next();
    std::iter::from_fn(move || {
        let first = ahead?;
        let number = first.0 / BLOCK;
        let mut pieces = vec![first];
        ahead = cut.next();
        while let Some(piece) = ahead.filter(|piece| piece.0 / BLOCK == number) {
            pieces.push(piece);
            ahead = cut.next();
        }
        Some((number, pieces))
    })
}

#[cfg(test)]
mod tests;
