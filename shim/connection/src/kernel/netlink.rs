//! A blocking netlink socket in the calling thread's network namespace.

use super::message::{Message, Reply, split, u32_at};
use crate::{Error, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// A dump that changed while it was read.
const DUMP_INTERRUPTED: u16 = 0x10;
const BUFFER: usize = 64 * 1024;
const DUMP_TRIES: usize = 5;

pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open(protocol: SockProtocol) -> Result<Netlink> {
        let failed = |errno: nix::Error| Error::Netlink {
            what: format!("socket of {protocol:?}"),
            source: errno.into(),
        };
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )
        .map_err(failed)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed)?;
        // The kernel answers at once; an answer that never comes must not block a freeze.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).map_err(failed)?;
        Ok(Netlink {
            socket,
            sequence: 0,
        })
    }

    /// A change: sent with `NLM_F_ACK` set by the caller, answered by an acknowledgement.
    pub(crate) fn change(&mut self, message: Message, what: &str) -> Result<()> {
        self.changes(vec![message], 1, what)
    }

    /// Several messages in one datagram, of which `acknowledged` ask for an answer.
    pub(crate) fn changes(
        &mut self,
        messages: Vec<Message>,
        acknowledged: usize,
        what: &str,
    ) -> Result<()> {
        let first = self.sequence + 1;
        let mut datagram = Vec::new();
        for message in messages {
            self.sequence += 1;
            datagram.extend(message.finish(self.sequence));
        }
        self.send(&datagram, what)?;
        let mut left = acknowledged;
        while left > 0 {
            for reply in self.receive(what)? {
                if reply.sequence < first || reply.kind != NLMSG_ERROR {
                    continue;
                }
                acknowledgement(&reply, what)?;
                left = left.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// All answers to a request with `NLM_F_DUMP`. `message` makes the request: a dump that
    /// the kernel reports as interrupted is asked for again.
    pub(crate) fn dump(&mut self, message: &Message, what: &str) -> Result<Vec<Reply>> {
        for _ in 0..DUMP_TRIES {
            self.sequence += 1;
            self.send(&message.clone().finish(self.sequence), what)?;
            if let Some(replies) = self.collect(what)? {
                return Ok(replies);
            }
        }
        Err(Error::Malformed { what: what.into() })
    }

    fn collect(&mut self, what: &str) -> Result<Option<Vec<Reply>>> {
        let mut replies = Vec::new();
        let mut whole = true;
        loop {
            for reply in self.receive(what)? {
                if reply.sequence != self.sequence {
                    continue;
                }
                whole &= reply.flags & DUMP_INTERRUPTED == 0;
                match reply.kind {
                    NLMSG_DONE => return Ok(whole.then_some(replies)),
                    NLMSG_ERROR => {
                        acknowledgement(&reply, what)?;
                        return Ok(Some(replies));
                    }
                    _ => replies.push(reply),
                }
            }
        }
    }

    fn send(&self, datagram: &[u8], what: &str) -> Result<()> {
        sendto(
            self.socket.as_raw_fd(),
            datagram,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )
        .map(drop)
        .map_err(|errno| refused(what, errno.into()))
    }

    fn receive(&self, what: &str) -> Result<Vec<Reply>> {
        let mut buffer = vec![0; BUFFER];
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(refused(what, errno.into())),
                Ok(length) => break length,
            }
        };
        buffer
            .get(..length)
            .and_then(split)
            .ok_or_else(|| Error::Malformed { what: what.into() })
    }
}

fn acknowledgement(reply: &Reply, what: &str) -> Result<()> {
    match u32_at(&reply.body, 0).map(|code| code as i32) {
        Some(0) => Ok(()),
        Some(code) => Err(refused(what, io::Error::from_raw_os_error(-code))),
        None => Err(Error::Malformed { what: what.into() }),
    }
}

fn refused(what: &str, source: io::Error) -> Error {
    Error::Netlink {
        what: what.into(),
        source,
    }
}

/// Accept that a thing is already there, or already gone: the operations are repeatable.
pub(crate) fn unless(result: Result<()>, fine: &[i32]) -> Result<()> {
    match result {
        Err(error) if error.errno().is_some_and(|e| fine.contains(&e)) => Ok(()),
        other => other,
    }
}
