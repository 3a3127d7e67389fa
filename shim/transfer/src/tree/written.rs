//! Makes what rounds brought survive a loss of power.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::index::RelPath;
use super::scan::is_race;
use crate::beneath::Root;
use crate::error::{Error, Result};

/// Of more files than this the whole file system is synced.
const MOST: usize = 4096;

/// Files whose content rounds wrote, and that may not be on the disk yet.
#[derive(Debug)]
pub struct Written {
    root: Root,
    paths: Vec<RelPath>,
    /// There are more.
    more: bool,
}

impl Written {
    pub(super) fn new(root: &Root) -> Result<Self> {
        Ok(Self {
            root: Root::of(root.fd())?,
            paths: Vec::new(),
            more: false,
        })
    }

    pub(super) fn add(&mut self, path: &[u8]) {
        if self.paths.len() < MOST {
            self.paths.push(path.into());
        } else {
            self.more = true;
        }
    }

    /// Number of files. With `MOST` of them there may be more.
    pub fn files(&self) -> usize {
        self.paths.len()
    }

    /// Everything is on the disk when this returns: content, names and attributes. Blocks. The
    /// tree may change meanwhile; what comes later is not waited for.
    pub fn sync(&self) -> Result<()> {
        if self.more {
            // SAFETY: an open descriptor; no memory is touched.
            let result = unsafe { libc::syncfs(self.root.fd().as_raw_fd()) };
            return Errno::result(result)
                .map(drop)
                .map_err(|e| Error::io("sync the file system of", b"", e));
        }
        // First all of them are on their way, so that the disk has them at once; and the first
        // that is waited for has the file system's journal written, which serves the others.
        for path in &self.paths {
            self.each(path, |file| {
                // SAFETY: plain integers and an open descriptor.
                let result = unsafe {
                    libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE)
                };
                // A file system that has no such thing writes it below.
                Errno::result(result).map(drop).or(Ok(()))
            })?;
        }
        for path in &self.paths {
            self.each(path, |file| nix::unistd::fdatasync(file.as_fd()))?;
        }
        // The root's attributes are a round's last step: with them goes every name before.
        nix::unistd::fsync(self.root.fd()).map_err(|e| Error::io("sync", b"", e))
    }

    fn each(&self, path: &[u8], work: impl FnOnce(&File) -> Result<(), Errno>) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOATIME;
        let file = match self.root.at(path, flags) {
            // A later round has moved or removed it.
            Err(errno) if is_race(errno) => return Ok(()),
            other => other.map_err(|e| Error::io("open", path, e))?,
        };
        work(&File::from(file)).map_err(|e| Error::io("sync", path, e))
    }
}
