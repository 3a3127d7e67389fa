//! Unix sockets that connect two containers of a pod.
//!
//! CRIU dumps and restores each container by itself, so it cannot carry a connection of which it
//! sees one end. What it leaves to a plugin (`shim/criu-plugin`) is done here.
//!
//! On the source, while all containers stand still, [`cut()`] finds the ends that one container has
//! and [`save`] what must be known of each: which socket the other end is, what was not read yet,
//! and who the other end was. That goes with the container's image. On the destination [`Ends`]
//! makes both ends of each connection before the containers are restored, fills their queues, and
//! hands each end to the restore that asks for it by its inode on the source. What needs a restored
//! process, a datagram socket's name and its connection to a socket that CRIU restores, is done by
//! [`Ends::finish`], when all processes exist and none has run.
//!
//! | | carried |
//! |---|---|
//! | stream, seqpacket | both ends, unread bytes and messages, `SO_PEERCRED` but for the pid, which another container never sees; `getsockname` and `getpeername` show other names |
//! | datagram, connected to a socket of another container | the connection, its own name, unread messages |
//! | options, flags, half-closed directions | by CRIU |
//! | descriptors or credentials (`SO_PASSCRED`) in a message that was not read; connections that were not accepted; an end that two containers share; the other end outside of the pod | no: [`Problem`] |

mod codec;
mod cut;
mod ends;
mod make;
mod place;
mod problem;
mod queue;
mod record;
mod server;

pub use cut::{Cut, Link, Members, cut};
pub use ends::{Ends, Locate};
pub use place::{Member, Place, Process};
pub use problem::Problem;
pub use record::{Half, Saved, save};

use crate::kernel::diag_unix;
use crate::{PodNet, Result};
use nix::sys::socket::{UnixAddr, getpeername};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

/// Which semantics a socket has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
    /// `SOCK_SEQPACKET`.
    SeqPacket,
}

impl Kind {
    pub(crate) const fn of_number(number: i32) -> Option<Self> {
        match number {
            libc::SOCK_STREAM => Some(Self::Stream),
            libc::SOCK_DGRAM => Some(Self::Datagram),
            libc::SOCK_SEQPACKET => Some(Self::SeqPacket),
            _ => None,
        }
    }

    const fn number(self) -> i32 {
        match self {
            Self::Stream => libc::SOCK_STREAM,
            Self::Datagram => libc::SOCK_DGRAM,
            Self::SeqPacket => libc::SOCK_SEQPACKET,
        }
    }
}

/// A unix socket, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its semantics.
    pub kind: Kind,
    /// Whether it takes connections.
    pub listening: bool,
    /// Inode of the socket that it is connected to.
    pub peer: Option<u32>,
    /// Inodes of sockets whose connection it has not accepted yet.
    pub waiting: Vec<u32>,
    /// Its name: a path, or a zero and an abstract name; empty without one.
    pub name: Vec<u8>,
}

/// The name of a socket's other end, as the socket itself knows it.
pub fn peer_name(place: Place) -> Option<Vec<u8>> {
    let socket = place.descriptor().ok()?;
    let address: UnixAddr = getpeername(socket.as_raw_fd()).ok()?;
    Some(queue::name_of(&address))
}

impl PodNet {
    /// The unix sockets of the namespace, by inode.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`](crate::Error::Netlink), [`Error::Namespace`](crate::Error::Namespace).
    pub fn unix_sockets(&self) -> Result<BTreeMap<u32, Socket>> {
        self.inside(diag_unix::list)
    }
}
