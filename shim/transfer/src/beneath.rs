//! Files beneath a root, opened only with openat2(2) so that no symlink, mount or `..` leads out.
//!
//! A path from a peer is a byte string relative to the root, components separated by `/`. It is
//! checked here and handed to the kernel piece by piece; it is never joined to a path of this
//! node.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};
use crate::wire::MAX_PATH;

/// Name of the receiver's staging directory, directly beneath the root; no tree may carry it.
pub(crate) const STAGING: &[u8] = b".mycedrive-staging";
/// Longest file name (NAME_MAX).
const MAX_COMPONENT: usize = 255;
/// The kernel takes paths up to PATH_MAX (4096); longer ones are walked in pieces.
const PIECE: usize = 4000;

/// Checks a path that names something beneath a root. The empty path is the root itself.
pub(crate) fn check_path(path: &[u8]) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > MAX_PATH {
        let (size, limit) = (path.len() as u64, MAX_PATH as u64);
        return Err(Error::TooLarge {
            what: "a path",
            size,
            limit,
        });
    }
    if path.starts_with(b"/") {
        return Err(Error::path(path, "it is absolute"));
    }
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" => return Err(Error::path(path, "it has an empty component")),
            b"." | b".." => return Err(Error::path(path, "it has a . or .. component")),
            _ if component.contains(&0) => return Err(Error::path(path, "it has a NUL byte")),
            _ if component.len() > MAX_COMPONENT => {
                return Err(Error::path(path, "a component is longer than 255 bytes"));
            }
            _ => {}
        }
    }
    if path.split(|byte| *byte == b'/').next() == Some(STAGING) {
        return Err(Error::path(path, "it names the staging directory"));
    }
    Ok(())
}

/// Splits a non-empty path into its parent ("" for the root) and its last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// A directory that everything else is opened beneath.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens the root itself, a path that this node chose (symlinks are followed).
    pub fn open(path: &Path) -> Result<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())
            .map_err(|e| Error::io("open", path.as_os_str().as_bytes(), e))?;
        Ok(Self { fd })
    }

    /// The directory behind `fd` as a root.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let fd = fd
            .try_clone_to_owned()
            .map_err(|e| Error::io("keep", b"", e))?;
        Ok(Self { fd })
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens `path` beneath the root; the empty path is the root. Never follows a symlink.
    pub fn at(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return open_piece(self.fd(), b".", flags, 0);
        }
        let mut rest = path;
        let mut held: Option<OwnedFd> = None;
        while rest.len() > PIECE {
            let cut = rest[..PIECE]
                .iter()
                .rposition(|b| *b == b'/')
                .ok_or(Errno::ENAMETOOLONG)?;
            let from = held.as_ref().map_or(self.fd(), OwnedFd::as_fd);
            let next = open_piece(from, &rest[..cut], OFlag::O_PATH | OFlag::O_DIRECTORY, 0)?;
            held = Some(next);
            rest = &rest[cut + 1..];
        }
        let from = held.as_ref().map_or(self.fd(), OwnedFd::as_fd);
        open_piece(from, rest, flags, 0)
    }

    /// Opens a directory for use as `dirfd`.
    pub fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.at(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
    }
}

/// Opens or creates one name in a directory; never follows a symlink.
pub(crate) fn open_piece(
    directory: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlag,
    mode: libc::mode_t,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(resolve);
    openat2(directory, name, how)
}

/// Remembers the directory that was used last, because entries come sorted by directory.
#[derive(Debug, Default)]
pub(crate) struct ParentCache {
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl ParentCache {
    /// Opens the parent of `path`; returns it with the last component.
    pub(crate) fn parent<'p>(
        &mut self,
        root: &Root,
        path: &'p [u8],
    ) -> Result<(BorrowedFd<'_>, &'p [u8])> {
        let (parent, name) = split(path);
        if name.is_empty() {
            return Err(Error::path(path, "it names the root"));
        }
        if self.last.as_ref().is_none_or(|(known, _)| known != parent) {
            let fd = root
                .directory(parent)
                .map_err(|e| Error::io("open", parent, e))?;
            self.last = Some((parent.to_vec(), fd));
        }
        match &self.last {
            Some((_, fd)) => Ok((fd.as_fd(), name)),
            None => Err(Error::io("open", parent, Errno::ENOENT)),
        }
    }

    /// Must be called whenever a directory may have been removed or moved.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }
}
