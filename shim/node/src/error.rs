//! The crate's error. Messages name what failed, where, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::peers::PeerError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whatever goes wrong in the daemon or in the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or directory of this node.
    #[error("{what} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried: "cannot read".
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another node could not be reached, or is not who it should be.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Another node answered with an error.
    #[error("{endpoint} refused {call}: {message}")]
    Remote {
        /// The other node's endpoint.
        endpoint: String,
        /// The call, in words.
        call: &'static str,
        /// Its answer.
        message: String,
        /// Its answer's code.
        code: tonic::Code,
    },
    /// A pod's shim could not be reached or answered with an error.
    #[error("shim of pod sandbox {sandbox}: {call}: {message}")]
    Shim {
        /// The sandbox's id.
        sandbox: String,
        /// Which call.
        call: &'static str,
        /// What came back.
        message: String,
    },
    /// No shim of this node has that pod.
    #[error(
        "no pod {namespace}/{name} with runtimeClassName mycedrive runs on node {node}: \
         `mycedrive ps` there lists those that do"
    )]
    UnknownPod {
        /// Kubernetes namespace.
        namespace: String,
        /// Pod name.
        name: String,
        /// This node.
        node: String,
    },
    /// containerd did not answer, or does not know the thing.
    #[error("containerd at {socket}: {message}", socket = .socket.display())]
    Containerd {
        /// Path of its socket.
        socket: PathBuf,
        /// What came back.
        message: String,
    },
    /// Pages of a container's image, which the other node left out, are not in this node's copy.
    #[error("{0}")]
    OtherImage(String),
    /// An event on a pod could not be written.
    #[error("Kubernetes: {0}")]
    Kubernetes(String),
    /// No migration of that id.
    #[error("no migration {0} on this node: `mycedrive migrations` lists them")]
    UnknownMigration(String),
    /// An archive cannot be used; nothing was made of it.
    #[error("archive {path}: {problem}", path = .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problem: crate::archive::ArchiveError,
    },
    /// What encrypts or opens an archive cannot be used.
    #[error("key {path}: {problem}", path = .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problem: crate::archive::sealed::KeyError,
    },
    /// The request cannot be done; nothing was touched.
    #[error("{0}")]
    Refused(String),
    /// Something stopped half way; the text says what state it left behind.
    #[error("{0}")]
    Failed(String),
    /// Keys and certificates.
    #[error("{0}")]
    Pki(String),
    /// The daemon cannot be reached by the command.
    #[error("the node daemon does not answer at {socket}: {message}; is `mycedrive serve` running?", socket = .socket.display())]
    NoDaemon {
        /// The operator's socket.
        socket: PathBuf,
        /// Why.
        message: String,
    },
}

impl Error {
    /// For `map_err` on a file operation: `Error::io("cannot read", path)`.
    pub fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { what, path, source }
    }

    /// For `map_err` on a gRPC call to `endpoint`.
    pub fn remote(endpoint: &str, call: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        let endpoint = endpoint.to_owned();
        move |status| match PeerError::of_status(&endpoint, &status) {
            Some(error) => Self::Peer(error),
            None => Self::Remote {
                endpoint,
                call,
                message: status.message().to_owned(),
                code: status.code(),
            },
        }
    }

    /// For `map_err` on a journal: what was not recorded must not be done.
    #[allow(clippy::needless_pass_by_value)] // So that it fits map_err.
    pub fn of_journal(error: mycedrive_handover::journal::Error) -> Self {
        Self::Failed(error.to_string())
    }

    /// The gRPC code that fits.
    pub fn code(&self) -> tonic::Code {
        match self {
            Self::UnknownPod { .. } | Self::UnknownMigration(_) => tonic::Code::NotFound,
            Self::Refused(_) | Self::Archive { .. } | Self::Key { .. } => {
                tonic::Code::FailedPrecondition
            }
            Self::Peer(_) | Self::NoDaemon { .. } => tonic::Code::Unavailable,
            Self::Remote { code, .. } => *code,
            _ => tonic::Code::Internal,
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> Self {
        let code = match error.code() {
            tonic::Code::NotFound => ttrpc::Code::NOT_FOUND,
            tonic::Code::FailedPrecondition => ttrpc::Code::FAILED_PRECONDITION,
            tonic::Code::Unavailable => ttrpc::Code::UNAVAILABLE,
            tonic::Code::PermissionDenied => ttrpc::Code::PERMISSION_DENIED,
            tonic::Code::InvalidArgument => ttrpc::Code::INVALID_ARGUMENT,
            _ => ttrpc::Code::INTERNAL,
        };
        Self::RpcStatus(ttrpc::get_status(code, error.to_string()))
    }
}
