//! Reading files of a container's root file system, as its own programs would find them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// How often a path is walked when the kernel asks for it, and how long is waited between.
const TRIES: u32 = 1000;
const AGAIN: Duration = Duration::from_micros(100);

/// Where the dynamic loader looks by default, and Debian's additions.
const LIBRARIES: [&str; 6] = [
    if cfg!(target_arch = "aarch64") {
        "/lib/aarch64-linux-gnu"
    } else {
        "/lib/x86_64-linux-gnu"
    },
    if cfg!(target_arch = "aarch64") {
        "/usr/lib/aarch64-linux-gnu"
    } else {
        "/usr/lib/x86_64-linux-gnu"
    },
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// A mounted root file system.
#[derive(Debug)]
pub(crate) struct Image(OwnedFd);

impl Image {
    /// Of the root file system mounted at `root`; `/` is the node's own.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(open(root, flags, Mode::empty())?))
    }

    /// Opens a regular file. Symbolic links are followed within the root file system.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = File::from(self.resolve(path, how)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ))
        }
    }

    fn resolve(&self, path: &Path, how: OpenHow) -> nix::Result<OwnedFd> {
        // A rename or mount anywhere on the node while a `..` is walked: the kernel cannot tell
        // whether it led out, and asks to try again (openat2(2), EAGAIN).
        for _ in 1..TRIES {
            match openat2(self.0.as_fd(), path, how) {
                Err(Errno::EAGAIN) => std::thread::sleep(AGAIN),
                other => return other,
            }
        }
        openat2(self.0.as_fd(), path, how)
    }

    /// A program as execvp(3) finds it: by its path, or in the directories of `search`.
    pub(crate) fn program(
        &self,
        name: &str,
        directory: &Path,
        search: &str,
    ) -> io::Result<(PathBuf, File)> {
        if name.contains('/') {
            let path = directory.join(name);
            return Ok((path.clone(), self.file(&path)?));
        }
        for entry in search.split(':') {
            let path = directory.join(entry).join(name);
            if let Ok(file) = self.file(&path)
                && file.metadata()?.mode() & 0o111 != 0
            {
                return Ok((path, file));
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// A library by its name, in the loader's default directories.
    pub(crate) fn library(&self, name: &str) -> Option<File> {
        LIBRARIES
            .iter()
            .find_map(|directory| self.file(&Path::new(directory).join(name)).ok())
    }
}

/// Path of a library of the node, with symbolic links resolved, in `first` or in the loader's
/// default directories.
pub(crate) fn node_library(name: &str, first: &[PathBuf]) -> Option<PathBuf> {
    first
        .iter()
        .map(PathBuf::as_path)
        .chain(LIBRARIES.iter().map(Path::new))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .and_then(|path| path.canonicalize().ok())
}

/// The beginning of a file, at most `most` bytes.
pub(crate) fn beginning(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
