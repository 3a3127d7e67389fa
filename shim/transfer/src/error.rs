//! The one error type of this crate.

use std::io;

/// What can go wrong while data is sent or received.
///
/// A receiver that returns any of these must not use what it has written so far: the next round
/// has to be a full one (see [`crate::TreeSender::reset`]).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on this node failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path (relative to the tree's root where it came from a tree).
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no random bytes.
    #[error("no random bytes for a key: {0}")]
    Random(String),
    /// The stream to or from the other node failed.
    #[error("the stream to the other node failed: {0}; start a new full round")]
    Stream(#[source] io::Error),
    /// The stream ended before its End frame.
    #[error("the stream ended early: no End frame was seen; start a new full round")]
    Truncated,
    /// The first bytes are not ours, or of a version that this node does not speak.
    #[error(
        "the stream starts with {found:02x?}, not with the format this node speaks; use the same mycedrive version on both nodes"
    )]
    Magic {
        /// The eight bytes found.
        found: [u8; 8],
    },
    /// A chunk's checksum is wrong.
    #[error(
        "the stream was altered on the way: chunk {chunk} has a wrong checksum; start a new full round"
    )]
    Corrupt {
        /// Number of the chunk, counted from 0.
        chunk: u64,
    },
    /// The compressed data cannot be decoded.
    #[error("the stream's compressed data cannot be decoded: {0}; start a new full round")]
    Compression(#[source] io::Error),
    /// A frame, chunk, path or attribute is larger than the format allows.
    #[error("{what} of {size} bytes is larger than the format's limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The format's limit.
        limit: u64,
    },
    /// A frame of a kind that this node does not know.
    #[error("unknown frame kind {kind:#04x}; use the same mycedrive version on both nodes")]
    UnknownFrame {
        /// The kind's number.
        kind: u8,
    },
    /// A frame's content cannot be decoded.
    #[error("malformed {frame} frame: {reason}")]
    Malformed {
        /// Name of the frame kind.
        frame: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A frame at a place where it does not belong.
    #[error("unexpected {frame} frame: {reason}")]
    Unexpected {
        /// Name of the frame kind.
        frame: &'static str,
        /// What was expected.
        reason: &'static str,
    },
    /// The digest of what arrived is not the one that was sent.
    #[error("the digest in the {frame} frame does not match what arrived; start a new full round")]
    Digest {
        /// Which frame carried the digest.
        frame: &'static str,
    },
    /// Bytes follow the end of the stream.
    #[error("bytes follow the End frame")]
    Trailing,
    /// A path that must not be used.
    #[error("refused path {path:?}: {reason}")]
    Path {
        /// The path, lossy.
        path: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The peer asks for more than the caller allowed.
    #[error(
        "{what}: {asked} is more than the budget of {limit}; raise the limit or free space, then migrate again"
    )]
    Budget {
        /// What exceeds the budget.
        what: &'static str,
        /// How much was asked for.
        asked: u64,
        /// How much was allowed.
        limit: u64,
    },
    /// A delta round does not fit what the receiver has.
    #[error(
        "round {round} of tree {tree:?} builds on round {base}, but this node has round {have}; send a full round"
    )]
    OutOfStep {
        /// The tree.
        tree: String,
        /// The round that arrived.
        round: u32,
        /// The round it builds on.
        base: u32,
        /// The round the receiver has; 0 means none.
        have: u32,
    },
    /// What the sender left out, as both nodes have the container's image, is not here.
    #[error(
        "this node's copy of the container's image has another {path} than the other node's, or none"
    )]
    NotShared {
        /// The container, and the path in its image.
        path: String,
    },
    /// Something in the source tree that cannot be carried.
    #[error("{path} cannot be carried: {reason}")]
    Unsupported {
        /// The path, relative to the tree's root.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a system call on `path`.
    pub(crate) fn io(action: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: show(path),
            source: source.into(),
        }
    }

    /// A refused path.
    pub(crate) fn path(path: &[u8], reason: &'static str) -> Self {
        Self::Path {
            path: show(path),
            reason,
        }
    }

    /// Turns an error that came through an `io::Read` or `io::Write` layer back into ours.
    pub(crate) fn from_layers(error: io::Error, decoding: bool) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(other) if other.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            Err(other) if decoding && other.raw_os_error().is_none() => Self::Compression(other),
            Err(other) => Self::Stream(other),
        }
    }
}

/// A path for messages: lossy, and the root is shown as ".".
pub(crate) fn show(path: &[u8]) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    String::from_utf8_lossy(path).chars().take(512).collect()
}
