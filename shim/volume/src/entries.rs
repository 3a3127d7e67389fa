//! Entries of a directory beneath a root, and what OverlayFS writes on them.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use mycedrive_transfer::access::{Root, split};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::Steps;
use crate::error::{Error, Result};

/// Beginning of the attributes that OverlayFS keeps.
pub(crate) const OVERLAY: &[u8] = b"trusted.overlay.";
/// A container's own `trusted.overlay.X` is kept under this beginning (kernel 6.7).
pub(crate) const ESCAPED: &[u8] = b"trusted.overlay.overlay.";
/// And under this one while a fold gives all of them their names.
pub(crate) const LIFTED: &[u8] = b"trusted.mycedrive.overlay.";

/// A tree with the path that messages name it by.
pub(crate) struct Tree {
    pub(crate) root: Root,
    pub(crate) path: PathBuf,
}

impl Tree {
    pub(crate) fn open(path: &std::path::Path) -> Result<Self> {
        let root = Root::open(path).map_err(Error::tree(path))?;
        Ok(Self {
            root,
            path: path.to_owned(),
        })
    }

    /// For `map_err`.
    pub(crate) fn fail(&self, action: &'static str, at: &[u8]) -> impl FnOnce(Errno) -> Error {
        let path = self.path.join(OsStr::from_bytes(at));
        move |errno| Error::io(action, &path)(errno)
    }

    /// Names and kinds in a directory.
    pub(crate) fn list(&self, directory: &[u8]) -> Result<Vec<Entry>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
        let fd = self
            .root
            .at(directory, flags)
            .map_err(self.fail("open", directory))?;
        let mut opened = Dir::from_fd(fd).map_err(self.fail("read", directory))?;
        let mut names = Vec::new();
        for entry in opened.iter() {
            let entry = entry.map_err(self.fail("read", directory))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let stat = fstatat(&opened, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(self.fail("look at", &join(directory, &name)))?;
            entries.push(Entry {
                path: join(directory, &name),
                stat,
            });
        }
        Ok(entries)
    }

    /// What is at `path`, if anything is.
    pub(crate) fn stat(&self, path: &[u8]) -> Result<Option<FileStat>> {
        let (parent, name) = split(path);
        let directory = match self.root.directory(parent) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            other => other.map_err(self.fail("open", parent))?,
        };
        match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.fail("look at", path)(errno)),
        }
    }

    /// Opens an entry of any kind for its attributes.
    pub(crate) fn handle(&self, path: &[u8]) -> Result<std::os::fd::OwnedFd> {
        self.root
            .at(path, OFlag::O_PATH)
            .map_err(self.fail("open", path))
    }

    /// Removes an entry that is no directory.
    pub(crate) fn unlink(&self, path: &[u8]) -> Result<()> {
        self.remove_name(path, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty directory.
    pub(crate) fn rmdir(&self, path: &[u8]) -> Result<()> {
        self.remove_name(path, UnlinkatFlags::RemoveDir)
    }

    fn remove_name(&self, path: &[u8], flag: UnlinkatFlags) -> Result<()> {
        let (parent, name) = split(path);
        let directory = self
            .root
            .directory(parent)
            .map_err(self.fail("open", parent))?;
        unlinkat(&directory, name, flag).map_err(self.fail("remove", path))
    }

    /// Removes whatever is at `path`, with everything beneath it. That nothing is there is fine.
    pub(crate) fn remove(&self, path: &[u8]) -> Result<()> {
        let Some(stat) = self.stat(path)? else {
            return Ok(());
        };
        if !is_dir(&stat) {
            return self.unlink(path);
        }
        let mut todo = vec![(path.to_vec(), false)];
        while let Some((directory, emptied)) = todo.pop() {
            if emptied {
                self.rmdir(&directory)?;
                continue;
            }
            todo.push((directory.clone(), true));
            for entry in self.list(&directory)? {
                if is_dir(&entry.stat) {
                    todo.push((entry.path, false));
                } else {
                    self.unlink(&entry.path)?;
                }
            }
        }
        Ok(())
    }

    /// Moves `from` of this tree to `to` of another one on the same file system.
    pub(crate) fn rename(&self, from: &[u8], other: &Self, to: &[u8]) -> Result<()> {
        let (from_parent, from_name) = split(from);
        let (to_parent, to_name) = split(to);
        let old = self
            .root
            .directory(from_parent)
            .map_err(self.fail("open", from_parent))?;
        let new = other
            .root
            .directory(to_parent)
            .map_err(other.fail("open", to_parent))?;
        nix::fcntl::renameat(&old, from_name, &new, to_name).map_err(self.fail("move", from))
    }

    /// The overlay attribute `trusted.overlay.NAME` of an entry.
    pub(crate) fn overlay(&self, path: &[u8], name: &str) -> Result<Option<Vec<u8>>> {
        let fd = self.handle(path)?;
        let full = [OVERLAY, name.as_bytes()].concat();
        let fail = |error: io::Error| {
            let path = self.path.join(OsStr::from_bytes(path));
            Error::io("read an attribute of", &path)(error)
        };
        let full = CString::new(full).map_err(|error| fail(error.into()))?;
        value(fd.as_fd(), &full).map_err(fail)
    }

    /// Takes OverlayFS's attributes off an entry. True: it has a container's own attributes, which
    /// still have the names that OverlayFS keeps them under.
    pub(crate) fn strip(&self, path: &[u8]) -> Result<bool> {
        let fd = self.handle(path)?;
        strip(fd.as_fd()).map_err(self.attributes_of(path))
    }

    /// Gives attributes that begin with `from` the beginning `to`, in the whole tree.
    pub(crate) fn rename_attributes(&self, from: &[u8], to: &[u8], steps: Steps<'_>) -> Result<()> {
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            self.rename_attributes_of(&path, from, to)?;
            steps();
            for entry in self.list(&path)? {
                if is_dir(&entry.stat) {
                    todo.push(entry.path);
                } else {
                    self.rename_attributes_of(&entry.path, from, to)?;
                    steps();
                }
            }
        }
        Ok(())
    }

    fn rename_attributes_of(&self, path: &[u8], from: &[u8], to: &[u8]) -> Result<()> {
        let fd = self.handle(path)?;
        rename_attributes(fd.as_fd(), from, to).map_err(self.attributes_of(path))
    }

    fn attributes_of(&self, path: &[u8]) -> impl FnOnce(io::Error) -> Error {
        let path = self.path.join(OsStr::from_bytes(path));
        move |error| Error::io("clean the attributes of", &path)(error)
    }
}

/// An entry of a tree.
pub(crate) struct Entry {
    /// Relative to the tree's root.
    pub(crate) path: Vec<u8>,
    pub(crate) stat: FileStat,
}

pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}

pub(crate) fn is_dir(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// Whether an attribute is one that OverlayFS keeps for itself.
pub(crate) fn is_mark(name: &[u8]) -> bool {
    name.starts_with(OVERLAY) && !name.starts_with(ESCAPED)
}

/// A whiteout: a character device with number 0:0.
pub(crate) fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

fn magic(fd: BorrowedFd<'_>) -> io::Result<CString> {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(io::Error::other)
}

/// Names of all extended attributes.
pub(crate) fn names(fd: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let path = magic(fd)?;
    let mut buffer = vec![0_u8; 256];
    loop {
        // SAFETY: the path is NUL-terminated and the buffer has the length that is passed.
        let size =
            unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
        if let Ok(size) = usize::try_from(size) {
            let names = buffer[..size].split(|byte| *byte == 0);
            let names = names.filter(|name| !name.is_empty());
            return names
                .map(|name| CString::new(name).map_err(io::Error::other))
                .collect();
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ERANGE) if buffer.len() < 1 << 20 => {
                let larger = buffer.len() * 4;
                buffer.resize(larger, 0);
            }
            Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
            _ => return Err(error),
        }
    }
}

fn value(fd: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = magic(fd)?;
    // The longest is a redirect: a path.
    let mut buffer = vec![0_u8; 64 * 1024];
    // SAFETY: both strings are NUL-terminated and the buffer has the length that is passed.
    let size = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    let Ok(size) = usize::try_from(size) else {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENODATA | libc::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        };
    };
    buffer.truncate(size);
    Ok(Some(buffer))
}

/// Removes marks; says whether a container's own attributes are there. Can be done again.
fn strip(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let path = magic(fd)?;
    let mut own = false;
    for name in names(fd)? {
        if name.as_bytes().starts_with(ESCAPED) {
            own = true;
        } else if is_mark(name.as_bytes()) {
            // SAFETY: both strings are NUL-terminated.
            check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })?;
        }
    }
    Ok(own)
}

/// Can be done again, if `to` does not itself begin with `from`.
fn rename_attributes(fd: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> io::Result<()> {
    let path = magic(fd)?;
    for name in names(fd)? {
        let Some(rest) = name.as_bytes().strip_prefix(from) else {
            continue;
        };
        if let Some(value) = value(fd, &name)? {
            let real = CString::new([to, rest].concat())?;
            // SAFETY: both strings are NUL-terminated and the value has the length given.
            let set = unsafe {
                let (value, size) = (value.as_ptr().cast(), value.len());
                libc::setxattr(path.as_ptr(), real.as_ptr(), value, size, 0)
            };
            check(set)?;
        }
        // SAFETY: both strings are NUL-terminated.
        check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })?;
    }
    Ok(())
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODATA) => Ok(()),
        _ => Err(error),
    }
}
