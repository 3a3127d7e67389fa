//! What cannot be carried.

/// Why a unix socket cannot be carried, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The other end is not a process of the pod.
    #[error(
        "container {container}: process {pid} has a unix socket connected to {path}, whose other \
         end no process of the pod has; such a connection cannot move: let the program close it, \
         or do without the socket of the host"
    )]
    Outside {
        /// Whose socket it is.
        container: String,
        /// The process, as this node numbers it.
        pid: i32,
        /// The other end's name, as far as known.
        path: String,
    },
    /// The other end is in a container that is carried in another way, or not at all.
    #[error(
        "container {container}: process {pid} has a unix socket connected to {path} in container \
         {other}, which is not under CRIU; give both containers the engine criu \
         (mycedrive.io/engine)"
    )]
    OtherEngine {
        /// Whose socket it is.
        container: String,
        /// The process.
        pid: i32,
        /// The socket's name, or that of the other end.
        path: String,
        /// Where the other end is.
        other: String,
    },
    /// One and the same socket is open in two containers.
    #[error(
        "containers {container} and {other} have the same unix socket {path} open (process {pid}); \
         it would become two: close it in one of them"
    )]
    Shared {
        /// Who has it.
        container: String,
        /// The process.
        pid: i32,
        /// The socket's name, or that of the other end.
        path: String,
        /// Who else has it.
        other: String,
    },
    /// The other end is in another container, and only this one is checkpointed.
    #[error(
        "container {container}: process {pid} has a unix socket connected to {path} outside of this \
         container; a checkpoint of one container cannot keep it: checkpoint the pod (mycedrive \
         checkpoint), or let the program close it"
    )]
    Alone {
        /// Whose socket it is.
        container: String,
        /// The process.
        pid: i32,
        /// The socket's name, or that of the other end.
        path: String,
    },
    /// A connection was not accepted yet.
    #[error(
        "container {container}: a connection of container {other} to the unix socket {path} was \
         not accepted yet (process {pid}), which cannot move; try again when it is"
    )]
    NotAccepted {
        /// Who listens.
        container: String,
        /// The process.
        pid: i32,
        /// The listening socket's name.
        path: String,
        /// Who connects.
        other: String,
    },
    /// What was not read yet is more than bytes.
    #[error(
        "container {container}: process {pid} has not read {what} from the unix socket {path}, \
         which cannot move; try again when it has"
    )]
    Unread {
        /// Whose socket it is.
        container: String,
        /// The process.
        pid: i32,
        /// The socket's name, or that of the other end.
        path: String,
        /// What.
        what: &'static str,
    },
}

/// A name for a message.
pub(super) fn show(name: &[u8]) -> String {
    match name {
        [] => "a socket without a name".to_owned(),
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name).escape_debug()),
        path => String::from_utf8_lossy(path).escape_debug().to_string(),
    }
}
