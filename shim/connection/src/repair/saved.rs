//! What is kept of a pod's sockets.

use super::options::Value;
use super::{codec, tcp::Connection};
use crate::Result;
use mycedrive_dmtcp_wire::{SocketId, Token};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// All inet sockets of a pod at one moment, and which processes had them.
///
/// Connections contain what was sent and not yet read: secrets, as an image is one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// One for each process, in no order.
    pub(super) tokens: Vec<Token>,
    /// A socket's number is its place here, beginning with 1.
    pub(super) sockets: Vec<Socket>,
}

impl Saved {
    /// How many processes there were.
    pub fn processes(&self) -> usize {
        self.tokens.len()
    }

    /// How many sockets there were.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Every connection is over when it is made again, by a reset: what had arrived can still be
    /// read. For a pod that comes without the old addresses; one that it listens at explicitly is
    /// still needed.
    pub fn close_connections(&mut self) {
        let by_reset = true;
        for socket in &mut self.sockets {
            match &mut socket.state {
                State::Connected(connection) => {
                    let bytes = std::mem::take(&mut connection.receive.bytes);
                    socket.state = State::Ended(Ended { bytes, by_reset });
                }
                State::Connecting { .. } => {
                    let bytes = Vec::new();
                    socket.state = State::Ended(Ended { bytes, by_reset });
                }
                // Its own address was chosen for the peer: it is chosen again.
                State::Datagram {
                    local: Some(local),
                    peer: Some(_),
                } if !local.ip().is_loopback() => local.set_ip(match local {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                }),
                _ => {}
            }
        }
    }

    /// As bytes, to go with the processes' images.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// From the bytes of [`Saved::encode`]. Hostile bytes cost no more memory than they have.
    ///
    /// # Errors
    ///
    /// [`Error::Saved`](crate::Error::Saved) with the place where they stop making sense.
    pub fn decode(bytes: &[u8]) -> Result<Saved> {
        codec::decode(bytes)
    }
}

/// A socket that is not carried as it was; on the destination one without a connection, or with
/// less, takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What it was, such as `TCP 10.1.0.2:80 to 10.9.0.2:40000`.
    pub socket: String,
    /// Why.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) domain: i32,
    pub(super) kind: i32,
    pub(super) protocol: i32,
    /// `O_NONBLOCK`, which all descriptors share.
    pub(super) nonblocking: bool,
    /// Uid of the program that made it.
    pub(super) owner: u32,
    pub(super) options: Vec<Value>,
    pub(super) state: State,
}

/// The rest of a connection that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Not read by the program.
    pub(super) bytes: Vec<u8>,
    /// By a reset; otherwise both sides have closed it.
    pub(super) by_reset: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Neither bound nor connected, or its state is not carried.
    Fresh,
    /// Bound, maybe: TCP that does not listen yet.
    Bound(SocketAddr),
    Listening {
        local: SocketAddr,
        backlog: u32,
    },
    /// A SYN was sent.
    Connecting {
        local: SocketAddr,
        peer: SocketAddr,
        /// Sequence number of the SYN.
        first: u32,
    },
    Connected(Box<Connection>),
    /// TCP that is over, while the program has not read the end yet.
    Ended(Ended),
    /// Everything but TCP.
    Datagram {
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
    },
}

impl Saved {
    /// The sockets with their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (SocketId, &Socket)> {
        (1..).zip(&self.sockets)
    }
}
