//! From what was kept of a socket to a socket, in the network namespace of the calling thread.

use super::saved::{Socket, State};
use super::sockopt::{REPAIR_OFF, set, set_tcp};
use super::{address, options, tcp};
use crate::{Error, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{Backlog, listen};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// A socket in the helper's hands.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) fd: OwnedFd,
    pub(super) in_repair: bool,
    /// Repair mode overwrites `SO_REUSEADDR`; this is what it has to be afterwards.
    pub(super) reuse: i32,
}

impl Kept {
    /// End repair mode. The kernel asks the peer where it is (a window probe).
    pub(super) fn release(&mut self) -> io::Result<()> {
        if !self.in_repair {
            return Ok(());
        }
        set_tcp(&self.fd, libc::TCP_REPAIR, &REPAIR_OFF)?;
        self.in_repair = false;
        set(&self.fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &self.reuse)
    }
}

/// Make it again. Connections stay in repair mode.
pub(super) fn restore(saved: &Socket) -> Result<Kept> {
    let failed = |source| Error::Restore {
        socket: saved.describe(),
        source,
    };
    try_restore(saved).map_err(failed)
}

fn try_restore(saved: &Socket) -> io::Result<Kept> {
    let fd = open(saved)?;
    options::set_owner(&fd, saved.owner)?;
    options::write(&fd, &saved.options);
    let reuse = options::reuse(&saved.options);
    let mut in_repair = false;
    match &saved.state {
        State::Fresh => {}
        State::Bound(local) => bind_again(&fd, *local, reuse)?,
        State::Listening { local, backlog } => {
            bind_again(&fd, *local, reuse)?;
            let backlog = i32::try_from(*backlog).unwrap_or(i32::MAX);
            listen(&fd, Backlog::new(backlog).unwrap_or(Backlog::MAXCONN))?;
        }
        State::Connecting { local, peer, first } => {
            tcp::attempt_again(fd.as_fd(), *local, *peer, *first)?;
            set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &reuse)?;
        }
        State::Connected(connection) => {
            in_repair = true;
            let bytes = connection
                .receive
                .bytes
                .len()
                .max(connection.send.bytes.len());
            options::widen(&fd, bytes)?;
            tcp::restore(fd.as_fd(), connection)?;
        }
        State::Ended(ended) => {
            options::widen(&fd, ended.bytes.len())?;
            tcp::end_again(fd.as_fd(), saved.domain, ended)?;
            set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &reuse)?;
        }
        State::Datagram { local, peer } => {
            if let Some(local) = local {
                address::bind_to(&fd, *local)?;
            }
            if let Some(peer) = peer {
                address::connect_to(&fd, *peer)?;
            }
        }
    }
    options::finish(&fd, &saved.options);
    let flags = if saved.nonblocking {
        OFlag::O_NONBLOCK
    } else {
        OFlag::empty()
    };
    fcntl(&fd, FcntlArg::F_SETFL(flags))?;
    Ok(Kept {
        fd,
        in_repair,
        reuse,
    })
}

fn open(saved: &Socket) -> io::Result<OwnedFd> {
    // Not blocking until it is done: nothing here may wait for a peer.
    let kind = saved.kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes numbers; what it does not know it refuses.
    let fd = unsafe { libc::socket(saved.domain, kind, saved.protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Connections that are in TIME_WAIT, or restored already, may have the port.
fn bind_again(fd: &OwnedFd, local: std::net::SocketAddr, reuse: i32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1)?;
    address::bind_to(fd, local)?;
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &reuse)
}

impl Socket {
    pub(super) fn is_connected(&self) -> bool {
        use State::{Connected, Connecting, Ended};
        matches!(self.state, Connected(_) | Connecting { .. } | Ended(_))
    }

    fn describe(&self) -> String {
        let name = match self.kind {
            libc::SOCK_STREAM => "TCP socket",
            libc::SOCK_DGRAM => "UDP socket",
            _ => "socket",
        };
        match &self.state {
            State::Fresh => name.to_owned(),
            State::Bound(local) => format!("{name} bound to {local}"),
            State::Listening { local, .. } => format!("{name} listening on {local}"),
            State::Connecting { local, peer, .. } => {
                format!("{name} connecting from {local} to {peer}")
            }
            State::Ended(_) => format!("{name} whose connection is over"),
            State::Connected(it) => {
                let (local, peer, phase) = (it.local, it.peer, it.phase);
                format!("{name} {local} connected to {peer} ({phase:?})")
            }
            State::Datagram { local, peer } => {
                let text = |address: &Option<std::net::SocketAddr>| {
                    address.map_or("none".to_owned(), |a| a.to_string())
                };
                format!(
                    "{name} bound to {}, connected to {}",
                    text(local),
                    text(peer)
                )
            }
        }
    }
}
