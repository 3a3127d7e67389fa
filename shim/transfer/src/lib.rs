//! What moves in a migration: directory trees and images, as verified deltas.
//!
//! Blocking code without a runtime; call it from a blocking thread. `docs/transfer.md` has the
//! reasons and the limits.
//!
//! # Use
//!
//! ```no_run
//! # use mycedrive_transfer::*;
//! # use std::{io::{Read, Write}, path::Path};
//! fn send(sink: impl Write, upper: &Path) -> Result<()> {
//!     let mut tree = TreeSender::new(upper)?;
//!     let mut out = FrameWriter::new(sink, &Options::default())?;
//!     tree.send_round(&mut out, &TreeId::new("rootfs/redis")?, Round::Live)?;
//!     out.finish()?;
//!     Ok(())
//! }
//!
//! fn receive(source: impl Read, upper: &Path, images: &Path) -> Result<()> {
//!     let budget = Budget::default();
//!     let mut tree = TreeReceiver::new(upper, &budget)?;
//!     let mut reader = FrameReader::new(source, &budget)?;
//!     while let Some(section) = reader.next_section()? {
//!         match section {
//!             Section::Tree(begin) => { tree.receive_round(&mut reader, &begin)?; }
//!             Section::Images(begin) => { receive_images(&mut reader, &begin, images)?; }
//!         }
//!     }
//!     Ok(()) // only now has everything arrived
//! }
//! ```
//!
//! # Format
//!
//! One stream carries one round: any number of trees and sets of images.
//!
//! ```text
//! stream  = "MYCEXFR" version:u8(1)  chunk*  end-chunk
//! chunk   = length:u32  crc32:u32 (over length and data)  data       length 1 ..= 256 KiB
//! end     = chunk with length 0
//! the chunks' data together = zstd frames (window at most 4 MiB each), together holding
//! frames  = section*  End
//! section = TreeBegin step* TreeEnd  |  ImagesBegin image-step* ImagesEnd
//! frame   = kind:u8  length:u32  payload                             length at most 1 MiB
//! ```
//!
//! Numbers are little-endian. `bytes` is a u32 length and the bytes; `path` and `data` fill the
//! rest of the payload. A path is relative to the root, components separated by `/`, without `.`,
//! `..` or empty components; the empty path is the root.
//!
//! | kind | frame | payload |
//! |---|---|---|
//! | 01 | End | digest `[32]` |
//! | 10 | TreeBegin | session u64, base round u32 (0 = full, 2^32-1 = what the receiver listed), round u32, name |
//! | 11 | Park | slot u64, path |
//! | 12 | Remove | directory u8, path |
//! | 13 | MakeDir | path |
//! | 14 | Unpark | slot u64, path |
//! | 15 | Link | existing path as bytes, new path |
//! | 16 | File | update u8, size u64, path; followed by Data and Hole, ended by Attr |
//! | 17 | Data | offset u64, data |
//! | 18 | Hole | offset u64, length u64 |
//! | 19 | Node | S_IFMT bits u32, device u64, symlink target as bytes, path |
//! | 1a | Attr | mode u32, uid u32, gid u32, atime, mtime (each i64 s, u32 ns), count u16, count × (name bytes, value bytes), path |
//! | 1b | TreeEnd | digest `[32]` |
//! | 20 | ImagesBegin | name: `images/BASE` or `memory/ROUND/BASE` |
//! | 21 | ImageFile | number u32, path |
//! | 22 | ImageData | number u32, offset u64, data |
//! | 23 | ImageSize | number u32, size u64 |
//! | 24 | ImagesEnd | digest `[32]` |
//! | 25 | ImageKnown | number u32, offset u64, round u32, page u32, count u32 |
//! | 26 | ImageShared | number u32, offset u64, from u64, count u32, digest `[32]` of these pages, path |
//!
//! A digest is BLAKE3 over all frames (heads and payloads) before the frame that carries it. The
//! chunks' CRC only makes sure that damage is found before a decoder sees it, and that not even a
//! change that zstd would ignore passes; TLS is what keeps attackers out.

pub mod access;
mod beneath;
mod budget;
mod error;
#[cfg(test)]
mod hostile_tests;
mod image;
mod image_files;
mod limiter;
mod memory;
mod tree;
mod wire;
mod xattr;

pub use budget::Budget;
pub use error::{Error, Result};
pub use image::{
    ImageSet, ImagesBegin, ImagesSummary, ReceivedImages, receive_images, receive_images_over,
    send_images,
};
pub use image_files::ImageFiles;
pub use limiter::Limiter;
pub use memory::{Form, Known, MemoryProcess, MemorySender, MemorySummary};
pub use tree::{
    FinalRound, ReceivedRound, Round, RoundSummary, TreeBegin, TreeId, TreeReceiver, TreeSender,
    Written, have,
};
pub use wire::{Counts, FrameReader, FrameWriter, Level, Options, Section, Survey};
