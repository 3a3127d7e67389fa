//! What has come for a program that has not taken it: no descriptor leads there.

use std::collections::BTreeSet;

use super::{CONNECTED, TCP_LISTEN, connection, each, end};
use crate::Result;

const SYN_RECEIVED: u32 = 1 << 3;
const CLOSE_WAIT: u32 = 1 << 8;
const LISTENING: u32 = 1 << TCP_LISTEN;
const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const ANY_STATE: u32 = u32::MAX;

/// Of an `inet_diag_msg`: local port; bytes in the receive queue, of a listener the connections that
/// wait; inode, which only what a descriptor leads to has.
const PORT: usize = 4;
const QUEUE: usize = 56;
const INODE: usize = 68;

/// How many connections were not accepted or are being made, and sockets have datagrams.
pub(crate) fn untaken() -> Result<usize> {
    let mut count = 0;
    each(TCP, LISTENING, |body| {
        count += word(body, QUEUE).unwrap_or(0) as usize;
    })?;
    each(TCP, SYN_RECEIVED, |_| count += 1)?;
    each(UDP, ANY_STATE, |body| {
        count += usize::from(word(body, QUEUE).is_some_and(|bytes| bytes > 0));
    })?;
    Ok(count)
}

/// Ends the connections that were not accepted; how many there were. Their peers hear of it, as far
/// as the network lets it pass.
pub(crate) fn reset_untaken() -> Result<usize> {
    let mut ports = BTreeSet::new();
    each(TCP, LISTENING, |body| {
        if word(body, QUEUE).is_some_and(|waiting| waiting > 0) {
            ports.extend(body.get(PORT..PORT + 2).map(<[u8]>::to_vec));
        }
    })?;
    if ports.is_empty() {
        return Ok(0);
    }
    let mut found = Vec::new();
    // Those that the program has closed have no inode either; they are in other states.
    each(TCP, CONNECTED | CLOSE_WAIT, |body| {
        let waits = body
            .get(PORT..PORT + 2)
            .is_some_and(|port| ports.contains(port));
        if waits && word(body, INODE) == Some(0) {
            found.extend(connection(TCP, body));
        }
    })?;
    end(&found)
}

fn word(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?))
}
