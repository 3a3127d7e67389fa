//! Files of container images, which both nodes have.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::beneath::{Root, check_path};
use crate::error::{Error, Result};

/// The read-only layers of the containers' root file systems.
#[derive(Debug, Default)]
pub struct ImageFiles {
    /// By container; the topmost layer first.
    layers: BTreeMap<String, Vec<Root>>,
}

impl ImageFiles {
    /// Adds a container with its layers, the topmost first.
    pub fn add(&mut self, container: &str, layers: &[PathBuf]) -> Result<()> {
        let layers = layers.iter().map(|layer| Root::open(layer));
        self.layers
            .insert(container.to_owned(), layers.collect::<Result<_>>()?);
        Ok(())
    }

    /// Whether there is no container.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Opens `CONTAINER/PATH` in the topmost layer that has a regular file of that name; `None` if
    /// none has. Links are not followed: what a process has mapped is named without them. Whether
    /// the container sees this file is not known, so its content must be compared.
    pub(crate) fn open(&self, path: &[u8]) -> Result<Option<File>> {
        let Some(at) = path.iter().position(|byte| *byte == b'/') else {
            return Ok(None);
        };
        let (container, path) = (&path[..at], &path[at + 1..]);
        check_path(path)?;
        let layers = std::str::from_utf8(container).ok();
        let layers = layers.and_then(|name| self.layers.get(name));
        for layer in layers.into_iter().flatten() {
            match layer.at(path, OFlag::O_PATH) {
                Ok(found) => return open_regular(&found).map_err(|e| Error::io("open", path, e)),
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(Errno::ELOOP | Errno::EXDEV) => return Ok(None),
                Err(errno) => return Err(Error::io("open", path, errno)),
            }
        }
        Ok(None)
    }
}

/// Opens what was found, if it is a regular file: opening a device may do something, and a fifo
/// waits.
fn open_regular(found: &OwnedFd) -> io::Result<Option<File>> {
    let found = File::from(found.try_clone()?);
    if !found.metadata()?.is_file() {
        return Ok(None);
    }
    // open(2), O_PATH: the way to the same file with other flags.
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map(Some)
}

#[cfg(test)]
#[path = "image_files_tests.rs"]
mod tests;
