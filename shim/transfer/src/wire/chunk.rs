//! The outer layer: `length u32 LE, crc32 u32 LE (over length and data), data`. A chunk of length
//! 0 ends the stream, so a reader takes exactly the stream's bytes from its source.

use std::io::{self, BufRead, Read, Write};

use super::{MAGIC, MAX_CHUNK};
use crate::Limiter;
use crate::error::Error;

/// Collects compressed bytes into chunks.
pub(crate) struct ChunkWriter<W: Write> {
    inner: W,
    buffer: Vec<u8>,
    written: u64,
    limiter: Option<Limiter>,
}

impl<W: Write> ChunkWriter<W> {
    pub(crate) fn new(mut inner: W, limiter: Option<Limiter>) -> io::Result<Self> {
        inner.write_all(&MAGIC)?;
        Ok(Self {
            inner,
            buffer: Vec::with_capacity(MAX_CHUNK),
            written: MAGIC.len() as u64,
            limiter,
        })
    }

    /// Bytes given to the sink so far.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Writes the end mark and returns the sink and the number of bytes written.
    pub(crate) fn finish(mut self) -> io::Result<(W, u64)> {
        self.emit()?;
        self.put(&[])?;
        self.inner.flush()?;
        Ok((self.inner, self.written))
    }

    fn emit(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.buffer);
        let result = self.put(&data);
        self.buffer = data;
        self.buffer.clear();
        result
    }

    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u32).to_le_bytes();
        let crc = checksum(length, data).to_le_bytes();
        let total = data.len() + 8;
        if let Some(limiter) = &self.limiter {
            limiter.take(total);
        }
        let mut head = [0; 8];
        head[..4].copy_from_slice(&length);
        head[4..].copy_from_slice(&crc);
        self.inner.write_all(&head)?;
        self.inner.write_all(data)?;
        self.written += total as u64;
        Ok(())
    }
}

impl<W: Write> Write for ChunkWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = MAX_CHUNK - self.buffer.len();
        let take = room.min(data.len());
        self.buffer.extend_from_slice(&data[..take]);
        if self.buffer.len() == MAX_CHUNK {
            self.emit()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.emit()?;
        self.inner.flush()
    }
}

/// Gives back the compressed bytes, each chunk checked before any of it is used.
pub(crate) struct ChunkReader<R: Read> {
    inner: R,
    buffer: Vec<u8>,
    position: usize,
    chunks: u64,
    read: u64,
    ended: bool,
}

impl<R: Read> ChunkReader<R> {
    pub(crate) fn new(mut inner: R) -> io::Result<Self> {
        let mut found = [0; 8];
        inner.read_exact(&mut found)?;
        if found != MAGIC {
            return Err(io::Error::other(Error::Magic { found }));
        }
        let read = MAGIC.len() as u64;
        Ok(Self {
            inner,
            buffer: Vec::new(),
            position: 0,
            chunks: 0,
            read,
            ended: false,
        })
    }

    /// Bytes taken from the source so far.
    pub(crate) const fn read_bytes(&self) -> u64 {
        self.read
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let (mut length, mut crc) = ([0; 4], [0; 4]);
        self.inner.read_exact(&mut length)?;
        self.inner.read_exact(&mut crc)?;
        let size = u32::from_le_bytes(length) as usize;
        if size > MAX_CHUNK {
            let limit = MAX_CHUNK as u64;
            return Err(io::Error::other(Error::TooLarge {
                what: "a chunk",
                size: size as u64,
                limit,
            }));
        }
        self.buffer.resize(size, 0);
        self.position = 0;
        self.inner.read_exact(&mut self.buffer)?;
        if checksum(length, &self.buffer) != u32::from_le_bytes(crc) {
            self.buffer.clear();
            return Err(io::Error::other(Error::Corrupt { chunk: self.chunks }));
        }
        self.chunks += 1;
        self.read += size as u64 + 8;
        self.ended = size == 0;
        Ok(())
    }
}

impl<R: Read> Read for ChunkReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let take = available.len().min(out.len());
        out[..take].copy_from_slice(&available[..take]);
        self.consume(take);
        Ok(take)
    }
}

impl<R: Read> BufRead for ChunkReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.buffer.len() && !self.ended {
            self.next_chunk()?;
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position = (self.position + amount).min(self.buffer.len());
    }
}

fn checksum(length: [u8; 4], data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(data);
    hasher.finalize()
}
