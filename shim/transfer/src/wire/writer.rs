//! Sending side of a stream.

use std::io::Write;

use super::MAX_FRAME;
use super::block::BlockEncoder;
use super::chunk::ChunkWriter;
use super::codec::Put;
use super::frame::{Digest, Frame};
use crate::Limiter;
use crate::error::{Error, Result};

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    /// For links of 1 Gbit/s and more: zstd's fast mode, the CPU must not be slower than the link.
    #[default]
    Fast,
    /// For links of about 100 Mbit/s: zstd level 1.
    Light,
    /// For slow links: zstd level 6.
    Dense,
}

impl Level {
    /// The level for a link of `bytes_per_second`.
    pub const fn for_link(bytes_per_second: u64) -> Self {
        match bytes_per_second {
            60_000_000.. => Self::Fast,
            4_000_000.. => Self::Light,
            _ => Self::Dense,
        }
    }

    /// zstd's compression level, and the size of the blocks.
    const fn parameters(self) -> (i32, usize) {
        match self {
            Self::Fast => (-5, 256 << 10),
            Self::Light => (1, 512 << 10),
            Self::Dense => (6, 2 << 20),
        }
    }
}

/// How to send.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How hard to compress.
    pub level: Level,
    /// Bandwidth limit on the compressed bytes.
    pub limiter: Option<Limiter>,
}

/// What a stream carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames, with the End frame.
    pub frames: u64,
    /// Bytes of all frames before compression.
    pub raw_bytes: u64,
    /// Bytes on the wire (some may still be buffered until [`FrameWriter::finish`]).
    pub wire_bytes: u64,
}

/// Writes one stream. Dropped without [`FrameWriter::finish`], the stream has no End frame and no
/// receiver takes it for complete.
pub struct FrameWriter<W: Write> {
    encoder: BlockEncoder<W>,
    head: Vec<u8>,
    frames: u64,
    raw_bytes: u64,
}

impl<W: Write> FrameWriter<W> {
    /// Starts a stream on `sink`. Writes are large (up to 256 KiB); no further buffer is needed.
    pub fn new(sink: W, options: &Options) -> Result<Self> {
        let chunks = ChunkWriter::new(sink, options.limiter.clone()).map_err(layers)?;
        let (level, block) = options.level.parameters();
        let encoder = BlockEncoder::new(chunks, level, block).map_err(layers)?;
        Ok(Self {
            encoder,
            head: Vec::with_capacity(4096),
            frames: 0,
            raw_bytes: 0,
        })
    }

    /// What was sent so far.
    pub fn counts(&self) -> Counts {
        Counts {
            frames: self.frames,
            raw_bytes: self.raw_bytes,
            wire_bytes: self.encoder.written(),
        }
    }

    /// Sends everything that is buffered, so that the receiver can work on it. Costs some
    /// compression.
    pub fn flush(&mut self) -> Result<()> {
        self.encoder.flush().map_err(layers)
    }

    /// Writes the End frame and gives the sink back.
    pub fn finish(mut self) -> Result<(W, Counts)> {
        let digest = self.digest();
        self.put(&Frame::End { digest })?;
        let (sink, wire_bytes) = self.encoder.finish().map_err(layers)?;
        Ok((
            sink,
            Counts {
                frames: self.frames,
                raw_bytes: self.raw_bytes,
                wire_bytes,
            },
        ))
    }

    /// Digest of all frames so far.
    pub(crate) fn digest(&mut self) -> Digest {
        self.encoder.digest()
    }

    pub(crate) fn put(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.head.clear();
        self.head.put_u8(frame.kind());
        self.head.put_u32(0);
        let tail = frame.encode(&mut self.head);
        let size = self.head.len() - 5 + tail.len();
        if size > MAX_FRAME {
            let (size, limit) = (size as u64, MAX_FRAME as u64);
            return Err(Error::TooLarge {
                what: frame.name(),
                size,
                limit,
            });
        }
        self.head[1..5].copy_from_slice(&(size as u32).to_le_bytes());
        self.encoder.put(&self.head).map_err(layers)?;
        if !tail.is_empty() {
            self.encoder.put(tail).map_err(layers)?;
        }
        self.frames += 1;
        self.raw_bytes += (self.head.len() + tail.len()) as u64;
        Ok(())
    }
}

fn layers(error: std::io::Error) -> Error {
    Error::from_layers(error, false)
}
