//! What is kept of an end, and reading it from a socket.

use super::codec;
use super::cut::{Cut, Link};
use super::queue::{self, Unread};
use super::{Kind, Problem};
use crate::{Error, Result};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::fstat;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Most bytes of a container's unread messages.
pub(super) const MOST_BYTES: usize = 64 << 20;
/// Most ends of a container.
pub(super) const MOST: usize = 4096;

/// One end of a connection between containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// Inode of the socket on the source.
    pub inode: u32,
    /// Its semantics.
    pub kind: Kind,
    /// Inode of the other end.
    pub peer: u32,
    /// What the other end is.
    pub link: Link,
    /// The process that has it, as the container numbers it.
    pub(super) inner: i32,
    /// Name of a datagram socket.
    pub(super) bound: Option<Bound>,
    /// Effective user and group of who made the other end, `SO_PEERCRED`.
    pub(super) peer_ids: Option<(u32, u32)>,
    /// What was not read yet.
    pub(super) unread: Vec<Vec<u8>>,
}

/// A datagram socket's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// A path, or a zero and an abstract name.
    pub(super) name: Vec<u8>,
    /// The socket in the file system; None: abstract.
    pub(super) file: Option<SocketFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketFile {
    /// To what a relative name is relative.
    pub(super) folder: Option<Vec<u8>>,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
    /// Whether it was removed since.
    pub(super) removed: bool,
}

/// The ends that a container has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Each once.
    pub halves: Vec<Half>,
}

impl Saved {
    /// As bytes, which [`Self::decode`] takes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// From bytes that another node may have sent.
    ///
    /// # Errors
    ///
    /// [`Error::Saved`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        codec::decode(bytes)
    }

    /// The longest file that [`Self::encode`] makes, in bytes.
    pub const LARGEST: u64 = (MOST_BYTES + MOST * 4096) as u64;
}

/// Reads the ends of container `own`, whose processes stand still. They do not notice.
///
/// # Errors
///
/// [`Error::Unix`] if something cannot be carried, [`Error::End`].
pub fn save(own: &str, cuts: &[Cut]) -> Result<Saved> {
    let mut halves = Vec::new();
    let mut bytes = 0;
    for cut in cuts {
        let half = save_one(own, cut)?;
        bytes += half.unread.iter().map(|one| one.len() + 4).sum::<usize>();
        if bytes > MOST_BYTES {
            return Err(unread(own, cut, "more than 64 MiB with those before"));
        }
        halves.push(half);
    }
    if halves.len() > MOST {
        let many = io::Error::other(format!("more than {MOST} connections to other containers"));
        return Err(Error::end("carry", 0)(many));
    }
    Ok(Saved { halves })
}

fn unread(own: &str, cut: &Cut, what: &'static str) -> Error {
    Error::Unix(Problem::Unread {
        container: own.to_owned(),
        pid: cut.place.process.pid,
        path: cut.shown(),
        what,
    })
}

fn save_one(own: &str, cut: &Cut) -> Result<Half> {
    let failed = |source| Error::end("read", cut.inode)(source);
    let socket = cut.place.descriptor().map_err(failed)?;
    let messages = match queue::peek(&socket, cut.kind).map_err(failed)? {
        Unread::Messages(messages) => messages,
        Unread::Not(what) => return Err(unread(own, cut, what)),
    };
    let datagrams = cut.kind == Kind::Datagram;
    if datagrams && messages.iter().any(|one| one.from != cut.peer_name) {
        return Err(unread(own, cut, "messages of another sender"));
    }
    if !messages.is_empty() && cut.name.is_empty() && matches!(cut.link, Link::Receiver { .. }) {
        return Err(unread(own, cut, "messages that nobody could send again"));
    }
    let bound = if datagrams && !cut.name.is_empty() {
        let name = cut.name.clone();
        let file = match name.first() {
            Some(0) => None,
            _ => Some(file_of(&socket, &name).map_err(failed)?),
        };
        Some(Bound { name, file })
    } else {
        None
    };
    let peer_ids = if datagrams {
        None
    } else {
        let ids = getsockopt(&socket, sockopt::PeerCredentials);
        let ids = ids.map_err(|errno| failed(errno.into()))?;
        Some((ids.uid(), ids.gid()))
    };
    Ok(Half {
        inode: cut.inode,
        kind: cut.kind,
        peer: cut.peer,
        link: cut.link.clone(),
        inner: cut.place.process.inner,
        bound,
        peer_ids,
        unread: messages.into_iter().map(|one| one.bytes).collect(),
    })
}

/// The socket in the file system, as a descriptor of it (`SIOCUNIXFILE`, linux/un.h): the process's
/// mounts need not be those of this one.
pub(super) fn file(socket: &OwnedFd) -> io::Result<OwnedFd> {
    const SIOCUNIXFILE: libc::Ioctl = 0x89E0;
    // SAFETY: the call takes no argument.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCUNIXFILE, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn file_of(socket: &OwnedFd, name: &[u8]) -> io::Result<SocketFile> {
    const REMOVED: &[u8] = b" (deleted)";
    let file = file(socket)?;
    let stat = fstat(&file)?;
    let removed = stat.st_nlink == 0;
    let folder = if name.starts_with(b"/") {
        None
    } else {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let path = path.as_os_str().as_encoded_bytes();
        let path = path
            .strip_suffix(REMOVED)
            .filter(|_| removed)
            .unwrap_or(path);
        let folder = path.strip_suffix(name).ok_or_else(|| {
            io::Error::other("its name is relative, and where it was made cannot be found")
        })?;
        Some(folder.to_vec())
    };
    Ok(SocketFile {
        folder,
        mode: stat.st_mode & 0o7777,
        owner: stat.st_uid,
        group: stat.st_gid,
        removed,
    })
}
