//! A pod in a file: its containers' memory, root layers and volumes.
//!
//! - `header`: what the file says of itself; `reader`: a file that is opened; `survey`: all of
//!   it, read without storing anything.
//! - [`sealed`]: archives that are encrypted.
//! - `checkpoint` makes one of a pod that runs here.
//! - [`store`]: where archives lie from which pods are restored. The restore itself is
//!   `destination::archived`: an archive takes the place of the source node.
//!
//! # Format
//!
//! ```text
//! file   = "MYCEARC\n"  format:u16(1)  length:u32  header:JSON  digest  stream
//! digest = BLAKE3 of everything before it, 32 bytes           length at most 1 MiB
//! stream = as between nodes, see mycedrive-transfer: trees and images, compressed with zstd,
//!          each section and the whole with a digest; nothing follows it
//! ```
//!
//! An encrypted archive is a file of this kind within one of age's (`sealed`).
//!
//! Numbers are little-endian. The digests find damage; they do not say who made the file. Nothing
//! in it decides what the restored processes may do: that is the pod's own specification.

pub mod checkpoint;
mod error;
mod header;
mod reader;
pub mod sealed;
pub mod store;

#[cfg(test)]
mod tests;

pub use error::ArchiveError;
pub use header::{ContainerHeader, Header};
pub use reader::{Archive, Contents, source};
