//! One round of a receiver, frame by frame.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FallocateFlags, OFlag, fallocate, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, ftruncate, linkat, symlinkat, unlinkat};

use super::blocks::BLOCK;
use super::meta;
use super::written::Written;
use crate::beneath::{ParentCache, Root, STAGING, check_path, open_piece, split};
use crate::budget::{Budget, Meter, check};
use crate::error::{Error, Result};
use crate::wire::{Attributes, Frame};

/// A regular file between its File and its Attr frame.
struct OpenFile {
    path: Vec<u8>,
    file: File,
    size: u64,
    /// It got content.
    written: bool,
}

/// One round under way.
pub(super) struct Applying<'a> {
    root: &'a Root,
    parents: ParentCache,
    staging: Option<OwnedFd>,
    parked: u64,
    open: Option<OpenFile>,
    entries: Meter,
    content: Meter,
    file_size: u64,
    devices: bool,
    written: &'a mut Written,
}

impl<'a> Applying<'a> {
    pub(super) fn new(root: &'a Root, budget: &Budget, written: &'a mut Written) -> Self {
        Self {
            root,
            parents: ParentCache::default(),
            staging: None,
            parked: 0,
            open: None,
            entries: Meter::new("entries in the round", budget.entries),
            content: Meter::new("bytes of content in the round", budget.stream_bytes),
            file_size: budget.file_size,
            devices: budget.devices,
            written,
        }
    }

    pub(super) fn apply(&mut self, frame: &Frame<'_>) -> Result<()> {
        let about_open_file = matches!(
            frame,
            Frame::Data { .. } | Frame::Hole { .. } | Frame::Attr { .. }
        );
        if self.open.is_some() && !about_open_file {
            let reason = "the file before it has no Attr frame yet";
            return Err(Error::Unexpected {
                frame: frame.name(),
                reason,
            });
        }
        match *frame {
            Frame::Park { slot, path } => self.park(slot, path),
            Frame::Remove { directory, path } => self.remove(directory, path),
            Frame::MakeDir { path } => self.make_dir(path),
            Frame::Unpark { slot, path } => self.unpark(slot, path),
            Frame::Link { existing, path } => self.link(existing, path),
            Frame::File { update, size, path } => self.file(update, size, path),
            Frame::Data { offset, bytes } => self.data(offset, bytes),
            Frame::Hole { offset, length } => self.hole(offset, length),
            Frame::Node {
                kind,
                device,
                target,
                path,
            } => self.node(kind, device, target, path),
            Frame::Attr {
                ref attributes,
                path,
            } => self.attributes(attributes, path),
            _ => {
                let reason = "it does not belong into a tree";
                Err(Error::Unexpected {
                    frame: frame.name(),
                    reason,
                })
            }
        }
    }

    /// Puts a new name in place: opens its parent and counts it.
    fn create<T>(
        &mut self,
        action: &'static str,
        path: &[u8],
        make: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T> {
        check_path(path)?;
        self.entries.take(1)?;
        let (parent, name) = self.parents.parent(self.root, path)?;
        make(parent, name).map_err(|e| Error::io(action, path, e))
    }

    fn park(&mut self, slot: u64, path: &[u8]) -> Result<()> {
        check_path(path)?;
        self.entries.take(1)?;
        if self.staging.is_none() {
            let mode = Mode::S_IRWXU;
            mkdirat(self.root.fd(), STAGING, mode).map_err(|e| Error::io("create", STAGING, e))?;
            let fd = self
                .root
                .directory(STAGING)
                .map_err(|e| Error::io("open", STAGING, e))?;
            self.staging = Some(fd);
        }
        let Some(staging) = &self.staging else {
            return Err(Error::io("open", STAGING, Errno::ENOENT));
        };
        let (parent, name) = self.parents.parent(self.root, path)?;
        let found = stat_of(parent, name).map_err(|e| Error::io("stat", path, e))?;
        if meta::is_dir(found.st_mode) {
            return Err(Error::path(path, "a directory cannot be parked"));
        }
        let to = slot.to_string();
        renameat(parent, name, staging, to.as_bytes()).map_err(|e| Error::io("park", path, e))?;
        self.parked += 1;
        Ok(())
    }

    fn unpark(&mut self, slot: u64, path: &[u8]) -> Result<()> {
        check_path(path)?;
        let Some(staging) = &self.staging else {
            return Err(Error::Unexpected {
                frame: "Unpark",
                reason: "nothing was parked",
            });
        };
        let (parent, name) = self.parents.parent(self.root, path)?;
        let from = slot.to_string();
        renameat(staging, from.as_bytes(), parent, name)
            .map_err(|e| Error::io("unpark", path, e))?;
        self.parked = self.parked.saturating_sub(1);
        Ok(())
    }

    fn remove(&mut self, directory: bool, path: &[u8]) -> Result<()> {
        check_path(path)?;
        let flag = if directory {
            UnlinkatFlags::RemoveDir
        } else {
            UnlinkatFlags::NoRemoveDir
        };
        if directory {
            self.parents.forget();
        }
        let (parent, name) = self.parents.parent(self.root, path)?;
        unlinkat(parent, name, flag).map_err(|e| Error::io("remove", path, e))
    }

    fn make_dir(&mut self, path: &[u8]) -> Result<()> {
        self.create("create", path, |parent, name| {
            mkdirat(parent, name, Mode::S_IRWXU)
        })
    }

    fn link(&mut self, existing: &[u8], path: &[u8]) -> Result<()> {
        check_path(existing)?;
        let (from, old) = split(existing);
        if old.is_empty() {
            return Err(Error::path(existing, "it names the root"));
        }
        let from = self
            .root
            .directory(from)
            .map_err(|e| Error::io("open", existing, e))?;
        self.create("link", path, |parent, name| {
            linkat(&from, old, parent, name, AtFlags::empty())
        })
    }

    fn node(&mut self, kind: u32, device: u64, target: &[u8], path: &[u8]) -> Result<()> {
        let flag = match kind {
            libc::S_IFLNK => {
                if target.is_empty() || target.contains(&0) {
                    let reason = "a symlink's target is empty or has a NUL byte";
                    return Err(Error::Malformed {
                        frame: "Node",
                        reason,
                    });
                }
                return self.create("create", path, |parent, name| {
                    symlinkat(target, parent, name)
                });
            }
            libc::S_IFCHR => SFlag::S_IFCHR,
            libc::S_IFBLK => SFlag::S_IFBLK,
            libc::S_IFIFO => SFlag::S_IFIFO,
            libc::S_IFSOCK => SFlag::S_IFSOCK,
            _ => {
                let reason = "a kind that is no symlink, device, fifo or socket";
                return Err(Error::Malformed {
                    frame: "Node",
                    reason,
                });
            }
        };
        let whiteout = kind == libc::S_IFCHR && device == 0;
        if matches!(kind, libc::S_IFCHR | libc::S_IFBLK) && !whiteout && !self.devices {
            return Err(Error::path(path, "it is a device node, and none may come"));
        }
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        self.create("create", path, |parent, name| {
            mknodat(parent, name, flag, mode, device)
        })
    }

    fn file(&mut self, update: bool, size: u64, path: &[u8]) -> Result<()> {
        check("size of a file", size, self.file_size)?;
        let access = OFlag::O_WRONLY | OFlag::O_NONBLOCK;
        let fd = if update {
            check_path(path)?;
            let (parent, name) = self.parents.parent(self.root, path)?;
            open_piece(parent, name, access, 0).map_err(|e| Error::io("open", path, e))?
        } else {
            self.create("create", path, |parent, name| {
                open_piece(parent, name, access | OFlag::O_CREAT | OFlag::O_EXCL, 0o600)
            })?
        };
        let stat = fstat(&fd).map_err(|e| Error::io("stat", path, e))?;
        if !meta::is_file(stat.st_mode) {
            return Err(Error::path(path, "it is not a regular file"));
        }
        ftruncate(&fd, size as i64).map_err(|e| Error::io("set the size of", path, e))?;
        self.open = Some(OpenFile {
            path: path.to_vec(),
            file: File::from(fd),
            size,
            written: false,
        });
        Ok(())
    }

    /// The open file, if the range lies in it.
    fn open_file(&self, frame: &'static str, offset: u64, length: u64) -> Result<&OpenFile> {
        let reason = "no file is open";
        let open = self
            .open
            .as_ref()
            .ok_or(Error::Unexpected { frame, reason })?;
        match offset.checked_add(length) {
            Some(end) if end <= open.size => Ok(open),
            _ => Err(Error::Malformed {
                frame,
                reason: "it lies outside the file",
            }),
        }
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.content.take(bytes.len() as u64)?;
        let open = self.open_file("Data", offset, bytes.len() as u64)?;
        open.file
            .write_all_at(bytes, offset)
            .map_err(|e| Error::io("write", &open.path, e))?;
        if let Some(open) = &mut self.open {
            open.written = true;
        }
        Ok(())
    }

    fn hole(&mut self, offset: u64, length: u64) -> Result<()> {
        let open = self.open_file("Hole", offset, length)?;
        if length == 0 {
            return Ok(());
        }
        // A page that the file's end cuts is only zeroed, not freed, unless the hole goes past it.
        let at_end = offset + length == open.size;
        let punched = if at_end {
            length.next_multiple_of(BLOCK)
        } else {
            length
        };
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let result = match fallocate(&open.file, mode, offset as i64, punched as i64) {
            Err(Errno::EOPNOTSUPP) => write_zeros(&open.file, offset, length),
            other => other.map_err(io::Error::from),
        };
        result.map_err(|e| Error::io("punch a hole into", &open.path, e))
    }

    fn attributes(&mut self, wanted: &Attributes, path: &[u8]) -> Result<()> {
        if let Some(open) = self.open.take() {
            if open.path != path {
                let reason = "it names another file than the one before it";
                return Err(Error::Unexpected {
                    frame: "Attr",
                    reason,
                });
            }
            if open.written {
                self.written.add(path);
            }
            return meta::apply(open.file.as_fd(), libc::S_IFREG, wanted)
                .map_err(|e| Error::io("set attributes of", path, e));
        }
        check_path(path)?;
        let fd = if path.is_empty() {
            self.root
                .at(path, OFlag::O_PATH)
                .map_err(|e| Error::io("open", path, e))?
        } else {
            let (parent, name) = self.parents.parent(self.root, path)?;
            open_piece(parent, name, OFlag::O_PATH, 0).map_err(|e| Error::io("open", path, e))?
        };
        if path.is_empty() {
            self.drop_staging()?;
        }
        let stat = fstat(&fd).map_err(|e| Error::io("stat", path, e))?;
        meta::apply(fd.as_fd(), meta::kind(stat.st_mode), wanted)
            .map_err(|e| Error::io("set attributes of", path, e))
    }

    /// Removes the staging directory; it must be empty. Done before the root's attributes are set,
    /// because it changes the root's times.
    fn drop_staging(&mut self) -> Result<()> {
        if self.staging.take().is_none() {
            return Ok(());
        }
        if self.parked > 0 {
            let reason = "something is still parked";
            return Err(Error::Unexpected {
                frame: "Attr",
                reason,
            });
        }
        unlinkat(self.root.fd(), STAGING, UnlinkatFlags::RemoveDir)
            .map_err(|e| Error::io("remove", STAGING, e))
    }

    /// Ends the round; returns the bytes of content it brought.
    pub(super) fn finish(mut self) -> Result<u64> {
        if self.open.is_some() {
            let reason = "a file has no Attr frame";
            return Err(Error::Unexpected {
                frame: "TreeEnd",
                reason,
            });
        }
        self.drop_staging()?;
        Ok(self.content.used())
    }
}

fn stat_of(parent: BorrowedFd<'_>, name: &[u8]) -> Result<FileStat, Errno> {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// For file systems that cannot punch holes.
fn write_zeros(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let zeros = [0; 4096];
    let mut done = 0;
    while done < length {
        let count = (length - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..count as usize], offset + done)?;
        done += count;
    }
    Ok(())
}
