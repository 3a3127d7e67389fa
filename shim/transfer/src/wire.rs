//! The stream: chunks with checksums around one zstd frame around typed frames.

mod block;
mod chunk;
mod codec;
mod decode;
mod frame;
mod level;
mod reader;
mod stored;
mod survey;
mod writer;

#[cfg(test)]
pub(crate) use chunk::{ChunkReader, ChunkWriter};
pub(crate) use codec::{Cursor, Put};
pub(crate) use decode::MAX_NAME;
pub(crate) use frame::{Attributes, Digest, Frame, Time, XattrList};
pub use level::Level;
pub use reader::{FrameReader, Section};
pub use survey::Survey;
pub use writer::{Counts, FrameWriter, Options};

/// First bytes of a stream; the last one is the version.
pub(crate) const MAGIC: [u8; 8] = *b"MYCEXFR\x01";
/// Largest frame (kind, length and payload together stay below 1 MiB + 5).
pub(crate) const MAX_FRAME: usize = 1 << 20;
/// Most content in one Data frame, so that its head fits into [`MAX_FRAME`] as well.
pub(crate) const MAX_DATA: usize = MAX_FRAME - 64;
/// Largest chunk of compressed bytes.
pub(crate) const MAX_CHUNK: usize = 256 * 1024;
/// Largest zstd window that a reader accepts (2^22 = 4 MiB), so that a peer cannot make it
/// allocate more.
pub(crate) const MAX_WINDOW_LOG: u32 = 22;
/// Longest path in bytes. Longer than PATH_MAX because deep trees can be built step by step.
pub(crate) const MAX_PATH: usize = 32 * 1024;
