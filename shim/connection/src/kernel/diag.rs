//! The kernel's table of sockets: finding and ending them (sock_diag(7)).

mod untaken;

pub(crate) use untaken::{reset_untaken, untaken};

use super::link::ip;
use super::message::Message;
use super::netlink::{Netlink, unless};
use crate::Result;
use libc::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::SockProtocol;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// linux/sock_diag.h; asks for CAP_NET_ADMIN in the namespace.
const SOCK_DESTROY: u16 = 21;
const TCP_ESTABLISHED: u32 = 1;
const TCP_TIME_WAIT: u32 = 6;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;
const TCP_STATES: u32 = 0xfff & !(1 << TCP_TIME_WAIT | 1 << TCP_CLOSE | 1 << TCP_LISTEN);
const CONNECTED: u32 = 1 << TCP_ESTABLISHED;

/// A connection: what names it to the kernel.
pub(crate) struct Connection {
    family: u8,
    protocol: u8,
    /// `inet_diag_sockid`.
    id: Vec<u8>,
}

/// TCP connections and connected UDP sockets whose local address is one of `old`.
pub(crate) fn list(old: &[IpAddr]) -> Result<Vec<Connection>> {
    let mut found = Vec::new();
    for (protocol, states) in [
        (libc::IPPROTO_TCP as u8, TCP_STATES),
        (libc::IPPROTO_UDP as u8, CONNECTED),
    ] {
        each(protocol, states, |body| {
            if local(body).is_some_and(|address| old.contains(&address)) {
                found.extend(connection(protocol, body));
            }
        })?;
    }
    Ok(found)
}

/// Calls `see` with the `inet_diag_msg` of every socket of this protocol in one of these states.
fn each(protocol: u8, states: u32, mut see: impl FnMut(&[u8])) -> Result<()> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkSockDiag)?;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let request = request(family, protocol, states, &[0; 48]);
        let message = Message::new(SOCK_DIAG_BY_FAMILY, flags, &request);
        for reply in netlink.dump(&message, "list sockets")? {
            see(&reply.body);
        }
    }
    Ok(())
}

/// What names the socket of an `inet_diag_msg`.
fn connection(protocol: u8, body: &[u8]) -> Option<Connection> {
    Some(Connection {
        family: *body.first()?,
        protocol,
        id: body.get(4..52)?.to_vec(),
    })
}

/// Ends the connections of [`list`]; how many there were.
pub(crate) fn reset(old: &[IpAddr]) -> Result<usize> {
    end(&list(old)?)
}

/// Ends these connections; how many there were.
fn end(found: &[Connection]) -> Result<usize> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkSockDiag)?;
    for one in found {
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        let request = request(one.family, one.protocol, u32::MAX, &one.id);
        let message = Message::new(SOCK_DESTROY, flags, &request);
        // It may have ended by itself, or the kernel has not got this call.
        let fine = [libc::ENOENT, libc::EOPNOTSUPP, libc::EINVAL];
        unless(netlink.change(message, "end a connection"), &fine)?;
    }
    Ok(found.len())
}

/// `inet_diag_req_v2`: family, protocol, extensions, pad, states, inet_diag_sockid.
fn request(family: u8, protocol: u8, states: u32, id: &[u8]) -> Vec<u8> {
    let mut request = vec![family, protocol, 0, 0];
    request.extend(states.to_ne_bytes());
    request.extend(id);
    request
}

/// The local address in an `inet_diag_msg`, IPv4-mapped ones as IPv4.
fn local(body: &[u8]) -> Option<IpAddr> {
    // Four bytes of state, two ports, then the source address.
    let bytes = body.get(8..24)?;
    if i32::from(*body.first()?) == libc::AF_INET {
        return ip(&bytes[..4]);
    }
    ip(bytes).map(|address| address.to_canonical())
}

const TCP_SYN_SENT: u32 = 2;

/// Where the TCP socket with this cookie (`SO_COOKIE`) tries to connect to; getpeername(2) does
/// not tell before it is connected.
pub(crate) fn peer_of_attempt(cookie: u64) -> Result<Option<SocketAddr>> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkSockDiag)?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
        request.extend((1u32 << TCP_SYN_SENT).to_ne_bytes());
        request.resize(56, 0);
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let message = Message::new(SOCK_DIAG_BY_FAMILY, flags, &request);
        let replies = netlink.dump(&message, "list connection attempts")?;
        let found = replies
            .iter()
            .find_map(|reply| peer_of(&reply.body, cookie));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The peer in an `inet_diag_msg`, if it is that of the socket with this cookie: four bytes of
/// state, source port, destination port, source, destination, interface, cookie in two halves.
fn peer_of(body: &[u8], cookie: u64) -> Option<SocketAddr> {
    let half = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    if u64::from(half(44)?) | u64::from(half(48)?) << 32 != cookie {
        return None;
    }
    let port = u16::from_be_bytes(*body.get(6..)?.first_chunk()?);
    let bytes = body.get(24..40)?;
    if i32::from(*body.first()?) == libc::AF_INET {
        return Some(SocketAddr::new(ip(&bytes[..4])?, port));
    }
    // The scope of a link-local address is the interface of the route.
    match ip(bytes)? {
        IpAddr::V6(ip) => Some(SocketAddrV6::new(ip, port, 0, half(40)?).into()),
        ip @ IpAddr::V4(_) => Some(SocketAddr::new(ip, port)),
    }
}
