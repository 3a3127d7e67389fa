//! A TCP segment as from a peer, handed to a socket of this network namespace.

use crate::CRIU_MARK;
use crate::inject::{destination, raw, send};
use nix::sys::socket::{AddressFamily, setsockopt, sockopt};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// A segment without data and options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledges: u32,
    pub(super) says: Says,
    pub(super) window: u16,
}

/// The flags of a segment (RFC 9293).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Says {
    /// ACK
    Acknowledged = 0x10,
    /// FIN and ACK
    Finished = 0x11,
    /// RST and ACK
    Reset = 0x14,
}

const TCP: u8 = 6;
const HEADER: usize = 20;
const HOPS: u8 = 64;

/// Give the segment to the socket, past the lock.
pub(super) fn inject(segment: &Segment) -> io::Result<()> {
    let packet = segment.packet()?;
    let family = match packet.first() {
        Some(first) if first >> 4 == 4 => AddressFamily::Inet,
        _ => AddressFamily::Inet6,
    };
    let socket = raw(family)?;
    setsockopt(&socket, sockopt::Mark, &CRIU_MARK)?;
    match destination(&packet) {
        Some(to) => send(&socket, &packet, &to),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl Segment {
    fn packet(&self) -> io::Result<Vec<u8>> {
        let (from, to) = (self.from.ip().to_canonical(), self.to.ip().to_canonical());
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                // RFC 791. The kernel fills in the header's checksum (raw(7)).
                let mut packet = vec![0x45, 0, 0, 2 * HEADER as u8, 0, 0, 0x40, 0, HOPS, TCP, 0, 0];
                let mut pseudo = [from.octets(), to.octets()].concat();
                packet.extend_from_slice(&pseudo);
                pseudo.extend_from_slice(&[0, TCP, 0, HEADER as u8]);
                packet.extend_from_slice(&self.tcp(&pseudo));
                Ok(packet)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                // RFC 8200.
                let mut packet = vec![0x60, 0, 0, 0, 0, HEADER as u8, TCP, HOPS];
                let mut pseudo = [from.octets(), to.octets()].concat();
                packet.extend_from_slice(&pseudo);
                pseudo.extend_from_slice(&[0, 0, 0, HEADER as u8, 0, 0, 0, TCP]);
                packet.extend_from_slice(&self.tcp(&pseudo));
                Ok(packet)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// RFC 9293, with the checksum over the pseudo header.
    fn tcp(&self, pseudo: &[u8]) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0..2].copy_from_slice(&self.from.port().to_be_bytes());
        header[2..4].copy_from_slice(&self.to.port().to_be_bytes());
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..12].copy_from_slice(&self.acknowledges.to_be_bytes());
        header[12] = (HEADER as u8 / 4) << 4;
        header[13] = self.says as u8;
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        let sum = checksum(&[pseudo, &header].concat());
        header[16..18].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high, ..] => u32::from(*high) << 8,
        [] => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests;
