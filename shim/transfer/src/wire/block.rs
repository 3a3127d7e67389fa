//! Compression of the frames: blocks of a fixed size, each a zstd frame of its own.
//!
//! One long zstd stream would find a few more matches, but its ring buffer makes zstd take its
//! slower path; with whole blocks the CPU keeps up with a fast link. Readers do not care: zstd
//! frames that follow each other decode like one.

use std::io::{self, Write};

use super::Digest;
use super::chunk::ChunkWriter;

/// Hashes and compresses what is written, block by block.
pub(crate) struct BlockEncoder<W: Write> {
    chunks: ChunkWriter<W>,
    compressor: zstd::bulk::Compressor<'static>,
    hasher: blake3::Hasher,
    block: usize,
    raw: Vec<u8>,
    /// So many bytes of `raw` are in the hash already.
    hashed: usize,
    compressed: Vec<u8>,
}

impl<W: Write> BlockEncoder<W> {
    pub(crate) fn new(chunks: ChunkWriter<W>, level: i32, block: usize) -> io::Result<Self> {
        Ok(Self {
            chunks,
            compressor: zstd::bulk::Compressor::new(level)?,
            hasher: blake3::Hasher::new(),
            block,
            raw: Vec::with_capacity(block),
            hashed: 0,
            compressed: Vec::with_capacity(zstd::zstd_safe::compress_bound(block)),
        })
    }

    /// Bytes given to the sink so far.
    pub(crate) const fn written(&self) -> u64 {
        self.chunks.written()
    }

    pub(crate) fn put(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let take = (self.block - self.raw.len()).min(data.len());
            self.raw.extend_from_slice(&data[..take]);
            data = &data[take..];
            if self.raw.len() == self.block {
                self.emit()?;
            }
        }
        Ok(())
    }

    /// Digest of everything so far.
    pub(crate) fn digest(&mut self) -> Digest {
        self.hash();
        *self.hasher.finalize().as_bytes()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.emit()?;
        self.chunks.flush()
    }

    /// Writes the end mark and returns the sink and the number of bytes written.
    pub(crate) fn finish(mut self) -> io::Result<(W, u64)> {
        self.emit()?;
        self.chunks.finish()
    }

    fn hash(&mut self) {
        self.hasher.update(&self.raw[self.hashed..]);
        self.hashed = self.raw.len();
    }

    fn emit(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        self.hash();
        self.compressed.clear();
        self.compressor
            .compress_to_buffer(&self.raw, &mut self.compressed)?;
        self.chunks.write_all(&self.compressed)?;
        self.raw.clear();
        self.hashed = 0;
        Ok(())
    }
}
