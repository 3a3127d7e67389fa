//! Content of a regular file, by blocks, without the holes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::index::UNKNOWN;
use crate::error::{Error, Result};
use crate::wire::{Digest, Frame, FrameWriter};

/// Files are compared and sent in blocks of this many bytes.
pub(crate) const BLOCK: u64 = 64 * 1024;

/// What was sent of a file.
#[derive(Default)]
pub(crate) struct Sent {
    /// Digests of the blocks with data at the receiver.
    pub(crate) blocks: Vec<(u64, Digest)>,
    /// Bytes of content put into frames.
    pub(crate) bytes: u64,
    /// The file shrank while it was read.
    pub(crate) torn: bool,
}

/// Sends the blocks of `file` (of `size` bytes) that differ from `old`, the blocks that the
/// receiver has. With `update` the receiver's file may hold other data where this one has holes.
pub(crate) fn send<W: Write>(
    out: &mut FrameWriter<W>,
    file: &File,
    path: &[u8],
    size: u64,
    update: bool,
    old: &[(u64, Digest)],
    buffer: &mut Vec<u8>,
) -> Result<Sent> {
    buffer.resize(BLOCK as usize, 0);
    let segments = segments(file, size).map_err(|e| Error::io("find the holes of", path, e))?;
    let mut sent = Sent::default();
    let last = size.div_ceil(BLOCK);
    let mut old = old
        .iter()
        .copied()
        .filter(|(number, _)| *number < last)
        .peekable();
    for (number, pieces) in blocks(&segments) {
        // Blocks that the receiver has and that are holes now.
        while let Some((gone, _)) = old.next_if(|(known, _)| *known < number) {
            punch(out, gone, size)?;
        }
        let known = old
            .next_if(|(known, _)| *known == number)
            .map(|(_, digest)| digest);
        let filled = if sent.torn {
            Some(0)
        } else {
            fill(file, &pieces, number, buffer)
        };
        let complete = pieces
            .last()
            .map_or(0, |(_, end)| (end - number * BLOCK) as usize);
        if filled.is_none_or(|filled| filled < complete) {
            sent.torn = true;
            sent.blocks.push((number, UNKNOWN));
            continue;
        }
        let digest = digest(&pieces, number, buffer);
        sent.blocks.push((number, digest));
        if known == Some(digest) {
            continue;
        }
        let whole = BLOCK.min(size - number * BLOCK);
        let covered: u64 = pieces.iter().map(|(start, end)| end - start).sum();
        if update && covered < whole {
            punch(out, number, size)?;
        }
        for (start, end) in pieces {
            let from = (start - number * BLOCK) as usize;
            let bytes = &buffer[from..from + (end - start) as usize];
            out.put(&Frame::Data {
                offset: start,
                bytes,
            })?;
            sent.bytes += end - start;
        }
    }
    for (gone, _) in old {
        punch(out, gone, size)?;
    }
    Ok(sent)
}

/// Digests of the blocks of `file` that have data, as [`send`] compares them.
pub(crate) fn digests(file: &File, path: &[u8], size: u64) -> Result<Vec<(u64, Digest)>> {
    let mut buffer = vec![0; BLOCK as usize];
    let segments = segments(file, size).map_err(|e| Error::io("find the holes of", path, e))?;
    let mut found = Vec::new();
    for (number, pieces) in blocks(&segments) {
        // What cannot be read is sent, and replaced.
        let known = match fill(file, &pieces, number, &mut buffer) {
            Some(_) => digest(&pieces, number, &buffer),
            None => UNKNOWN,
        };
        found.push((number, known));
    }
    Ok(found)
}

fn punch<W: Write>(out: &mut FrameWriter<W>, number: u64, size: u64) -> Result<()> {
    let offset = number * BLOCK;
    out.put(&Frame::Hole {
        offset,
        length: BLOCK.min(size - offset),
    })
}

/// Reads the pieces of a block to their places in the buffer; returns where the last read byte
/// lies, or `None` after an error (EIO and the like end up as a torn file, retried next round).
fn fill(file: &File, pieces: &[(u64, u64)], number: u64, buffer: &mut [u8]) -> Option<usize> {
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

fn digest(pieces: &[(u64, u64)], number: u64, buffer: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for (start, end) in pieces {
        let from = (start - number * BLOCK) as usize;
        let to = (end - number * BLOCK) as usize;
        hasher.update(&(from as u32).to_le_bytes());
        hasher.update(&(to as u32).to_le_bytes());
        hasher.update(&buffer[from..to]);
    }
    *hasher.finalize().as_bytes()
}

/// Ranges with data, clipped to `size` (lseek(2), SEEK_DATA and SEEK_HOLE).
fn segments(file: &File, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
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
fn blocks(segments: &[(u64, u64)]) -> impl Iterator<Item = (u64, Vec<(u64, u64)>)> + '_ {
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
