//! The kernel's table of unix sockets (linux/unix_diag.h).

use super::message::{Message, attributes, u32_at};
use super::netlink::Netlink;
use crate::Result;
use crate::unix::{Kind, Socket};
use libc::{NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::SockProtocol;
use std::collections::BTreeMap;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NAME: u16 = 0;
const PEER: u16 = 2;
const ICONS: u16 = 3;
const SHOW: u32 = 1 << NAME | 1 << PEER | 1 << ICONS;
const LISTENING: u8 = 10;
/// Bytes of `unix_diag_msg`.
const HEADER: usize = 16;

/// All unix sockets of the calling thread's network namespace, by inode.
pub(crate) fn list() -> Result<BTreeMap<u32, Socket>> {
    // `unix_diag_req`: family, protocol, padding, states, inode, what to show, cookie.
    let mut request = vec![libc::AF_UNIX as u8, 0, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(SHOW.to_ne_bytes());
    request.resize(24, 0);
    let message = Message::new(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, &request);
    let mut netlink = Netlink::open(SockProtocol::NetlinkSockDiag)?;
    let replies = netlink.dump(&message, "list unix sockets")?;
    Ok(replies
        .iter()
        .filter_map(|reply| socket(&reply.body))
        .collect())
}

/// A `unix_diag_msg`: family, type, state, padding, inode, cookie; then attributes.
fn socket(body: &[u8]) -> Option<(u32, Socket)> {
    let kind = Kind::of_number(i32::from(*body.get(1)?))?;
    let mut socket = Socket {
        kind,
        listening: *body.get(2)? == LISTENING,
        peer: None,
        waiting: Vec::new(),
        name: Vec::new(),
    };
    for (attribute, value) in attributes(body.get(HEADER..)?) {
        match attribute {
            NAME => socket.name = plain_name(value),
            // 0: a connection that was not accepted yet.
            PEER => socket.peer = u32_at(value, 0).filter(|inode| *inode != 0),
            ICONS => {
                let all = value.chunks_exact(4).filter_map(|chunk| u32_at(chunk, 0));
                socket.waiting = all.filter(|inode| *inode != 0).collect();
            }
            _ => {}
        }
    }
    Some((u32_at(body, 4)?, socket))
}

/// Without the zero that ends a path; an abstract name begins with one, and may end with some.
pub(crate) fn plain_name(value: &[u8]) -> Vec<u8> {
    match value {
        [0, ..] | [] => value.to_vec(),
        path => path
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or(path)
            .to_vec(),
    }
}

#[cfg(test)]
#[path = "diag_unix_tests.rs"]
mod tests;
