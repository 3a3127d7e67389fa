//! Making both ends of connections. Everything acts on the network namespace of the calling thread,
//! which must be one of its own: it takes other users' ids for a moment.

use super::Kind;
use super::cut::Link;
use super::queue;
use super::record::{Half, Saved};
use crate::repair::sockopt;
use crate::{Error, Result};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, getsockname,
    listen, socket, socketpair,
};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// An end that waits for its container.
#[derive(Debug)]
pub(super) struct End {
    pub(super) half: Half,
    pub(super) fd: OwnedFd,
    pub(super) claimed: bool,
    /// What is sent to it once it is in place.
    pub(super) later: Vec<Vec<u8>>,
}

/// By container and inode.
pub(super) type Made = BTreeMap<u32, (String, End)>;

/// Makes all ends, with what was not read in the queues of those whose other end is made here.
pub(super) fn make(images: Vec<(String, Saved)>) -> Result<Made> {
    let mut halves = BTreeMap::new();
    let names: Vec<String> = images.iter().map(|(name, _)| name.clone()).collect();
    for (container, saved) in images {
        for half in saved.halves {
            let inode = half.inode;
            if halves.insert(inode, (container.clone(), half)).is_some() {
                return Err(unmatched(inode, "two sockets have the same inode"));
            }
        }
    }
    let mut made = Made::new();
    while let Some((inode, (container, half))) = halves.pop_first() {
        let end = |half, fd, later| End {
            half,
            fd,
            claimed: false,
            later,
        };
        match &half.link {
            Link::Receiver { container: to, .. } => {
                if !names.contains(to) {
                    return Err(unmatched(
                        inode,
                        "the container of its other end is missing",
                    ));
                }
                let fd = single().map_err(Error::end("make", inode))?;
                let later = half.unread.clone();
                made.insert(inode, (container, end(half, fd, later)));
            }
            Link::Pair => {
                let (other, peer) = halves
                    .remove(&half.peer)
                    .ok_or_else(|| unmatched(inode, "its other end is missing"))?;
                let fits = peer.peer == inode
                    && peer.kind == half.kind
                    && peer.link == Link::Pair
                    && other != container;
                if !fits {
                    return Err(unmatched(inode, "its other end does not fit"));
                }
                let (one, two) = pair(&half, &peer).map_err(Error::end("make", inode))?;
                // A datagram shows the name of its sender, which has none yet.
                let fill = |from: &OwnedFd, sender: &Half, to: &Half| -> Result<Vec<Vec<u8>>> {
                    if sender.bound.is_some() {
                        return Ok(to.unread.clone());
                    }
                    roomy(from)
                        .and_then(|()| queue::fill(from, &to.unread, None))
                        .map_err(Error::end("fill", to.inode))?;
                    Ok(Vec::new())
                };
                let later = fill(&one, &half, &peer)?;
                let last = fill(&two, &peer, &half)?;
                made.insert(peer.inode, (other, end(peer, two, later)));
                made.insert(inode, (container, end(half, one, last)));
            }
        }
    }
    Ok(made)
}

fn unmatched(inode: u32, what: &'static str) -> Error {
    Error::end("match", inode)(io::Error::other(what))
}

/// All that was not read finds room; CRIU sets the program's own size afterwards.
fn roomy(socket: &OwnedFd) -> io::Result<()> {
    const SIZE: i32 = 1 << 30;
    sockopt::set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SIZE)
}

fn single() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socket(
        AddressFamily::Unix,
        SockType::Datagram,
        flags,
        None,
    )?)
}

/// Two sockets that are connected to each other.
fn pair(one: &Half, two: &Half) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let kind = match one.kind {
        Kind::Datagram => {
            return Ok(socketpair(
                AddressFamily::Unix,
                SockType::Datagram,
                None,
                flags,
            )?);
        }
        Kind::Stream => SockType::Stream,
        Kind::SeqPacket => SockType::SeqPacket,
    };
    // The kernel keeps who listened for the one end and who connected for the other.
    let listener = socket(AddressFamily::Unix, kind, flags, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())?;
    let address: UnixAddr = getsockname(listener.as_raw_fd())?;
    let client = socket(AddressFamily::Unix, kind, flags, None)?;
    as_user(two.peer_ids, || Ok(listen(&listener, Backlog::new(1)?)?))?;
    as_user(one.peer_ids, || Ok(connect(client.as_raw_fd(), &address)?))?;
    let accepted = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: just opened, nobody else's.
    let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
    Ok((accepted, client))
}

/// Works with the effective ids of a user, in this thread only: `SO_PEERCRED` tells them.
fn as_user<T>(ids: Option<(u32, u32)>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // Those that stand for no user cannot be taken.
    let Some((user, group)) = ids.filter(|(user, group)| ![*user, *group].contains(&u32::MAX))
    else {
        return work();
    };
    set_effective(libc::SYS_setresgid, group)?;
    let result = set_effective(libc::SYS_setresuid, user).and_then(|()| work());
    // The real and the saved ids have stayed.
    set_effective(libc::SYS_setresuid, 0)?;
    set_effective(libc::SYS_setresgid, 0)?;
    result
}

/// The effective id, of this thread only: the C library's functions set those of all threads.
fn set_effective(call: libc::c_long, id: u32) -> io::Result<()> {
    const SAME: libc::c_long = -1;
    // SAFETY: takes numbers.
    match unsafe { libc::syscall(call, SAME, libc::c_long::from(id), SAME) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
