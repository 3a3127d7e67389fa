//! Between the blocking world of trees and images and the asynchronous one of gRPC: a round's
//! bytes as [`Block`]s over a bounded channel.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mycedrive_proto::migration::{Block, RoundEnd};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::error::{Error, Result};

/// Most bytes in one block.
const BLOCK: usize = 256 * 1024;
/// Largest frame of HTTP/2 that a node takes: one for each block, instead of many of 16 KiB.
pub const FRAME: u32 = 512 * 1024;
/// Blocks that wait between disk and network; bounds the memory of a migration.
pub const QUEUE: usize = 4;

/// Bytes of a round as blocks. Blocks the thread when the network is slower.
pub struct BlockWriter {
    sender: mpsc::Sender<Result<Block, Status>>,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    written: Arc<AtomicU64>,
}

impl BlockWriter {
    /// Writes to the stream behind `sender`; counts bytes in `written`.
    pub fn new(sender: mpsc::Sender<Result<Block, Status>>, written: Arc<AtomicU64>) -> Self {
        Self {
            sender,
            buffer: Vec::with_capacity(BLOCK),
            hasher: blake3::Hasher::new(),
            written,
        }
    }

    /// Sends what is left and the end mark. Returns the digest of all data.
    pub fn end(mut self, end: RoundEnd) -> io::Result<[u8; 32]> {
        self.flush()?;
        let block = Block {
            data: vec![],
            end: Some(end),
        };
        self.sender.blocking_send(Ok(block)).map_err(|_| gone())?;
        Ok(*self.hasher.finalize().as_bytes())
    }
}

impl Write for BlockWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == BLOCK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(BLOCK));
        self.hasher.update(&data);
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        let block = Block { data, end: None };
        self.sender.blocking_send(Ok(block)).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the destination stopped receiving",
    )
}

/// Bytes of a round as they arrive. Blocks the thread until there are some.
pub struct BlockReader {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    at: usize,
}

impl BlockReader {
    /// Reads what `pump` sends.
    pub fn new(receiver: mpsc::Receiver<io::Result<Vec<u8>>>) -> Self {
        Self {
            receiver,
            block: vec![],
            at: 0,
        }
    }
}

impl Read for BlockReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(block) => self.block = block?,
            }
            self.at = 0;
        }
        let count = bytes.len().min(self.block.len() - self.at);
        bytes[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// What a round's stream ended with.
#[derive(Debug)]
pub struct Ended {
    /// The source's end mark.
    pub end: RoundEnd,
    /// blake3 of all data.
    pub digest: [u8; 32],
}

/// Takes blocks from the network to a [`BlockReader`]; counts bytes in `received`. An error of
/// the stream reaches the reader as well.
pub async fn pump(
    endpoint: &str,
    mut stream: Streaming<Block>,
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
    received: &AtomicU64,
) -> Result<Ended> {
    let mut hasher = blake3::Hasher::new();
    loop {
        let block = match stream.message().await {
            Ok(Some(block)) => block,
            Ok(None) => {
                let text = "the source ended the stream early";
                let _ = sender.send(Err(io::Error::other(text))).await;
                return Err(Error::Failed(format!("{endpoint}: {text}")));
            }
            Err(status) => {
                let text = status.message().to_owned();
                let _ = sender.send(Err(io::Error::other(text))).await;
                return Err(Error::remote(endpoint, "to send the pod")(status));
            }
        };
        if let Some(end) = block.end {
            let digest = *hasher.finalize().as_bytes();
            return Ok(Ended { end, digest });
        }
        hasher.update(&block.data);
        received.fetch_add(block.data.len() as u64, Ordering::Relaxed);
        if sender.send(Ok(block.data)).await.is_err() {
            // The reader failed and says why.
            return Err(Error::Failed("the round could not be written".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests;
