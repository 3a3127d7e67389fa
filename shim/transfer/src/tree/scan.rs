//! Lists a tree: one stat per entry, nothing opened but directories.

use std::collections::BTreeMap;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstat, fstatat};

use super::index::RelPath;
use super::meta;
use crate::beneath::{Root, STAGING};
use crate::error::{Error, Result, show};
use crate::wire::MAX_PATH;

/// An entry as the scan saw it.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) stat: FileStat,
}

/// All entries, with the root as the empty path.
pub(crate) type Scan = BTreeMap<RelPath, Found>;

/// Errors that only mean that somebody else was faster: the entry is gone or something else now.
pub(crate) const fn is_race(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE
    )
}

/// Lists everything beneath `root`. Mounts on top of it are left out, and the staging directory
/// too unless `staging` asks for it.
pub(crate) fn scan(root: &Root, staging: bool) -> Result<Scan> {
    let top = fstat(root.fd()).map_err(|e| Error::io("stat", b"", e))?;
    let mut found = Scan::new();
    found.insert(RelPath::default(), Found { stat: top });
    let mut pending = vec![RelPath::default()];
    while let Some(directory) = pending.pop() {
        scan_directory(root, &directory, &top, staging, &mut found, &mut pending)?;
    }
    Ok(found)
}

fn scan_directory(
    root: &Root,
    directory: &[u8],
    top: &FileStat,
    staging: bool,
    found: &mut Scan,
    pending: &mut Vec<RelPath>,
) -> Result<()> {
    let fd = match root.at(
        directory,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK,
    ) {
        Ok(fd) => fd,
        Err(errno) if is_race(errno) => return Ok(()),
        Err(errno) => return Err(Error::io("open", directory, errno)),
    };
    let mut entries = Dir::from_fd(fd).map_err(|e| Error::io("read", directory, e))?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        let entry = entry.map_err(|e| Error::io("read", directory, e))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if directory.is_empty() && name.to_bytes() == STAGING && !staging {
            tracing::warn!("the tree has a leftover staging directory; it is not sent");
            continue;
        }
        names.push(name.to_owned());
    }
    for name in names {
        let path = join(directory, name.to_bytes());
        let stat = match fstatat(&entries, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) if is_race(errno) => continue,
            Err(errno) => return Err(Error::io("stat", &path, errno)),
        };
        if stat.st_dev != top.st_dev {
            tracing::warn!(path = %show(&path), "something is mounted here; it is not sent");
            continue;
        }
        if path.len() > MAX_PATH {
            let reason = format!("its path is longer than {MAX_PATH} bytes");
            return Err(Error::Unsupported {
                path: show(&path),
                reason,
            });
        }
        if meta::is_dir(stat.st_mode) {
            pending.push(path.clone());
        }
        found.insert(path, Found { stat });
    }
    Ok(())
}

/// An entry of an image directory that is not itself a directory.
pub(crate) struct ScannedFile {
    pub(crate) path: RelPath,
    pub(crate) regular: bool,
}

/// Lists the files beneath `root`, sorted.
pub(crate) fn list_files(root: &Root) -> Result<Vec<ScannedFile>> {
    let entries = scan(root, true)?.into_iter();
    let files = entries.filter(|(_, found)| !meta::is_dir(found.stat.st_mode));
    let file = |(path, found): (RelPath, Found)| {
        let regular = meta::is_file(found.stat.st_mode);
        ScannedFile { path, regular }
    };
    Ok(files.map(file).collect())
}

fn join(directory: &[u8], name: &[u8]) -> RelPath {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    if !directory.is_empty() {
        path.extend_from_slice(directory);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path.into()
}
