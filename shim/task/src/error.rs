//! The shim's errors and the codes under which containerd sees them.

use std::io;
use std::path::{Path, PathBuf};

use ttrpc::Code;

/// What can go wrong in the shim.
///
/// Every variant maps to one gRPC code, because containerd's clients act on the code: a
/// `NotFound` from Kill, for instance, means "it is gone already" and is not an error to them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such container, exec or process (any more).
    #[error("{0}: not found")]
    NotFound(String),
    /// A container or exec of that id is here already.
    #[error("{0}: already exists")]
    AlreadyExists(String),
    /// The call does not fit where the process is in its life. It has no code of its own under
    /// containerd's own shim, and so not here.
    #[error("{0}")]
    State(String),
    /// Something beside the process's own life does not allow the call.
    #[error("{0}")]
    Precondition(String),
    /// The request is malformed.
    #[error("{0}")]
    Invalid(String),
    /// Not now; the caller may try again.
    #[error("{0}")]
    Unavailable(String),
    /// The call is not offered for this container.
    #[error("{0}")]
    Unimplemented(String),
    /// runc failed; `message` is the last error line of its log.
    #[error("runc {command} failed: {message}")]
    Runc {
        /// The sub-command, e.g. `create`.
        command: String,
        /// What runc wrote.
        message: String,
    },
    /// A system call or file operation failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried, with the path.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A checkpoint or restore failed.
    #[error(transparent)]
    Engine(#[from] mycedrive_engine::EngineError),
    /// The pod's network could not be changed.
    #[error(transparent)]
    Network(#[from] mycedrive_connection::Error),
    /// A volume could not be mounted or folded back.
    #[error(transparent)]
    Volume(#[from] mycedrive_volume::Error),
    /// A test ordered it.
    #[error(transparent)]
    Fault(#[from] mycedrive_handover::fault::Injected),
    /// A file or message could not be decoded.
    #[error("cannot read {what}: {reason}")]
    Decode {
        /// The file or message.
        what: String,
        /// Why not.
        reason: String,
    },
}

/// Result with the shim's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an I/O error: `.map_err(Error::io(format!("open {path}")))`.
    pub fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::Io {
            doing,
            source: source.into(),
        }
    }

    /// Wraps an I/O error on a path.
    pub fn path<E: Into<io::Error>>(verb: &str, path: &Path) -> impl FnOnce(E) -> Self {
        Self::io(format!("{verb} {}", PathBuf::from(path).display()))
    }

    /// A decoding error.
    pub fn decode(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Decode {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    /// The code that containerd's clients act on.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NOT_FOUND,
            Self::AlreadyExists(_) => Code::ALREADY_EXISTS,
            Self::Precondition(_) | Self::Engine(mycedrive_engine::EngineError::Misfit { .. }) => {
                Code::FAILED_PRECONDITION
            }
            Self::Invalid(_) => Code::INVALID_ARGUMENT,
            Self::Unavailable(_) => Code::UNAVAILABLE,
            Self::Unimplemented(_) => Code::UNIMPLEMENTED,
            Self::State(_)
            | Self::Runc { .. }
            | Self::Io { .. }
            | Self::Engine(_)
            | Self::Network(_)
            | Self::Volume(_)
            | Self::Fault(_)
            | Self::Decode { .. } => Code::UNKNOWN,
        }
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        Self::RpcStatus(ttrpc::get_status(code, error))
    }
}

impl From<Error> for containerd_shim::Error {
    fn from(error: Error) -> Self {
        Self::Other(error.to_string())
    }
}
