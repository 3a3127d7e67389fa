//! What can be wrong with an archive.

use std::io;

/// Why a file is not an archive that can be used. Nothing was made of it.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read; a file that ends too early is among these.
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
    /// A link, directory, device, FIFO or socket.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is encrypted, and no key was given.
    #[error("it is encrypted: give --identity or --passphrase-file")]
    Encrypted,
    /// It is not encrypted, and a key was given.
    #[error(
        "it is not encrypted although a key was given: it is not the file that the key belongs to"
    )]
    NotEncrypted,
    /// A key of the other kind.
    #[error("it is encrypted with {with}: give {option}")]
    OtherKey {
        /// What it is encrypted with.
        with: &'static str,
        /// The option for that.
        option: &'static str,
    },
    /// Another passphrase, or none of the identities.
    #[error("the key that was given does not open it")]
    WrongKey,
    /// What says how it is encrypted is no such thing, or asks for too much.
    #[error("its encryption: {0}")]
    Sealing(String),
    /// Other first bytes.
    #[error("it is not an archive of mycedrive")]
    Magic,
    /// Another version.
    #[error("its format is {found}, this program knows {known}")]
    Format {
        /// What it is.
        found: u16,
        /// What this program reads.
        known: u16,
    },
    /// A header that is too large.
    #[error("its header is {bytes} bytes, at most {limit} are allowed")]
    HeaderSize {
        /// What it says.
        bytes: u32,
        /// What is allowed.
        limit: u32,
    },
    /// The header is damaged.
    #[error("the digest of its header is wrong: it is damaged")]
    HeaderDigest,
    /// The header is not what it should be.
    #[error("its header is malformed: {0}")]
    Header(String),
    /// The stream behind the header is damaged, or more than it may be.
    #[error("its content: {0}")]
    Content(#[from] mycedrive_transfer::Error),
    /// The header lists something that is not there, or the other way round.
    #[error("its header and its content differ: {0}")]
    Differs(String),
    /// Something follows the stream.
    #[error("there are bytes behind its end")]
    Trailing,
}
