//! What can go wrong in the testbed.

use std::path::PathBuf;

/// Result of a testbed operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and where possible what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The testbed makes namespaces, mounts and control groups.
    #[error(
        "the testbed needs root: {0}; run it as root on a machine or in a container with all capabilities"
    )]
    Privilege(String),
    /// A name that cannot be used for namespaces and directories.
    #[error("`{0}` is not a name for a testbed or node: use 1 to 20 of a-z, 0-9 and -")]
    Name(String),
    /// A file operation failed.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A command could not be started.
    #[error("cannot run `{command}`: {source}")]
    Spawn {
        /// The command line.
        command: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A command ended with a failure.
    #[error("`{command}` ended with {status}: {output}")]
    Command {
        /// The command line.
        command: String,
        /// Exit status in words.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A package that the testbed needs cannot be installed.
    #[error(
        "cannot install {packages}: {reason}; the testbed needs Debian packages, see apt's message"
    )]
    Packages {
        /// Packages that were asked for.
        packages: String,
        /// apt's or mmdebstrap's last lines.
        reason: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: nix::Error,
    },
    /// A call of the container runtime interface failed.
    #[error("{call} on {node}: {}: {}", code_name(.status), .status.message())]
    Cri {
        /// Name of the call.
        call: &'static str,
        /// Node that was asked.
        node: String,
        /// The runtime's answer.
        status: Box<tonic::Status>,
    },
    /// containerd cannot be reached.
    #[error("cannot reach containerd of {node}: {reason}; see `cargo testbed logs {node}`")]
    Connect {
        /// Node whose containerd was to be reached.
        node: String,
        /// What the client said.
        reason: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s{detail}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// What is known about the reason; may be empty.
        detail: String,
    },
    /// Another program has a testbed of that name.
    #[error(
        "testbed `{0}` is in use by another program on this machine; wait until that has ended"
    )]
    InUse(String),
    /// Nothing of that name is here.
    #[error("there is no {kind} `{name}`; {hint}")]
    Unknown {
        /// Kind of thing.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// What to do.
        hint: String,
    },
    /// A file that the testbed wrote itself cannot be read.
    #[error("{path} is not what the testbed wrote: {reason}; run `cargo testbed down`")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Wraps a file error: `map_err(Error::file("read", &path))`.
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// Wraps a system call's error: `map_err(Error::system("unshare"))`.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// The status of a failed CRI call, if this is one.
    pub fn cri_status(&self) -> Option<&tonic::Status> {
        match self {
            Self::Cri { status, .. } => Some(status),
            _ => None,
        }
    }
}

fn code_name(status: &tonic::Status) -> String {
    format!("{:?}", status.code())
}
