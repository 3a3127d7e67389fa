//! Changing a tree: every change is one atomic step, and synced.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, symlinkat, unlinkat};

use super::{Attributes, Root, io, is_absent, split};
use crate::error::{Error, Result};

impl Root {
    /// Replaces what is at `path` (file, symlink or nothing) by a regular file,
    /// at one moment: a temporary file beside it, fsync, rename, fsync of the
    /// directory. `owner` is only set where it differs.
    pub fn write(&self, path: &str, bytes: &[u8], attributes: Attributes) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        let temporary = temporary_name(name);
        let result = Self::write_temporary(&dir, path, &temporary, bytes, attributes);
        let result = result.and_then(|()| {
            renameat(&dir, temporary.as_str(), &dir, name).map_err(|e| io("rename", path, e))
        });
        if result.is_err() {
            let _ = unlinkat(&dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            return result;
        }
        fsync(&dir).map_err(|e| io("sync directory of", path, e))
    }

    fn write_temporary(
        dir: &OwnedFd,
        path: &str,
        temporary: &str,
        bytes: &[u8],
        wanted: Attributes,
    ) -> Result<()> {
        remove_if_there(dir, temporary).map_err(|e| io("remove temporary of", path, e))?;
        let fd = nix::fcntl::openat(
            dir,
            temporary,
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(0o600),
        )
        .map_err(|e| io("create temporary of", path, e))?;
        let mut file = File::from(fd);
        let write = |source| Error::Io {
            action: "write",
            path: path.to_owned(),
            source,
        };
        file.write_all(bytes).map_err(write)?;
        let stat = fstat(&file).map_err(|e| io("stat", path, e))?;
        if (stat.st_uid, stat.st_gid) != (wanted.uid, wanted.gid) {
            let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
            fchown(&file, Some(uid), Some(gid)).map_err(|e| io("change owner of", path, e))?;
        }
        fchmod(file.as_fd(), Mode::from_bits_truncate(wanted.mode))
            .map_err(|e| io("change mode of", path, e))?;
        file.sync_all().map_err(write)
    }

    /// Replaces what is at `path` (file, symlink or nothing) by a symlink.
    pub fn symlink(&self, path: &str, target: &str) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        let temporary = temporary_name(name);
        remove_if_there(&dir, &temporary).map_err(|e| io("remove temporary of", path, e))?;
        symlinkat(target, &dir, temporary.as_str()).map_err(|e| io("create link", path, e))?;
        if let Err(errno) = renameat(&dir, temporary.as_str(), &dir, name) {
            let _ = unlinkat(&dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            return Err(io("rename", path, errno));
        }
        fsync(&dir).map_err(|e| io("sync directory of", path, e))
    }

    /// Makes one directory; true if it was not there before.
    pub fn make_dir(&self, path: &str, mode: u32) -> Result<bool> {
        let (dir, name) = self.parent(path)?;
        match mkdirat(&dir, name, Mode::from_bits_truncate(mode)) {
            Ok(()) => {
                let made = nix::fcntl::openat(
                    &dir,
                    name,
                    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )
                .map_err(|e| io("open", path, e))?;
                fchmod(&made, Mode::from_bits_truncate(mode))
                    .map_err(|e| io("change mode of", path, e))?;
                fsync(&dir).map_err(|e| io("sync directory of", path, e))?;
                Ok(true)
            }
            Err(Errno::EEXIST) if self.is_dir(path) => Ok(false),
            Err(errno) => Err(io("create directory", path, errno)),
        }
    }

    /// Removes the file or symlink at `path`; absent is fine.
    pub fn remove(&self, path: &str) -> Result<()> {
        let (dir, name) = match self.parent(path) {
            Ok(found) => found,
            Err(Error::Io { source, .. }) if is_absent(&source) => return Ok(()),
            Err(other) => return Err(other),
        };
        remove_if_there(&dir, name).map_err(|e| io("remove", path, e))?;
        fsync(&dir).map_err(|e| io("sync directory of", path, e))
    }

    /// Removes the directory at `path` if it is empty; true if it is gone.
    pub fn remove_dir(&self, path: &str) -> Result<bool> {
        let (dir, name) = match self.parent(path) {
            Ok(found) => found,
            Err(Error::Io { source, .. }) if is_absent(&source) => return Ok(true),
            Err(other) => return Err(other),
        };
        match unlinkat(&dir, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => {
                fsync(&dir).map_err(|e| io("sync directory of", path, e))?;
                Ok(true)
            }
            Err(Errno::ENOENT) => Ok(true),
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR | Errno::EBUSY) => Ok(false),
            Err(errno) => Err(io("remove directory", path, errno)),
        }
    }

    /// Removes a temporary that a killed installer left beside `path`.
    pub fn remove_temporary(&self, path: &str) -> Result<()> {
        let (parent, name) = split(path)?;
        self.remove(&format!(
            "{}/{}",
            parent.trim_end_matches('/'),
            temporary_name(name)
        ))
    }
}

fn temporary_name(name: &str) -> String {
    format!(".{name}.mycedrive-tmp")
}

fn remove_if_there(dir: &OwnedFd, name: &str) -> nix::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
