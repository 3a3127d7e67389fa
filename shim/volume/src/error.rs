//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// Why an operation on a volume failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The stack cannot be folded back while somebody has it mounted.
    #[error("volume {} is in use by {holder}; it stays a stack until that has ended", volume.display())]
    InUse {
        /// The volume.
        volume: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// The operation needs another state of the volume.
    #[error("volume {}: {reason}", volume.display())]
    State {
        /// The volume.
        volume: PathBuf,
        /// What it is, and what it would have to be.
        reason: String,
    },
    /// The volume's project has no room for what the stack itself needs.
    #[error("volume {}: its quota project is used up, or nearly: a stack needs {} KiB itself: {source}", volume.display(), crate::room::KEPT >> 10)]
    Room {
        /// The volume.
        volume: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A tree could not be walked or copied.
    #[error("volume {}: {source}", volume.display())]
    Tree {
        /// The volume.
        volume: PathBuf,
        /// Why.
        #[source]
        source: mycedrive_transfer::Error,
    },
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: a failed system call on `path`.
    pub(crate) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source: source.into(),
        }
    }

    /// Whether the kernel does not let this program, and will not the next time either.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    pub(crate) fn tree(volume: &Path) -> impl FnOnce(mycedrive_transfer::Error) -> Self {
        let volume = volume.to_owned();
        move |source| Self::Tree { volume, source }
    }

    pub(crate) fn state(volume: &Path, reason: impl Into<String>) -> Self {
        Self::State {
            volume: volume.to_owned(),
            reason: reason.into(),
        }
    }
}
