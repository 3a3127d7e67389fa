//! Why a source says no. Nothing of the pod was touched.

use tonic::{Code, Status};

/// A refusal; the text reaches the event of the destination pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another version of the protocol.
    #[error(
        "the source speaks protocol {ours}, the destination {theirs}: install the same version \
         of mycedrive on both nodes"
    )]
    Protocol {
        /// This node's.
        ours: u32,
        /// The caller's.
        theirs: u32,
    },
    /// A field of the request that cannot be used.
    #[error("the destination's request is malformed: {0}")]
    Malformed(&'static str),
    /// Another namespace.
    #[error(
        "pod {pod} may only be fetched by a pod of its own namespace {namespace}, not by one of \
         {destination}"
    )]
    Namespace {
        /// The pod.
        pod: String,
        /// Its namespace.
        namespace: String,
        /// The destination's.
        destination: String,
    },
    /// A call about a migration that another node opened.
    #[error("migration {migration} was opened by node {owner}, not by {caller}")]
    Stranger {
        /// The migration.
        migration: String,
        /// Who opened it.
        owner: String,
        /// Who calls.
        caller: String,
    },
    /// The pod uses the host's network.
    #[error(
        "pod {0} uses the host's network: its connections and ports belong to the node, it cannot \
         move"
    )]
    HostNetwork(String),
    /// The pod is leaving or has left.
    #[error("pod {pod} is already migrating ({migration}, to {destination})")]
    Migrating {
        /// The pod.
        pod: String,
        /// The other migration.
        migration: String,
        /// Its destination.
        destination: String,
    },
    /// The pod runs elsewhere.
    #[error("pod {0} does not run here any more: it has moved; migrate from where it runs now")]
    Moved(String),
    /// The destination has a container of a name that the pod does not have.
    #[error("container {container} is not in pod {pod}, which has {names}")]
    UnknownContainer {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
        /// The names it has.
        names: String,
    },
    /// A running container that the destination has not shown.
    #[error(
        "container {container} runs in pod {pod}, but the destination pod has no container of \
         that name: both pods need the same containers"
    )]
    MissingContainer {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// Another image.
    #[error(
        "container {container}: the image differs: {ours} at the source, {theirs} at the \
         destination"
    )]
    Image {
        /// The container.
        container: String,
        /// Digest here.
        ours: String,
        /// Digest there.
        theirs: String,
    },
    /// Other rights.
    #[error("container {container}: the security context differs: {differences}")]
    Confinement {
        /// The container.
        container: String,
        /// What differs.
        differences: String,
    },
    /// A mount whose state moves has no counterpart.
    #[error("container {container}: the destination has no mount at {mount}")]
    Mount {
        /// The container.
        container: String,
        /// Where it is mounted.
        mount: String,
    },
    /// A container in a state from which it cannot move.
    #[error("container {container} is {state}: it can move when it is running or has ended")]
    State {
        /// The container.
        container: String,
        /// Its state.
        state: String,
    },
    /// The engine cannot carry it.
    #[error("{0}")]
    Obstacles(String),
    /// No room for the image on the source.
    #[error(
        "the source node has {free} MiB free below {folder}, the memory image needs about \
         {needed} MiB"
    )]
    Space {
        /// Free MiB.
        free: u64,
        /// Needed MiB.
        needed: u64,
        /// Where.
        folder: String,
    },
    /// Too many at one time.
    #[error("the source node takes part in {0} migrations already (migration.max_parallel)")]
    Busy(u32),
    /// The state machine says no.
    #[error("{0}")]
    Order(String),
    /// A migration of that id is not known here.
    #[error("the source node does not know migration {0}")]
    Unknown(String),
    /// The offer cannot stand.
    #[error("the source took the pod back: {0}")]
    TakenBack(String),
    /// A person decided otherwise.
    #[error("a decision at the source stands against it: {0}")]
    Overruled(String),
}

impl Refusal {
    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::InvalidArgument,
            Self::Namespace { .. } | Self::Stranger { .. } => Code::PermissionDenied,
            Self::Unknown(_) => Code::NotFound,
            Self::Busy(_) => Code::ResourceExhausted,
            Self::TakenBack(_) | Self::Overruled(_) => Code::Aborted,
            _ => Code::FailedPrecondition,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}
