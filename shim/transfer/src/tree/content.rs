//! Content of a regular file, by blocks, without the holes.

use std::fs::File;
use std::io::Write;

use super::blocks::{BLOCK, PIECE, blocks, clip, fill, segments};
use super::digests::{UNKNOWN, digest};
use super::known::{Block, Content, unchanged};
use super::marks::{Marks, Prints};
use crate::error::{Error, Result};
use crate::wire::{Digest, Frame, FrameWriter};

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
    (marks, prints): (&Marks, usize),
    buffer: &mut Vec<u8>,
) -> Result<Sent> {
    buffer.resize(BLOCK as usize, 0);
    let segments = segments(file, size).map_err(|e| Error::io("find the holes of", path, e))?;
    let mut sent = Sent::default();
    let last = size.div_ceil(BLOCK);
    let old = there.blocks.iter();
    let mut old = old.filter(|block| block.number < last).peekable();
    let unchanged = unchanged(file, &segments, there.blocks, marks);
    for (number, pieces) in blocks(&segments) {
        // Blocks that the receiver has and that are holes now.
        while let Some(gone) = old.next_if(|known| known.number < number) {
            punch(out, gone.number * BLOCK, BLOCK, size)?;
        }
        let known = old.next_if(|known| known.number == number);
        if let Some(known) = known.filter(|known| {
            let printed = known.prints.is_some() || sent.blocks.len() >= prints;
            printed && unchanged.contains(&number)
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
                content: Content::Unknown,
                prints: None,
            });
            continue;
        }
        let found = marks.of_pieces(&pieces, number, buffer);
        let same = known.filter(|known| known.content.is(marks, &pieces, number, buffer));
        let content = match same.map(|same| same.content) {
            Some(sent @ Content::Sent(_)) => sent,
            _ => Content::Sent(marks.of_block(&pieces, number, buffer)),
        };
        if same.is_none() {
            let prints = known.and_then(|known| known.prints.as_ref());
            for (from, to) in differing(prints, &found) {
                let range = (number * BLOCK + from as u64, number * BLOCK + to as u64);
                sent.bytes += send_range(out, &pieces, range, size, there.update, buffer)?;
            }
        }
        let keep = sent.blocks.len() < prints;
        sent.blocks.push(Block {
            number,
            content,
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

/// The blocks of `file` that have data, by number.
pub(crate) fn digests(file: &File, path: &[u8], size: u64) -> Result<Vec<(u64, Digest)>> {
    let mut buffer = vec![0; BLOCK as usize];
    let segments = segments(file, size).map_err(|e| Error::io("find the holes of", path, e))?;
    let mut found = Vec::new();
    for (number, pieces) in blocks(&segments) {
        // What cannot be read is sent, and replaced.
        let digest = match fill(file, &pieces, number, &mut buffer) {
            Some(_) => digest(&pieces, number, &buffer),
            None => UNKNOWN,
        };
        found.push((number, digest));
    }
    Ok(found)
}

fn punch<W: Write>(out: &mut FrameWriter<W>, offset: u64, length: u64, size: u64) -> Result<()> {
    out.put(&Frame::Hole {
        offset,
        length: length.min(size - offset),
    })
}
