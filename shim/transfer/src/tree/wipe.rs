//! Empties a directory.

use std::os::fd::OwnedFd;

use nix::unistd::{UnlinkatFlags, unlinkat};

use super::meta;
use super::scan::scan;
use crate::beneath::{Root, split};
use crate::error::{Error, Result};

/// Removes everything beneath the root, children first; whatever an earlier attempt left.
pub(crate) fn wipe(root: &Root) -> Result<()> {
    let found = scan(root, true)?;
    let mut last: Option<(&[u8], OwnedFd)> = None;
    for (path, entry) in found.iter().rev() {
        if path.is_empty() {
            continue;
        }
        let (parent, name) = split(path);
        let fd = match last.take() {
            Some((known, fd)) if known == parent => fd,
            _ => root
                .directory(parent)
                .map_err(|e| Error::io("open", parent, e))?,
        };
        let flag = if meta::is_dir(entry.stat.st_mode) {
            UnlinkatFlags::RemoveDir
        } else {
            UnlinkatFlags::NoRemoveDir
        };
        unlinkat(&fd, name, flag).map_err(|e| Error::io("remove", path, e))?;
        last = Some((parent, fd));
    }
    Ok(())
}
