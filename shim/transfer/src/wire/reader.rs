//! Receiving side of a stream.

use std::io::Read;

use super::chunk::ChunkReader;
use super::frame::Frame;
use super::{Counts, MAX_FRAME, MAX_WINDOW_LOG};
use crate::budget::{Budget, Meter};
use crate::error::{Error, Result};
use crate::image::{ImageSet, ImagesBegin};
use crate::tree::{TreeBegin, TreeId};

/// What comes next in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// A round of a tree: hand it to [`crate::TreeReceiver::receive_round`].
    Tree(TreeBegin),
    /// A set of image files: hand it to [`crate::receive_images`].
    Images(ImagesBegin),
}

/// Reads one stream. It takes exactly the stream's bytes from its source, so several streams may
/// follow each other. Put no buffer in front: reads are large already.
pub struct FrameReader<R: Read> {
    decoder: zstd::stream::read::Decoder<'static, ChunkReader<R>>,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    frames: u64,
    raw_bytes: Meter,
    budget: Budget,
}

impl<R: Read> FrameReader<R> {
    /// Starts reading a stream, which may cost at most `budget`.
    pub fn new(source: R, budget: &Budget) -> Result<Self> {
        let chunks = ChunkReader::new(source).map_err(layers)?;
        let mut decoder = zstd::stream::read::Decoder::with_buffer(chunks).map_err(layers)?;
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(layers)?;
        Ok(Self {
            decoder,
            hasher: blake3::Hasher::new(),
            buffer: Vec::new(),
            frames: 0,
            raw_bytes: Meter::new("bytes in the stream", budget.stream_bytes),
            budget: budget.clone(),
        })
    }

    /// The next section, or `None` after the End frame was verified. Only then has the stream
    /// arrived whole.
    pub fn next_section(&mut self) -> Result<Option<Section>> {
        let section = match self.next()? {
            Frame::End { .. } => None,
            Frame::TreeBegin {
                id,
                session,
                base,
                round,
            } => Some(Section::Tree(TreeBegin {
                id: TreeId::decoded(id),
                session,
                base,
                round,
            })),
            Frame::ImagesBegin { id } => Some(Section::Images(ImagesBegin {
                set: ImageSet::parse(&String::from_utf8_lossy(id))?,
            })),
            other => {
                let reason = "a section or the End was expected";
                return Err(Error::Unexpected {
                    frame: other.name(),
                    reason,
                });
            }
        };
        if section.is_none() {
            self.expect_end()?;
        }
        Ok(section)
    }

    /// What arrived so far.
    pub fn counts(&self) -> Counts {
        Counts {
            frames: self.frames,
            raw_bytes: self.raw_bytes.used(),
            wire_bytes: self.decoder.get_ref().read_bytes(),
        }
    }

    /// Gives the source back, positioned behind the stream once `next_section` returned `None`.
    pub fn into_inner(self) -> R {
        self.decoder.finish().into_inner()
    }

    /// The budget this reader was made with.
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The next frame; digests are verified here.
    pub(crate) fn next(&mut self) -> Result<Frame<'_>> {
        let mut head = [0; 5];
        self.decoder.read_exact(&mut head).map_err(layers)?;
        let [kind, a, b, c, d] = head;
        let size = u32::from_le_bytes([a, b, c, d]) as usize;
        if size > MAX_FRAME {
            let (size, limit) = (size as u64, MAX_FRAME as u64);
            return Err(Error::TooLarge {
                what: "a frame",
                size,
                limit,
            });
        }
        self.raw_bytes.take(size as u64 + 5)?;
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        let payload = &mut self.buffer[..size];
        self.decoder.read_exact(payload).map_err(layers)?;
        let before = Frame::carries_digest(kind).then(|| self.hasher.finalize());
        self.hasher.update(&head);
        self.hasher.update(payload);
        self.frames += 1;
        let frame = Frame::decode(kind, &self.buffer[..size])?;
        if let (Some(before), Some(digest)) = (before, frame.digest()) {
            // blake3::Hash compares in constant time; a plain comparison would do as well.
            if before != blake3::Hash::from_bytes(*digest) {
                return Err(Error::Digest {
                    frame: frame.name(),
                });
            }
        }
        Ok(frame)
    }

    /// Nothing may follow the End frame but the end mark of the chunks.
    fn expect_end(&mut self) -> Result<()> {
        let mut byte = [0];
        match self.decoder.read(&mut byte).map_err(layers)? {
            0 => Ok(()),
            _ => Err(Error::Trailing),
        }
    }
}

fn layers(error: std::io::Error) -> Error {
    Error::from_layers(error, true)
}
