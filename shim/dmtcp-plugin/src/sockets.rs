//! The inet sockets of this process, found in its descriptor table.

use crate::sys::{self, Errno, Fd};
use core::ffi::c_int;
use mycedrive_dmtcp_wire::SocketId;
use std::vec::Vec;

/// A descriptor of an inet socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) fd: c_int,
    /// The helper's number for the socket; 0 if it is not carried.
    pub(crate) id: SocketId,
    /// The kernel's number for the socket: the same for all its duplicates.
    pub(crate) cookie: u64,
    pub(crate) close_on_exec: bool,
    pub(crate) domain: c_int,
    pub(crate) kind: c_int,
    pub(crate) protocol: c_int,
}

impl Entry {
    /// What `fd` is, if it is an inet socket.
    fn of(fd: c_int) -> Option<Entry> {
        let option = |name| sys::option::<c_int>(fd, libc::SOL_SOCKET, name);
        let domain = option(libc::SO_DOMAIN).ok().filter(|d| is_inet(*d))?;
        Some(Entry {
            fd,
            id: 0,
            cookie: sys::option(fd, libc::SOL_SOCKET, libc::SO_COOKIE).unwrap_or_default(),
            close_on_exec: sys::fcntl(fd, libc::F_GETFD, 0).ok()? & libc::FD_CLOEXEC != 0,
            domain,
            kind: option(libc::SO_TYPE).ok()?,
            protocol: option(libc::SO_PROTOCOL).unwrap_or_default(),
        })
    }

    /// A socket of the same kind that was never used: what a program sees of it is a connection
    /// that is gone.
    pub(crate) fn fresh(&self) -> sys::Result<Fd> {
        let kind = self.kind | libc::SOCK_CLOEXEC;
        sys::socket(self.domain, kind, self.protocol)
            .or_else(|_| sys::socket(self.domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))
    }
}

/// The internet families.
pub(crate) fn is_inet(domain: c_int) -> bool {
    domain == libc::AF_INET || domain == libc::AF_INET6
}

/// Whether `fd` is a socket of the internet families.
pub(crate) fn is_inet_socket(fd: c_int) -> bool {
    sys::option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_DOMAIN).is_ok_and(is_inet)
}

/// All of this process's inet sockets, without those that are `foreign`: DMTCP's own.
pub(crate) fn list(foreign: impl Fn(c_int) -> bool, into: &mut Vec<Entry>) -> sys::Result<()> {
    into.clear();
    each_descriptor(|fd| {
        if !foreign(fd) {
            into.extend(Entry::of(fd));
        }
    })
}

/// Call `visit` with each open descriptor's number.
pub(crate) fn each_descriptor(mut visit: impl FnMut(c_int)) -> sys::Result<()> {
    let directory = sys::open(
        c"/proc/self/fd",
        libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC,
    )?;
    // Entries are aligned to 8 bytes.
    let mut buffer = [0u64; 512];
    loop {
        // SAFETY: the bytes of the borrowed array, which has no padding.
        let bytes = unsafe {
            core::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<u8>(), size_of_val(&buffer))
        };
        let length = match sys::getdents(&directory, bytes)? {
            0 => return Ok(()),
            length => length,
        };
        let mut rest = bytes.get(..length).unwrap_or_default();
        while let Some((name, next)) = entry(rest) {
            if let Some(fd) = number(name).filter(|fd| *fd != directory.raw()) {
                visit(fd);
            }
            rest = next;
        }
        if !rest.is_empty() {
            return Err(Errno(libc::EIO));
        }
    }
}

/// The name of the first directory entry (`linux_dirent64`: inode 8 bytes, offset 8, length 2,
/// type 1, name), and the entries after it.
fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u16::from_ne_bytes([*bytes.get(16)?, *bytes.get(17)?]);
    let (this, next) = bytes.split_at_checked(usize::from(length))?;
    let name = this.get(19..)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    Some((name.get(..end)?, next))
}

fn number(name: &[u8]) -> Option<c_int> {
    core::str::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
