//! Sending side of a stream.

use std::io::Write;

use super::MAX_FRAME;
use super::block::BlockEncoder;
use super::chunk::ChunkWriter;
use super::codec::Put;
use super::frame::{Digest, Frame};
use super::level::Level;
use crate::Limiter;
use crate::error::{Error, Result};

/// How to send.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How hard to compress.
    pub level: Level,
    /// Whether that is only the beginning, and the level then follows what the sink takes.
    pub follow: bool,
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
        let encoder = BlockEncoder::new(chunks, options.level, options.follow).map_err(layers)?;
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
