//! Handing held packets to the pod's own sockets.

use crate::{Error, PodNet, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrLike, sendto, socket,
};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

impl PodNet {
    /// Give whole IP packets that were read from the TUN to the pod, after
    /// [`PodNet::unlock_source`]: through a raw socket they come in over loopback, past
    /// `rp_filter`. Returns how many the kernel took; the rest is lost, as on any network.
    ///
    /// # Errors
    ///
    /// [`Error::Inject`] if there is no raw socket, [`Error::Namespace`].
    pub fn deliver<P: AsRef<[u8]> + Sync>(&self, packets: &[P]) -> Result<usize> {
        self.inside(|| {
            let v4 = raw(AddressFamily::Inet).map_err(Error::Inject)?;
            let v6 = raw(AddressFamily::Inet6).ok();
            let mut taken = 0;
            for packet in packets.iter().map(AsRef::as_ref) {
                let sent = match destination(packet) {
                    Some(to @ To::V4(_)) => send(&v4, packet, &to).is_ok(),
                    Some(to @ To::V6(_)) => {
                        v6.as_ref().is_some_and(|s| send(s, packet, &to).is_ok())
                    }
                    None => false,
                };
                taken += usize::from(sent);
            }
            Ok(taken)
        })
    }
}

/// Where a packet goes.
pub(crate) enum To {
    V4(SockaddrIn),
    V6(SockaddrIn6),
}

/// The destination in an IP packet's header.
pub(crate) fn destination(packet: &[u8]) -> Option<To> {
    match packet.first()? >> 4 {
        4 => {
            let bytes: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(To::V4(SocketAddrV4::new(Ipv4Addr::from(bytes), 0).into()))
        }
        6 => {
            let bytes: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let to = SocketAddrV6::new(Ipv6Addr::from(bytes), 0, 0, 0);
            Some(To::V6(to.into()))
        }
        _ => None,
    }
}

/// IPPROTO_RAW: the packets bring their own IP header (raw(7)).
pub(crate) fn raw(family: AddressFamily) -> io::Result<OwnedFd> {
    let (flags, protocol) = (SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
    socket(family, SockType::Raw, flags, protocol).map_err(Into::into)
}

pub(crate) fn send(socket: &OwnedFd, packet: &[u8], to: &To) -> io::Result<()> {
    let to: &dyn SockaddrLike = match to {
        To::V4(to) => to,
        To::V6(to) => to,
    };
    sendto(socket.as_raw_fd(), packet, to, MsgFlags::empty())?;
    Ok(())
}
