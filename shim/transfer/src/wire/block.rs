//! Compression of the frames: blocks of a fixed size, each a zstd frame of its own.
//!
//! One long zstd stream would find a few more matches, but its ring buffer makes zstd take its
//! slower path; with whole blocks the CPU keeps up with a fast link. Readers do not care: zstd
//! frames that follow each other decode like one. How hard and how much at a time follows the link.

use std::io::{self, Write};
use std::time::Instant;

use super::Digest;
use super::chunk::ChunkWriter;
use super::level::{Adapter, Level};
use super::stored;

/// Hashes and compresses what is written, block by block.
pub(crate) struct BlockEncoder<W: Write> {
    chunks: ChunkWriter<W>,
    compressor: zstd::bulk::Compressor<'static>,
    hasher: blake3::Hasher,
    level: Level,
    adapter: Option<Adapter>,
    raw: Vec<u8>,
    /// So many bytes of `raw` are in the hash already.
    hashed: usize,
    compressed: Vec<u8>,
}

impl<W: Write> BlockEncoder<W> {
    pub(crate) fn new(chunks: ChunkWriter<W>, level: Level, follow: bool) -> io::Result<Self> {
        Ok(Self {
            chunks,
            compressor: zstd::bulk::Compressor::new(level.zstd().unwrap_or_default())?,
            hasher: blake3::Hasher::new(),
            level,
            adapter: follow.then(|| Adapter::new(level)),
            raw: Vec::with_capacity(level.block()),
            hashed: 0,
            compressed: Vec::new(),
        })
    }

    /// Bytes given to the sink so far.
    pub(crate) const fn written(&self) -> u64 {
        self.chunks.written()
    }

    pub(crate) fn put(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let take = (self.level.block() - self.raw.len()).min(data.len());
            self.raw.extend_from_slice(&data[..take]);
            data = &data[take..];
            if self.raw.len() == self.level.block() {
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
        let started = Instant::now();
        self.compressed.clear();
        if self.level.zstd().is_some() {
            self.compressed
                .reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
            self.compressor
                .compress_to_buffer(&self.raw, &mut self.compressed)?;
        } else {
            stored::put(&mut self.compressed, &self.raw);
        }
        let compressed = Instant::now();
        self.chunks.write_all(&self.compressed)?;
        self.raw.clear();
        self.hashed = 0;
        let size = self.compressed.len() as u64;
        let adapter = self.adapter.as_mut();
        match adapter.map(|it| it.next(size, compressed - started, compressed.elapsed())) {
            Some(level) => self.become_level(level),
            None => Ok(()),
        }
    }

    /// Only between two blocks, so that none is longer than its level allows.
    fn become_level(&mut self, level: Level) -> io::Result<()> {
        if level == self.level {
            return Ok(());
        }
        self.level = level;
        match level.zstd() {
            Some(level) => self.compressor.set_compression_level(level),
            None => Ok(()),
        }
    }
}
