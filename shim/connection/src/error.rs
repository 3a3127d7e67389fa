use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in a pod's network namespace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace cannot be opened or joined.
    #[error("network namespace {path}: {source}; is the pod still there?")]
    Namespace {
        /// Where the namespace was looked for.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The pod shares the network of this process: locking it would cut off the node.
    #[error("{path} is the node's own network; pods with hostNetwork cannot keep connections")]
    HostNetwork {
        /// The namespace that was refused.
        path: PathBuf,
    },
    /// The thread for the namespace could not be started, or it died.
    #[error("thread in the pod's network namespace: {0}")]
    Thread(io::Error),
    /// A netlink request was refused.
    #[error("netlink: {what}: {source}")]
    Netlink {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's answer could not be understood.
    #[error("netlink: {what}: answer cut short or malformed")]
    Malformed {
        /// What was asked for.
        what: String,
    },
    /// A sysctl could not be read or written.
    #[error("sysctl {path} in the pod's network namespace: {source}")]
    Sysctl {
        /// File below /proc/sys.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The TUN device could not be made or opened.
    #[error("TUN device: {what}: {source}; is /dev/net/tun there and the module loaded?")]
    Tun {
        /// The step that failed.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no TUN device: neither prepared nor adopted, or already removed.
    #[error("no TUN device in the pod's network namespace; was the pod's network prepared?")]
    NoDevice,
    /// No old address was given.
    #[error("no old address given; nothing to keep connections for")]
    NoAddress,
    /// An old address is not on any interface of the source pod.
    #[error("{address} is not an address of this pod; ask for its addresses again")]
    NotHere {
        /// The address.
        address: IpAddr,
    },
    /// Connections of too many earlier pods live on.
    #[error(
        "the pod carries connections to the addresses of {} earlier pods already; wait for some \
         to end, or delete an old pod",
        crate::ROUTES
    )]
    TooManyRoutes,
    /// A socket could not be made again as it was.
    #[error("restore {socket}: {source}; is the old address here, and the network locked?")]
    Restore {
        /// What it was.
        socket: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Repair mode could not be ended; the connection is not usable.
    #[error("end repair mode of {count} sockets, first: {source}")]
    Release {
        /// How many failed.
        count: usize,
        /// The kernel's answer for the first.
        source: io::Error,
    },
    /// Bytes that are not saved sockets.
    #[error("saved sockets: byte {at}: {what}; are they from the same version?")]
    Saved {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// A unix socket between containers that cannot be carried.
    #[error(transparent)]
    Unix(#[from] crate::unix::Problem),
    /// One end of a connection between containers.
    #[error("cannot {what} the unix socket that has inode {inode} on the source: {source}")]
    End {
        /// What was tried.
        what: &'static str,
        /// The socket; 0: all of them.
        inode: u32,
        /// The kernel's answer, or what does not fit.
        source: io::Error,
    },
    /// Sockets can only be read or made while nothing reaches them.
    #[error("the pod's network is not locked; lock it first")]
    NotLocked,
    /// The helper's socket or thread.
    #[error("helper for DMTCP's plugin at {path}: {source}")]
    Helper {
        /// Where it listens.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Processes did not come to the point at which they are held.
    #[error("after {waited:?}, {held} of {expected} processes are held")]
    NotHeld {
        /// How long was waited.
        waited: std::time::Duration,
        /// How many are held.
        held: usize,
        /// How many should be, as far as known.
        expected: usize,
    },
    /// A raw socket for handing packets to the pod failed.
    #[error("raw socket in the pod's network namespace: {0}")]
    Inject(io::Error),
}

impl Error {
    /// For `map_err`: what was tried with one end of a connection between containers.
    pub(crate) fn end(what: &'static str, inode: u32) -> impl Fn(io::Error) -> Error {
        move |source| Error::End {
            what,
            inode,
            source,
        }
    }

    /// The errno of a netlink refusal.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Error::Netlink { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
