//! The socket options that are carried.
//!
//! All that can be read are kept; on the new socket those are set that it does not have anyway.
//! Not carried: packet filters and BPF programs, multicast memberships, keys for TCP-MD5 and
//! TCP-AO, IPsec policies. The kernel does not tell them, or not in a form that can be given back.

use super::sockopt::{self, get, get_some, set, set_bytes};
use std::io;
use std::os::fd::AsFd;

/// Longest value (bytes).
pub(super) const LONGEST: usize = 16;

/// One option and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) level: i32,
    pub(super) name: i32,
    pub(super) bytes: Vec<u8>,
}

const SOL_IP: i32 = libc::IPPROTO_IP;
const SOL_IPV6: i32 = libc::IPPROTO_IPV6;
const SOL_TCP: i32 = libc::IPPROTO_TCP;
const SOL_UDP: i32 = libc::IPPROTO_UDP;
/// asm-generic/socket.h: which buffer sizes the program has fixed.
const SO_BUF_LOCK: i32 = 72;

/// Level, name and length of each. `SO_REUSEADDR` comes last: see [`super::restore`].
const CARRIED: &[(i32, i32, usize)] = &[
    (libc::SOL_SOCKET, libc::SO_REUSEPORT, 4),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 4),
    (libc::SOL_SOCKET, libc::SO_BROADCAST, 4),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE, 4),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE, 4),
    (libc::SOL_SOCKET, libc::SO_MARK, 4),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT, 4),
    (libc::SOL_SOCKET, libc::SO_NO_CHECK, 4),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL, 4),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 4),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP, 4),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 4),
    (libc::SOL_SOCKET, libc::SO_LINGER, 8),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO, 16),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO, 16),
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE, LONGEST),
    (libc::SOL_SOCKET, libc::SO_SNDBUF, 4),
    (libc::SOL_SOCKET, libc::SO_RCVBUF, 4),
    (libc::SOL_SOCKET, SO_BUF_LOCK, 4),
    (SOL_IP, libc::IP_TOS, 4),
    // After the type of service, which sets it as well.
    (libc::SOL_SOCKET, libc::SO_PRIORITY, 4),
    (SOL_IP, libc::IP_TTL, 4),
    (SOL_IP, libc::IP_FREEBIND, 4),
    (SOL_IP, libc::IP_TRANSPARENT, 4),
    (SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 4),
    (SOL_IP, libc::IP_MTU_DISCOVER, 4),
    (SOL_IP, libc::IP_RECVERR, 4),
    (SOL_IP, libc::IP_RECVTOS, 4),
    (SOL_IP, libc::IP_RECVTTL, 4),
    (SOL_IP, libc::IP_PKTINFO, 4),
    (SOL_IP, libc::IP_MULTICAST_TTL, 4),
    (SOL_IP, libc::IP_MULTICAST_LOOP, 4),
    (SOL_IPV6, libc::IPV6_V6ONLY, 4),
    (SOL_IPV6, libc::IPV6_TCLASS, 4),
    (SOL_IPV6, libc::IPV6_UNICAST_HOPS, 4),
    (SOL_IPV6, libc::IPV6_FREEBIND, 4),
    (SOL_IPV6, libc::IPV6_TRANSPARENT, 4),
    (SOL_IPV6, libc::IPV6_MTU_DISCOVER, 4),
    (SOL_IPV6, libc::IPV6_RECVERR, 4),
    (SOL_IPV6, libc::IPV6_RECVPKTINFO, 4),
    (SOL_IPV6, libc::IPV6_RECVTCLASS, 4),
    (SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 4),
    (SOL_IPV6, libc::IPV6_MULTICAST_HOPS, 4),
    (SOL_IPV6, libc::IPV6_MULTICAST_LOOP, 4),
    (SOL_TCP, libc::TCP_NODELAY, 4),
    (SOL_TCP, libc::TCP_KEEPIDLE, 4),
    (SOL_TCP, libc::TCP_KEEPINTVL, 4),
    (SOL_TCP, libc::TCP_KEEPCNT, 4),
    (SOL_TCP, libc::TCP_SYNCNT, 4),
    (SOL_TCP, libc::TCP_LINGER2, 4),
    (SOL_TCP, libc::TCP_DEFER_ACCEPT, 4),
    (SOL_TCP, libc::TCP_USER_TIMEOUT, 4),
    (SOL_TCP, libc::TCP_NOTSENT_LOWAT, 4),
    (SOL_TCP, libc::TCP_FASTOPEN, 4),
    (SOL_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, 4),
    (SOL_TCP, libc::TCP_SAVE_SYN, 4),
    (SOL_TCP, libc::TCP_INQ, 4),
    (SOL_TCP, libc::TCP_CORK, 4),
    (SOL_TCP, libc::TCP_CONGESTION, LONGEST),
    (SOL_UDP, libc::UDP_CORK, 4),
    (SOL_UDP, libc::UDP_SEGMENT, 4),
    (SOL_UDP, libc::UDP_GRO, 4),
    (libc::SOL_SOCKET, libc::SO_REUSEADDR, 4),
];

/// Options that would be in the way while the queues are filled.
const AT_THE_END: &[(i32, i32)] = &[
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, SO_BUF_LOCK),
    (SOL_TCP, libc::TCP_CORK),
    (SOL_UDP, libc::UDP_CORK),
];

/// Whether an option is one of those that are carried, with a value of the right length.
pub(super) fn is_carried(value: &Value) -> bool {
    CARRIED.iter().any(|(level, name, length)| {
        (*level, *name) == (value.level, value.name)
            && (value.bytes.len() == *length
                || (*length == LONGEST && value.bytes.len() <= LONGEST))
    })
}

/// All carried options of a socket that it knows.
pub(super) fn read(socket: impl AsFd) -> Vec<Value> {
    let socket = socket.as_fd();
    let read = |(level, name, length): &(i32, i32, usize)| read_one(socket, *level, *name, *length);
    CARRIED.iter().filter_map(read).collect()
}

fn read_one(socket: impl AsFd, level: i32, name: i32, length: usize) -> Option<Value> {
    let (bytes, got) = get_some::<[u8; LONGEST]>(socket, level, name).ok()?;
    let bytes = bytes.get(..got.min(length))?.to_vec();
    let value = Value { level, name, bytes };
    is_carried(&value).then_some(value)
}

/// Set what the new socket does not have already, before it is bound.
pub(super) fn write(socket: impl AsFd, values: &[Value]) {
    write_some(socket, values, |value| {
        !AT_THE_END.contains(&(value.level, value.name))
    });
}

/// Set the rest, when the queues are filled.
pub(super) fn finish(socket: impl AsFd, values: &[Value]) {
    write_some(socket, values, |value| {
        AT_THE_END.contains(&(value.level, value.name))
    });
}

fn write_some(socket: impl AsFd, values: &[Value], wanted: impl Fn(&Value) -> bool) {
    let socket = socket.as_fd();
    for value in values.iter().filter(|v| wanted(v)) {
        let Value { level, name, bytes } = value;
        if read_one(socket, *level, *name, bytes.len().max(4)).as_ref() == Some(value) {
            continue;
        }
        if let Err(error) = write_one(socket, value) {
            // As on another node, where a program may find no such device or algorithm.
            tracing::warn!(level, name, %error, "socket option not restored");
        }
    }
}

fn write_one(socket: impl AsFd, value: &Value) -> io::Result<()> {
    let (level, name) = (value.level, value.name);
    let force = match (level, name) {
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => libc::SO_SNDBUFFORCE,
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => libc::SO_RCVBUFFORCE,
        _ => return set_bytes(socket, level, name, &value.bytes),
    };
    // The kernel tells twice what was asked for (socket(7)).
    let bytes = <[u8; 4]>::try_from(&*value.bytes).unwrap_or_default();
    set(socket, level, force, &(i32::from_ne_bytes(bytes) / 2))
}

/// The value of `SO_REUSEADDR`, which repair mode overwrites.
pub(super) fn reuse(values: &[Value]) -> i32 {
    let is = |v: &&Value| (v.level, v.name) == (libc::SOL_SOCKET, libc::SO_REUSEADDR);
    let value = values.iter().find(is);
    value.map_or(0, |v| {
        let bytes = <[u8; 4]>::try_from(&*v.bytes).unwrap_or_default();
        i32::from(i32::from_ne_bytes(bytes) == 1)
    })
}

/// Make room for at least `bytes` in both queues, whatever the limits.
pub(super) fn widen(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    let socket = socket.as_fd();
    // Bookkeeping costs memory as well: up to as much again, and something for small pieces.
    let wanted = i32::try_from(2 * bytes + (1 << 20)).unwrap_or(i32::MAX / 2);
    for (name, force) in [
        (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE),
        (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE),
    ] {
        if get::<i32>(socket, libc::SOL_SOCKET, name)? < wanted {
            set(socket, libc::SOL_SOCKET, force, &wanted)?;
        }
    }
    Ok(())
}

/// The program's uid, as the kernel has it for this socket: what may share its port, and what
/// owner matches in packet filters compare.
pub(super) fn owner(socket: impl AsFd) -> io::Result<u32> {
    Ok(nix::sys::stat::fstat(socket)?.st_uid)
}

pub(super) fn set_owner(socket: impl AsFd, owner: u32) -> io::Result<()> {
    let uid = Some(nix::unistd::Uid::from_raw(owner));
    nix::unistd::fchown(socket, uid, None).map_err(Into::into)
}

/// The kernel's number for a socket, the same for all descriptors that refer to it.
pub(super) fn cookie(socket: impl AsFd) -> io::Result<u64> {
    sockopt::get(socket, libc::SOL_SOCKET, libc::SO_COOKIE)
}
