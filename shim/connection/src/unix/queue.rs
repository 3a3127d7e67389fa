//! What a socket has received and its program has not read.

use super::Kind;
use crate::kernel::diag_unix::plain_name;
use crate::repair::sockopt::{self, poll_now};
use nix::sys::socket::{MsgFlags, UnixAddr, sendmsg};
use std::io::{self, IoSlice};
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Most that is taken from one socket, in bytes. Senders have buffers of 200 KiB unless they are
/// privileged.
pub(super) const LARGEST: usize = 16 << 20;
/// asm-generic/socket.h.
const SO_PEEK_OFF: i32 = 42;
/// An end of the messages is told by as many empty ones as anybody cares to read.
const EMPTY: usize = 64;

/// A message, or a piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    /// Name of the socket that sent it.
    pub(super) from: Vec<u8>,
}

/// What is in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    Messages(Vec<Message>),
    /// Something that cannot be carried.
    Not(&'static str),
}

/// Looks at a queue without taking anything from it.
pub(super) fn peek(socket: &OwnedFd, kind: Kind) -> io::Result<Unread> {
    if kind == Kind::Stream && poll_now(socket, libc::POLLPRI)? & libc::POLLPRI != 0 {
        return Ok(Unread::Not("an urgent byte (MSG_OOB)"));
    }
    let before: i32 = sockopt::get(socket, libc::SOL_SOCKET, SO_PEEK_OFF)?;
    sockopt::set(socket, libc::SOL_SOCKET, SO_PEEK_OFF, &0_i32)?;
    let found = peek_all(socket, kind);
    sockopt::set(socket, libc::SOL_SOCKET, SO_PEEK_OFF, &before)?;
    found
}

fn peek_all(socket: &OwnedFd, kind: Kind) -> io::Result<Unread> {
    let mut buffer = vec![0; LARGEST];
    let (mut messages, mut total, mut empty) = (Vec::new(), 0, 0);
    loop {
        let (length, flags, from) = match peek_one(socket, &mut buffer) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Unread::Messages(messages));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if flags & libc::MSG_CTRUNC != 0 {
            return Ok(Unread::Not("a message with descriptors or credentials"));
        }
        total += length;
        if flags & libc::MSG_TRUNC != 0 || total >= LARGEST {
            return Ok(Unread::Not("more than 16 MiB"));
        }
        empty = if length == 0 { empty + 1 } else { 0 };
        if length == 0 && (kind == Kind::Stream || empty == EMPTY) {
            messages.truncate(messages.len() + 1 - empty);
            return Ok(Unread::Messages(messages));
        }
        messages.push(Message {
            bytes: buffer.get(..length).unwrap_or_default().to_vec(),
            from,
        });
    }
}

/// The next message, or what of it is behind the offset: its length, flags of the kernel, and the name
/// of its sender.
fn peek_one(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, i32, Vec<u8>)> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zeroes are values of both.
    let (mut from, mut message) = unsafe { zeroed::<(libc::sockaddr_un, libc::msghdr)>() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of_val(&from) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // Without room for control messages no descriptor is opened here, and the kernel says that there
    // are some.
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the message refers to live values of the lengths given.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let named =
        (message.msg_namelen as usize).saturating_sub(offset_of!(libc::sockaddr_un, sun_path));
    let name: Vec<u8> = from
        .sun_path
        .iter()
        .take(named)
        .map(|byte| *byte as u8)
        .collect();
    Ok((length, message.msg_flags, plain_name(&name)))
}

/// As the kernel's table has it.
pub(super) fn name_of(address: &UnixAddr) -> Vec<u8> {
    if let Some(path) = address.path() {
        return path.as_os_str().as_encoded_bytes().to_vec();
    }
    match address.as_abstract() {
        Some(name) => [&[0], name].concat(),
        None => Vec::new(),
    }
}

/// Sends messages, one after the other, to `to` or to whom the socket is connected to.
pub(super) fn fill(
    socket: impl AsFd,
    messages: &[Vec<u8>],
    to: Option<&UnixAddr>,
) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    for message in messages {
        let fd = socket.as_fd().as_raw_fd();
        let sent = sendmsg(fd, &[IoSlice::new(message)], &[], flags, to)?;
        if sent != message.len() {
            return Err(io::Error::other(format!(
                "{sent} of {} bytes found room in the queue",
                message.len()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
