//! From a socket to what is kept of it.

use super::saved::{Lost, Socket, State};
use super::sockopt::{REPAIR_OFF_SILENTLY, get, get_some, set_tcp};
use super::tcp::{self, Info, Phase};
use super::{address, options};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// A socket as it was found.
pub(super) struct Found {
    pub(super) socket: Socket,
    pub(super) lost: Option<Lost>,
    /// Repair mode is on: somebody has to end it.
    pub(super) in_repair: bool,
}

/// net/tcp_states.h.
const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// How sockets are read.
pub(super) struct How<'a> {
    /// Connections are carried: read, and put into repair mode.
    pub(super) connections: bool,
    /// Tells where the socket with this cookie is connecting to.
    pub(super) peer: &'a dyn Fn(u64) -> Option<SocketAddr>,
}

/// Read a socket.
pub(super) fn save(socket: BorrowedFd, how: &How) -> io::Result<Found> {
    let option = |name| get::<i32>(socket, libc::SOL_SOCKET, name);
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    let mut found = Found {
        socket: Socket {
            domain: option(libc::SO_DOMAIN)?,
            kind: option(libc::SO_TYPE)?,
            protocol: option(libc::SO_PROTOCOL)?,
            nonblocking: flags.contains(OFlag::O_NONBLOCK),
            owner: options::owner(socket)?,
            options: options::read(socket),
            state: State::Fresh,
        },
        lost: None,
        in_repair: false,
    };
    if found.socket.kind != libc::SOCK_STREAM {
        found.socket.state = State::Datagram {
            local: address::local(socket)?,
            peer: address::peer(socket)?,
        };
    } else if found.socket.protocol == libc::IPPROTO_TCP {
        stream(socket, how, &mut found)?;
    } else {
        found.lose(socket, "its protocol is not TCP (MPTCP, SCTP)");
    }
    Ok(found)
}

fn stream(socket: BorrowedFd, how: &How, found: &mut Found) -> io::Result<()> {
    let info = Info::of(socket)?;
    let local = address::local(socket)?;
    match (info.state(), local) {
        (CLOSE, local) => {
            let bound = || local.map_or(State::Fresh, State::Bound);
            let ended = tcp::ended(socket)?.filter(|_| how.connections);
            found.socket.state = ended.map_or_else(bound, State::Ended);
        }
        (LISTEN, Some(local)) => {
            let (waiting, backlog) = info.backlog();
            found.socket.state = State::Listening { local, backlog };
            if waiting > 0 {
                found.lose(socket, &format!("{waiting} connections were not accepted"));
            }
        }
        (SYN_SENT, Some(local)) if how.connections => match (how.peer)(options::cookie(socket)?) {
            None => found.lose(socket, "it was connecting, to nobody knows whom"),
            Some(peer) => {
                found.in_repair = true;
                let first = tcp::attempt(socket)?;
                found.socket.state = State::Connecting { local, peer, first };
            }
        },
        (number, _) => match Phase::from_number(number) {
            _ if !how.connections => found.lose(socket, "connections are not carried"),
            None => found.lose(socket, &format!("its state is {number}")),
            Some(_) if has_upper_protocol(socket) => {
                found.lose(socket, "the kernel encrypts it (TLS)");
            }
            Some(phase) => match tcp::save(socket, &info, phase) {
                Ok(connection) => {
                    found.in_repair = true;
                    found.socket.state = State::Connected(Box::new(connection));
                }
                Err(error) => {
                    set_tcp(socket, libc::TCP_REPAIR, &REPAIR_OFF_SILENTLY)?;
                    found.lose(socket, &error.to_string());
                }
            },
        },
    }
    Ok(())
}

fn has_upper_protocol(socket: BorrowedFd) -> bool {
    get_some::<[u8; 16]>(socket, libc::IPPROTO_TCP, libc::TCP_ULP)
        .is_ok_and(|(name, length)| length > 0 && name[0] != 0)
}

impl Found {
    fn lose(&mut self, socket: BorrowedFd, reason: &str) {
        self.lost = Some(Lost {
            socket: describe(socket),
            reason: reason.to_owned(),
        });
    }
}

/// Such as `TCP 10.1.0.2:80 to 10.9.0.2:40000`.
fn describe(socket: impl AsFd) -> String {
    let socket = socket.as_fd();
    let text = |address: io::Result<Option<SocketAddr>>| match address {
        Ok(Some(address)) => address.to_string(),
        _ => "none".to_owned(),
    };
    let (local, peer) = (address::local(socket), address::peer(socket));
    format!("TCP {} to {}", text(local), text(peer))
}
