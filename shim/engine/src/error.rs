//! What can go wrong in an engine, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file or directory could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, e.g. "write".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The bundle's `config.json` lacks something or is not JSON.
    #[error("{} is not a usable OCI spec: {problem}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The pod sets an annotation that only the shim may set.
    #[error(
        "container {container} sets the annotation {annotation}, which is reserved: it would hand \
         options to CRIU, which runs as root; remove it from the pod"
    )]
    ReservedAnnotation {
        /// Whose spec.
        container: String,
        /// Which annotation.
        annotation: &'static str,
    },
    /// No engine has this name.
    #[error("there is no engine {name:?}; the engines are: criu, dmtcp")]
    UnknownEngine {
        /// The name given.
        name: String,
    },
    /// The engine's program is not there.
    #[error("{program} cannot be run ({source}): install {program} {wanted} or newer on this node")]
    Missing {
        /// The program.
        program: &'static str,
        /// The oldest version that will do.
        wanted: &'static str,
        /// Why it could not be run.
        #[source]
        source: io::Error,
    },
    /// The engine's program is too old or did not say its version.
    #[error("{program} {found:?} will not do: install {program} {wanted} or newer on this node")]
    TooOld {
        /// The program.
        program: &'static str,
        /// What it said.
        found: String,
        /// The oldest version that will do.
        wanted: &'static str,
    },
    /// The dump failed. The processes are as they were before.
    #[error("checkpoint of container {container} failed: {cause} (whole log: {})", log.display())]
    Checkpoint {
        /// The container's name.
        container: String,
        /// The engine's own error lines, or the runtime's.
        cause: String,
        /// The engine's log.
        log: PathBuf,
    },
    /// The restore failed. No process is left of it.
    #[error("restore of container {container} failed: {cause} (whole log: {})", log.display())]
    Restore {
        /// The container's name.
        container: String,
        /// The engine's own error lines, or the runtime's.
        cause: String,
        /// The engine's log.
        log: PathBuf,
    },
    /// A restored process may do more than the destination's spec allows.
    #[error(
        "process {pid} of container {container} was restored with more rights than this pod's \
         spec gives: {what}; give both pods the same securityContext"
    )]
    Wider {
        /// The container's name.
        container: String,
        /// The process here.
        pid: i32,
        /// What is wider.
        what: String,
    },
    /// The control group of a process could not be found.
    #[error("process {pid} has no control group that can be frozen: {problem}")]
    NoCgroup {
        /// The process.
        pid: i32,
        /// What was missing.
        problem: String,
    },
    /// A control group did not reach the wanted state in time.
    #[error(
        "control group {} did not become {wanted} within {waited:?}; a process in it may hang in \
         the kernel (state D), see its /proc/PID/stack", cgroup.display()
    )]
    FreezeTimeout {
        /// Its directory.
        cgroup: PathBuf,
        /// "frozen" or "thawed".
        wanted: &'static str,
        /// How long.
        waited: Duration,
    },
    /// A process starts another one each time the pod is frozen.
    #[error(
        "process {pid} was inside vfork at each of {tries} freezes; CRIU cannot dump that: try \
         again when the pod starts fewer processes"
    )]
    Vfork {
        /// The process.
        pid: i32,
        /// How often it was tried.
        tries: u32,
    },
    /// DMTCP's coordinator cannot be used.
    #[error(
        "DMTCP's coordinator cannot be used: {source}; a pod whose coordinator has ended cannot \
         be checkpointed any more"
    )]
    Coordinator {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The sockets of a pod under DMTCP.
    #[error("sockets of a pod under DMTCP: {0}")]
    Sockets(#[from] mycedrive_connection::Error),
    /// Unix sockets between the containers of a pod.
    #[error(transparent)]
    Unix(mycedrive_connection::Error),
    /// System V shared memory of two containers.
    #[error(
        "containers {container} and {other} both have System V shared memory attached, which CRIU \
         restores for one container of a pod only: let one of them detach it, or share memory in \
         /dev/shm"
    )]
    SharedMemory {
        /// One of them.
        container: String,
        /// The other one.
        other: String,
    },
    /// Sockets that a migration would lose.
    #[error(
        "the pod has {count} socket(s) that cannot move: {socket}: {reason}; try again, or let \
         its connections be closed (mycedrive.io/connections: close)"
    )]
    Lost {
        /// How many.
        count: usize,
        /// The first of them.
        socket: String,
        /// Why.
        reason: String,
    },
    /// This engine cannot carry this container.
    #[error("DMTCP cannot carry container {container}: {reason}")]
    Unfit {
        /// The container's name.
        container: String,
        /// Why, and what can be done.
        reason: String,
    },
    /// Not enough room for an image.
    #[error(
        "the image of container {container} needs about {needed} MiB, {} has {free} MiB free; \
         nothing was done: make room there", place.display()
    )]
    NoRoom {
        /// The container's name.
        container: String,
        /// Where the image would go.
        place: PathBuf,
        /// MiB that are needed.
        needed: u64,
        /// MiB that are free.
        free: u64,
    },
    /// An image in memory would break the memory limit of the processes that write it.
    #[error(
        "the image of container {container} needs about {needed} MiB; {} is memory, so that it \
         counts for the memory limit of {limit} MiB of control group {}, which has {free} MiB \
         free; nothing was done: raise the container's limit, or put image_dir on a disk",
        place.display(), group.display()
    )]
    MemoryLimit {
        /// The container's name.
        container: String,
        /// Where the image would go.
        place: PathBuf,
        /// The group's directory.
        group: PathBuf,
        /// MiB that the group may have.
        limit: u64,
        /// MiB that are needed, by the group's other containers as well.
        needed: u64,
        /// MiB that the group may still have.
        free: u64,
    },
    /// A checkpoint directory cannot be used here.
    #[error("checkpoint {} cannot be used: {misfit}", directory.display())]
    Misfit {
        /// The directory.
        directory: PathBuf,
        /// The first thing that does not fit.
        #[source]
        misfit: crate::image::Misfit,
    },
    /// A container file that came with an image is not what it should be.
    #[error("{} is damaged: {problem}", path.display())]
    DamagedImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl EngineError {
    /// What does not fit in a checkpoint directory.
    pub(crate) fn misfit(directory: &Path, misfit: crate::image::Misfit) -> Self {
        Self::Misfit {
            directory: directory.to_owned(),
            misfit,
        }
    }

    /// For `map_err`: what was tried, and on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
