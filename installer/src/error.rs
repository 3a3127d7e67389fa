//! What can go wrong while a node is changed.

use std::path::PathBuf;

/// Failures of the installer. Every message names the file concerned (as seen
/// inside the root) and, where a person can do something about it, what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a file of the tree failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried, for example `write`.
        action: &'static str,
        /// The path inside the root.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },

    /// The root itself cannot be used.
    #[error("root {path}: {source}")]
    Root {
        /// The path given with `--root`.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },

    /// Another installer works on the same tree.
    #[error("another mycedrive-installer is changing {path}; wait until it is done")]
    Busy {
        /// The root that is locked.
        path: PathBuf,
    },

    /// A path of the tree is of a kind that cannot be replaced.
    #[error("{path} is {found}, expected {expected}; move it away and try again")]
    WrongKind {
        /// The path inside the root.
        path: String,
        /// What is there.
        found: &'static str,
        /// What would be acceptable.
        expected: &'static str,
    },

    /// A file is larger than anything that is expected there.
    #[error("{path} has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// The path inside the root.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },

    /// A program that must be installed was not found.
    #[error("{name} is not in {searched}; pass the directory that holds it with --from")]
    NoProgram {
        /// File name of the program.
        name: &'static str,
        /// The directory that was searched.
        searched: PathBuf,
    },

    /// A program that must be installed could not be read.
    #[error("read {path}: {source}")]
    ReadProgram {
        /// The file on this machine.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },

    /// No known distribution of containerd is in the tree.
    #[error(
        "found no containerd, k3s, RKE2 or k0s in {root}; install one first, or name it with --distribution"
    )]
    NoContainerd {
        /// The root that was searched.
        root: PathBuf,
    },

    /// A configuration file of containerd does not parse.
    #[error("{path} is not valid TOML, so it is left alone: {message}")]
    Toml {
        /// The path inside the root.
        path: String,
        /// The parser's message with line and column.
        message: String,
    },

    /// A configuration file has a version that this program does not know.
    #[error("{path}: {problem}")]
    ConfigVersion {
        /// The path inside the root.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },

    /// The configuration already holds something else under our name, or an
    /// edit would have changed something of the operator's.
    #[error("{path}: {problem}")]
    Conflict {
        /// The path inside the root.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },

    /// The installer's own record cannot be understood.
    #[error("{path} is damaged ({message}); nothing was changed")]
    Record {
        /// The path inside the root.
        path: String,
        /// What is wrong with it.
        message: String,
    },

    /// A step failed and what had been done was undone.
    #[error("{step}: {source}. Everything was put back as it was")]
    RolledBack {
        /// The step that failed.
        step: String,
        /// Why.
        source: Box<Error>,
    },

    /// A step failed, and so did putting things back.
    #[error(
        "{step}: {source}. Putting things back failed too ({undo}). The journal is kept: \
         run `mycedrive-installer recover` when the cause is gone"
    )]
    RollbackFailed {
        /// The step that failed.
        step: String,
        /// Why.
        source: Box<Error>,
        /// Why it could not be undone.
        undo: Box<Error>,
    },

    /// A failure that a test asked for.
    #[error("failure asked for at step {step}")]
    Injected {
        /// Number of the step, from 0.
        step: usize,
    },

    /// A command failed: on the live node, or one that makes an image.
    #[error("`{command}` failed: {problem}")]
    Command {
        /// The command line.
        command: String,
        /// Exit status or error.
        problem: String,
    },

    /// Two options contradict each other.
    #[error("{0}")]
    Usage(String),
}

/// Result of the installer's functions.
pub type Result<T> = std::result::Result<T, Error>;
