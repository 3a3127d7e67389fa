//! Pages that the receiver has, whatever they are pages of.

use std::collections::HashMap;
use std::io::Write;

use super::shared::Origin;
use super::{PAGE, PageDigest};
use crate::error::Result;
use crate::wire::{Frame, FrameWriter};

/// Name of the file with a round's pages, beside the directories of the containers.
pub(crate) const STORE: &str = "pages";
/// Most bytes of one frame.
const FRAME: usize = 64 * PAGE;
/// Most pages of an image's file in one frame (16 MiB).
const SHARED: u32 = 4096;
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
    fresh: Stored,
    round: u32,
    file: u32,
    announced: bool,
    /// Pages that are not sent yet.
    waiting: Waiting,
    /// Bytes of the store before those.
    end: u64,
    /// Bytes of it that the receiver takes from its copy of the image.
    shared: u64,
}

/// Pages that follow each other in the store.
enum Waiting {
    /// To be sent.
    Bytes(Vec<u8>),
    /// Of a file that the receiver has.
    Shared {
        path: Vec<u8>,
        from: u64,
        count: u32,
        hasher: Box<blake3::Hasher>,
    },
}

impl Waiting {
    const fn nothing() -> Self {
        Self::Bytes(Vec::new())
    }

    /// Whether a page at `origin` goes into the same frame.
    fn takes(&self, origin: Option<&Origin<'_>>) -> bool {
        match (self, origin) {
            (Self::Bytes(bytes), None) => bytes.len() < FRAME,
            (
                Self::Shared {
                    path, from, count, ..
                },
                Some(origin),
            ) => {
                *count < SHARED
                    && origin.path == path
                    && origin.offset == from + u64::from(*count) * PAGE as u64
            }
            _ => false,
        }
    }

    fn add(&mut self, content: &[u8]) {
        match self {
            Self::Bytes(bytes) => bytes.extend_from_slice(content),
            Self::Shared { count, hasher, .. } => {
                *count += 1;
                hasher.update(content);
            }
        }
    }
}

/// What a store brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// Its pages.
    pub(super) pages: Stored,
    /// Bytes of them that were sent.
    pub(super) sent: u64,
    /// Bytes that the receiver took from its copy of the image.
    pub(super) shared: u64,
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
            waiting: Waiting::nothing(),
            end: 0,
            shared: 0,
        }
    }

    /// Whether a page with this digest is to be brought.
    pub(super) fn wants(&self, digest: &PageDigest) -> bool {
        !self.held.contains_key(digest)
            && !self.fresh.contains_key(digest)
            && self.held.len() + self.fresh.len() < MOST
    }

    /// Brings a page that it wants. The receiver has it at `origin`, if there is one.
    pub(super) fn page<W: Write>(
        &mut self,
        out: &mut FrameWriter<W>,
        content: &[u8],
        digest: PageDigest,
        origin: Option<&Origin<'_>>,
    ) -> Result<()> {
        let at = At {
            round: self.round,
            page: self.fresh.len() as u32,
        };
        self.fresh.insert(digest, at);
        if !self.waiting.takes(origin) {
            self.flush(out)?;
            if let Some(origin) = origin {
                self.waiting = Waiting::Shared {
                    path: origin.path.to_vec(),
                    from: origin.offset,
                    count: 0,
                    hasher: Box::default(),
                };
            }
        }
        self.waiting.add(content);
        Ok(())
    }

    fn flush<W: Write>(&mut self, out: &mut FrameWriter<W>) -> Result<()> {
        let waiting = std::mem::replace(&mut self.waiting, Waiting::nothing());
        if matches!(&waiting, Waiting::Bytes(bytes) if bytes.is_empty()) {
            return Ok(());
        }
        let (file, offset) = (self.file, self.end);
        if !self.announced {
            self.announced = true;
            out.put(&Frame::ImageFile {
                file,
                path: STORE.as_bytes(),
            })?;
        }
        match waiting {
            Waiting::Bytes(bytes) => {
                self.end += bytes.len() as u64;
                out.put(&Frame::ImageData {
                    file,
                    offset,
                    bytes: &bytes,
                })
            }
            Waiting::Shared {
                path,
                from,
                count,
                hasher,
            } => {
                let length = u64::from(count) * PAGE as u64;
                self.end += length;
                self.shared += length;
                out.put(&Frame::ImageShared {
                    file,
                    offset,
                    from,
                    count,
                    digest: *hasher.finalize().as_bytes(),
                    path: &path,
                })
            }
        }
    }

    /// Ends it.
    pub(super) fn finish<W: Write>(mut self, out: &mut FrameWriter<W>) -> Result<Brought> {
        self.flush(out)?;
        if self.announced {
            out.put(&Frame::ImageSize {
                file: self.file,
                size: self.end,
            })?;
        }
        Ok(Brought {
            pages: self.fresh,
            sent: self.end - self.shared,
            shared: self.shared,
        })
    }
}
