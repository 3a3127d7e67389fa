//! Pages that the receiver has, whatever they are pages of.

use std::collections::HashMap;
use std::io::Write;

use super::{PAGE, PageDigest};
use crate::error::Result;
use crate::wire::{Frame, FrameWriter};

/// Name of the file with a round's pages, beside the directories of the containers.
pub(crate) const STORE: &str = "pages";
/// Most bytes of one frame.
const FRAME: usize = 64 * PAGE;
/// Most pages that are remembered (64 GiB); those beyond come in the freeze.
const MOST: usize = 16 << 20;

/// Where the receiver has a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The round that brought it.
    pub(crate) round: u32,
    /// Its number in that round's store.
    pub(crate) page: u32,
}

/// Pages by content.
pub(super) type Stored = HashMap<PageDigest, At>;

/// The store of one round on its way.
pub(super) struct Storing<'a> {
    held: &'a Stored,
    /// What this round brings.
    pub(super) fresh: Stored,
    round: u32,
    file: u32,
    announced: bool,
    buffer: Vec<u8>,
    end: u64,
}

impl<'a> Storing<'a> {
    /// The store of round `round`, as image file number `file`, for a receiver that has `held`.
    pub(super) fn new(held: &'a Stored, round: u32, file: u32) -> Self {
        Self {
            held,
            fresh: Stored::new(),
            round,
            file,
            announced: false,
            buffer: Vec::new(),
            end: 0,
        }
    }

    /// Takes a page.
    pub(super) fn page<W: Write>(
        &mut self,
        out: &mut FrameWriter<W>,
        content: &[u8],
        digest: PageDigest,
    ) -> Result<()> {
        let count = self.fresh.len();
        if self.held.contains_key(&digest)
            || self.fresh.contains_key(&digest)
            || self.held.len() + count >= MOST
        {
            return Ok(());
        }
        let at = At {
            round: self.round,
            page: count as u32,
        };
        self.fresh.insert(digest, at);
        self.buffer.extend_from_slice(content);
        if self.buffer.len() >= FRAME {
            self.flush(out)?;
        }
        Ok(())
    }

    fn flush<W: Write>(&mut self, out: &mut FrameWriter<W>) -> Result<()> {
        if !self.announced {
            self.announced = true;
            out.put(&Frame::ImageFile {
                file: self.file,
                path: STORE.as_bytes(),
            })?;
        }
        out.put(&Frame::ImageData {
            file: self.file,
            offset: self.end,
            bytes: &self.buffer,
        })?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// What it brought, and its bytes.
    pub(super) fn finish<W: Write>(mut self, out: &mut FrameWriter<W>) -> Result<(Stored, u64)> {
        if !self.buffer.is_empty() {
            self.flush(out)?;
        }
        if self.announced {
            out.put(&Frame::ImageSize {
                file: self.file,
                size: self.end,
            })?;
        }
        Ok((self.fresh, self.end))
    }
}
