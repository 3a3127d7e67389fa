//! A root file system, live or unbooted, that is never left.
//!
//! Every path is a path inside the root (`/etc/containerd/config.toml`).
//! Directories are resolved by the kernel with `RESOLVE_IN_ROOT` and
//! `RESOLVE_NO_MAGICLINKS` (openat2(2), Linux 5.6), so that absolute symlinks
//! mean what they will mean once the tree is booted, and no symlink, however
//! it is built, leads outside. The last component of a path is never followed
//! by the kernel; [`Root::follow`] does it, step by step, inside the root.

mod write;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, openat2, readlinkat,
};
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use crate::error::{Error, Result};

/// Largest configuration file that is read, in bytes.
pub const CONFIG_LIMIT: u64 = 4 << 20;
/// Largest program that is read, in bytes.
pub const PROGRAM_LIMIT: u64 = 1 << 30;
/// How often a path is walked when the kernel asks for it, and how long is waited between.
const TRIES: u32 = 1000;
const AGAIN: Duration = Duration::from_micros(100);

/// What is at a path, last component not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Absent,
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link and its target.
    Link(String),
    /// A device, FIFO or socket.
    Other,
}

impl Kind {
    /// The kind in words, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::File => "a regular file",
            Self::Dir => "a directory",
            Self::Link(_) => "a symbolic link",
            Self::Other => "a device, FIFO or socket",
        }
    }
}

/// Permission bits and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits including set-user-id and the like (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A tree that is worked on.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the tree at `path` (`/` is the live node).
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |source: Errno| Error::Root {
            path: path.to_path_buf(),
            source: source.into(),
        };
        let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        let dir = openat2(AT_FDCWD, path, how).map_err(|errno| match errno {
            Errno::ENOSYS | Errno::EPERM => Error::Root {
                path: path.to_path_buf(),
                source: std::io::Error::other("openat2 is not available (Linux 5.6 or newer)"),
            },
            other => fail(other),
        })?;
        Ok(Self {
            dir,
            path: path.to_path_buf(),
        })
    }

    /// Where the tree is on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True for the running node itself.
    pub fn is_live(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Keeps other installers out of this tree until the guard is dropped.
    pub fn lock(&self) -> Result<Flock<OwnedFd>> {
        let dir = self.dir.try_clone().map_err(|source| Error::Root {
            path: self.path.clone(),
            source,
        })?;
        // A clone shares the open file description and thus the lock with
        // `self.dir`; a second installer has its own description.
        Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => Error::Busy {
                path: self.path.clone(),
            },
            other => Error::Root {
                path: self.path.clone(),
                source: other.into(),
            },
        })
    }

    fn resolve(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        // A rename or mount anywhere on the machine while a `..` is walked: the kernel cannot
        // tell whether it led out, and asks to try again (openat2(2), EAGAIN).
        for _ in 1..TRIES {
            match openat2(&self.dir, path, how) {
                Err(Errno::EAGAIN) => std::thread::sleep(AGAIN),
                other => return other,
            }
        }
        openat2(&self.dir, path, how)
    }

    /// The directory that holds `path`, opened, and the last component.
    fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str)> {
        let (parent, name) = split(path)?;
        let dir = self
            .resolve(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(|errno| io("open", parent, errno))?;
        Ok((dir, name))
    }

    fn stat(&self, path: &str) -> Result<Option<(OwnedFd, FileStat)>> {
        let (dir, name) = match self.parent(path) {
            Ok(found) => found,
            Err(Error::Io { source, .. }) if is_absent(&source) => return Ok(None),
            Err(other) => return Err(other),
        };
        match fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((dir, stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(io("stat", path, errno)),
        }
    }

    /// What is at `path`; the last component is not followed.
    pub fn kind(&self, path: &str) -> Result<Kind> {
        let Some((dir, stat)) = self.stat(path)? else {
            return Ok(Kind::Absent);
        };
        Ok(
            match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFREG => Kind::File,
                SFlag::S_IFDIR => Kind::Dir,
                SFlag::S_IFLNK => {
                    let (_, name) = split(path)?;
                    let target = readlinkat(&dir, name).map_err(|e| io("read link", path, e))?;
                    Kind::Link(target.to_string_lossy().into_owned())
                }
                _ => Kind::Other,
            },
        )
    }

    /// Mode and owner of what is at `path`, not followed; `None` if nothing is.
    pub fn attributes(&self, path: &str) -> Result<Option<Attributes>> {
        Ok(self.stat(path)?.map(|(_, stat)| attributes(&stat)))
    }

    /// Follows `path` while its last component is a symlink. Never leaves the
    /// root. The result may be absent.
    pub fn follow(&self, path: &str) -> Result<String> {
        let mut at = path.to_owned();
        for _ in 0..16 {
            let Kind::Link(target) = self.kind(&at)? else {
                return Ok(at);
            };
            at = if target.starts_with('/') {
                target
            } else {
                let (parent, _) = split(&at)?;
                format!("{}/{target}", parent.trim_end_matches('/'))
            };
        }
        Err(io("follow", path, Errno::ELOOP))
    }

    /// True if `path`, followed, is a directory.
    pub fn is_dir(&self, path: &str) -> bool {
        self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .is_ok()
    }

    /// True if `path`, followed, is a regular file.
    pub fn is_file(&self, path: &str) -> bool {
        self.resolve(path, OFlag::O_PATH)
            .and_then(|fd| fstat(&fd))
            .is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits())
    }

    /// Content of the regular file at `path` (last component not followed), or
    /// `None` if nothing is there.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.kind(path)? {
            Kind::Absent => return Ok(None),
            Kind::File => {}
            other => return Err(wrong_kind(path, &other, "a regular file")),
        }
        let (parent, name) = split(path)?;
        let joined = format!("{}/{name}", parent.trim_end_matches('/'));
        let fd = self
            .resolve(
                &joined,
                OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK,
            )
            .map_err(|e| io("open", path, e))?;
        let stat = fstat(&fd).map_err(|e| io("stat", path, e))?;
        let size = stat.st_size.unsigned_abs();
        if size > limit {
            return Err(Error::TooLarge {
                path: path.to_owned(),
                size,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        File::from(fd)
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::Io {
                action: "read",
                path: path.to_owned(),
                source,
            })?;
        Ok(Some(bytes))
    }

    /// As [`Root::read`], symlinks followed inside the root.
    pub fn read_followed(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.read(&self.follow(path)?, limit)
    }

    /// Names in the directory at `path` (followed), sorted; empty if absent.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let fd = match self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Vec::new()),
            Err(errno) => return Err(io("open", path, errno)),
        };
        let mut dir = nix::dir::Dir::from_fd(fd).map_err(|e| io("list", path, e))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(|e| io("list", path, e))?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The directories above `path` that are not there, outermost first.
    pub fn missing_parents(&self, path: &str) -> Vec<String> {
        let mut missing = Vec::new();
        let mut at = Path::new(path).parent();
        while let Some(dir) = at.and_then(Path::to_str) {
            if dir == "/" || self.is_dir(dir) {
                break;
            }
            missing.push(dir.to_owned());
            at = Path::new(dir).parent();
        }
        missing.reverse();
        missing
    }
}

fn attributes(stat: &FileStat) -> Attributes {
    Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

/// Parent directory and last component of an absolute path inside the root.
fn split(path: &str) -> Result<(&str, &str)> {
    let bad = || io("use", path, Errno::EINVAL);
    let (parent, name) = path.rsplit_once('/').ok_or_else(bad)?;
    let unusable = name.is_empty() || name == "." || name == ".." || name.len() > 200;
    if !path.starts_with('/') || unusable || Path::new(path).as_os_str().as_bytes().contains(&0) {
        return Err(bad());
    }
    Ok((if parent.is_empty() { "/" } else { parent }, name))
}

fn is_absent(source: &std::io::Error) -> bool {
    matches!(
        source.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOENT | Errno::ENOTDIR)
    )
}

fn io(action: &'static str, path: &str, errno: Errno) -> Error {
    Error::Io {
        action,
        path: path.to_owned(),
        source: errno.into(),
    }
}

pub(crate) fn wrong_kind(path: &str, found: &Kind, expected: &'static str) -> Error {
    Error::WrongKind {
        path: path.to_owned(),
        found: found.name(),
        expected,
    }
}
