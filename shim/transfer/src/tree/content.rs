//! Content of a regular file, by blocks, without the holes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

pub(crate) use super::digests::BLOCK;
use super::digests::{PIECE, Prints, clip, digest, prints_of, unchanged};
use super::index::UNKNOWN;
use crate::error::{Error, Result};
use crate::wire::{Digest, Frame, FrameWriter};

/// A block with data at the receiver.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Where it is in the file, counted in blocks.
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    /// `None`: when it differs all of it is sent.
    pub(crate) prints: Option<Prints>,
}

/// What was sent of a file.
#[derive(Default)]
pub(crate) struct Sent {
    /// The blocks with data at the receiver.
    pub(crate) blocks: Vec<Block>,
    /// Bytes of content put into frames.
    pub(crate) bytes: u64,
    /// The file shrank while it was read.
    pub(crate) torn: bool,
}

/// What the receiver has of a file.
#[derive(Default)]
pub(crate) struct There<'a> {
    /// It has the file, which may hold other data where this one has holes.
    pub(crate) update: bool,
    pub(crate) blocks: &'a [Block],
}

/// Sends what of `file` (of `size` bytes) the receiver does not have. Prints of at most `prints`
/// blocks are kept.
pub(crate) fn send<W: Write>(
    out: &mut FrameWriter<W>,
    file: &File,
    path: &[u8],
    size: u64,
    there: &There<'_>,
    prints: usize,
    buffer: &mut Vec<u8>,
) -> Result<Sent> {
    buffer.resize(BLOCK as usize, 0);
    let segments = segments(file, size).map_err(|e| Error::io("find the holes of", path, e))?;
    let mut sent = Sent::default();
    let last = size.div_ceil(BLOCK);
    let old = there.blocks.iter();
    let mut old = old.filter(|block| block.number < last).peekable();
    let same = unchanged(file, &segments, there.blocks);
    for (number, pieces) in blocks(&segments) {
        // Blocks that the receiver has and that are holes now.
        while let Some(gone) = old.next_if(|known| known.number < number) {
            punch(out, gone.number * BLOCK, BLOCK, size)?;
        }
        let known = old.next_if(|known| known.number == number);
        if let Some(known) = known.filter(|known| {
            let printed = known.prints.is_some() || sent.blocks.len() >= prints;
            printed && same.contains(&number)
        }) {
            sent.blocks.push(known.clone());
            continue;
        }
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
            sent.blocks.push(Block {
                number,
                digest: UNKNOWN,
                prints: None,
            });
            continue;
        }
        let digest = digest(&pieces, number, buffer);
        let found = prints_of(&pieces, number, buffer);
        if known.is_none_or(|known| known.digest != digest) {
            let prints = known.and_then(|known| known.prints.as_ref());
            for (from, to) in differing(prints, &found) {
                let range = (number * BLOCK + from as u64, number * BLOCK + to as u64);
                sent.bytes += send_range(out, &pieces, range, size, there.update, buffer)?;
            }
        }
        let keep = sent.blocks.len() < prints;
        sent.blocks.push(Block {
            number,
            digest,
            prints: keep.then_some(found),
        });
    }
    for gone in old {
        punch(out, gone.number * BLOCK, BLOCK, size)?;
    }
    Ok(sent)
}

/// Ranges of a block, in bytes, that are to be sent to a receiver that has the pieces `there`.
fn differing(there: Option<&Prints>, found: &Prints) -> Vec<(usize, usize)> {
    let Some(there) = there else {
        return vec![(0, BLOCK as usize)];
    };
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (number, (there, found)) in there.iter().zip(found.iter()).enumerate() {
        if there == found {
            continue;
        }
        let (from, to) = (number * PIECE, (number + 1) * PIECE);
        match ranges.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => ranges.push((from, to)),
        }
    }
    ranges
}

/// Sends the data of a range of a file that lies in the block in `buffer`; returns its bytes.
fn send_range<W: Write>(
    out: &mut FrameWriter<W>,
    pieces: &[(u64, u64)],
    range: (u64, u64),
    size: u64,
    update: bool,
    buffer: &[u8],
) -> Result<u64> {
    let (from, to) = (range.0, range.1.min(size));
    if from >= to {
        return Ok(0);
    }
    let clipped: Vec<(u64, u64)> = clip(pieces, from, to).collect();
    let covered: u64 = clipped.iter().map(|(start, end)| end - start).sum();
    if update && covered < to - from {
        punch(out, from, to - from, size)?;
    }
    for (start, end) in clipped {
        let at = (start % BLOCK) as usize;
        let bytes = &buffer[at..at + (end - start) as usize];
        out.put(&Frame::Data {
            offset: start,
            bytes,
        })?;
    }
    Ok(covered)
}

/// The blocks of `file` that have data, as [`send`] compares them; without prints.
pub(crate) fn digests(file: &File, path: &[u8], size: u64) -> Result<Vec<Block>> {
    let mut buffer = vec![0; BLOCK as usize];
    let segments = segments(file, size).map_err(|e| Error::io("find the holes of", path, e))?;
    let mut found = Vec::new();
    for (number, pieces) in blocks(&segments) {
        // What cannot be read is sent, and replaced.
        let digest = match fill(file, &pieces, number, &mut buffer) {
            Some(_) => digest(&pieces, number, &buffer),
            None => UNKNOWN,
        };
        found.push(Block {
            number,
            digest,
            prints: None,
        });
    }
    Ok(found)
}

fn punch<W: Write>(out: &mut FrameWriter<W>, offset: u64, length: u64, size: u64) -> Result<()> {
    out.put(&Frame::Hole {
        offset,
        length: length.min(size - offset),
    })
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
