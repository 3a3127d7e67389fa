//! One round of a sender, step by step.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, fstat};

use super::content::There;
use super::index::{Index, Inode, RelPath};
use super::marks::Marks;
use super::plan::{Group, Place, Plan};
use super::scan::{Scan, is_race};
use super::{RoundSummary, content, meta};
use crate::beneath::{Root, split};
use crate::error::{Error, Result, show};
use crate::wire::{Frame, FrameWriter};

/// Blocks of a tree (16 GiB of content) whose pieces are remembered, in about 64 MiB. Of what is
/// beyond, blocks are sent as a whole.
const MAX_PRINTS: usize = 1 << 18;

/// One round under way.
pub(crate) struct Sending<'a, W: Write> {
    pub(super) root: &'a Root,
    pub(super) out: &'a mut FrameWriter<W>,
    pub(super) live: bool,
    pub(super) marks: &'a Marks,
    pub(super) old: Index,
    pub(super) index: Index,
    pub(super) summary: RoundSummary,
    pub(super) buffer: Vec<u8>,
    /// Blocks in the new index.
    pub(super) blocks: usize,
    /// Directories that got a new file or link.
    pub(super) touched: HashSet<RelPath>,
}

impl<W: Write> Sending<'_, W> {
    /// The steps that only move names.
    pub(super) fn names(&mut self, steps: &Plan) -> Result<()> {
        for (slot, path) in &steps.parks {
            self.out.put(&Frame::Park { slot: *slot, path })?;
        }
        for (directory, path) in &steps.removes {
            self.out.put(&Frame::Remove {
                directory: *directory,
                path,
            })?;
        }
        for path in &steps.make_dirs {
            self.out.put(&Frame::MakeDir { path })?;
        }
        for (slot, path) in &steps.unparks {
            self.out.put(&Frame::Unpark { slot: *slot, path })?;
        }
        Ok(())
    }

    pub(super) fn groups(&mut self, groups: &[Group]) -> Result<()> {
        for group in groups {
            let known = match group.place {
                Place::New => None,
                Place::Known(_) => self.old.inodes.remove(&group.ino),
            };
            let (inode, at) = match (&group.place, known) {
                (Place::Known(at), Some(known)) if !group.changed => (known, at.clone()),
                (Place::Known(at), known) => {
                    let sent = self.inode(group, Some(at), known.as_ref())?;
                    // Vanished: the receiver's copy stays as it is until the next round.
                    let stale = known.map(|known| Inode {
                        doubtful: true,
                        ..known
                    });
                    let Some(inode) = sent.map(|(inode, _)| inode).or(stale) else {
                        continue;
                    };
                    (inode, at.clone())
                }
                (Place::New, _) => match self.inode(group, None, None)? {
                    Some(sent) => sent,
                    None => continue,
                },
            };
            let mut names: Vec<&RelPath> = group.present.iter().collect();
            for path in group.paths.iter().filter(|path| **path != at) {
                if !group.present.contains(path) {
                    self.out.put(&Frame::Link {
                        existing: &at,
                        path,
                    })?;
                    self.touched.insert(split(path).0.into());
                    names.push(path);
                }
            }
            names.push(&at);
            self.index
                .paths
                .extend(names.into_iter().map(|path| (path.clone(), group.ino)));
            self.blocks += inode.blocks.len();
            let doubtful = inode.doubtful || group.torn;
            self.index
                .inodes
                .insert(group.ino, Inode { doubtful, ..inode });
        }
        Ok(())
    }

    /// Sends an inode to `at` (where the receiver has it) or to the name it is found under.
    /// Returns `None` when it is gone.
    fn inode(
        &mut self,
        group: &Group,
        at: Option<&RelPath>,
        known: Option<&Inode>,
    ) -> Result<Option<(Inode, RelPath)>> {
        let file = meta::is_file(group.found.stat.st_mode);
        for path in &group.paths {
            let access = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOATIME;
            let fd = match self
                .root
                .at(path, if file { access } else { OFlag::O_PATH })
            {
                // O_NOATIME is only for the owner and CAP_FOWNER.
                Err(Errno::EPERM) => self.root.at(path, access & !OFlag::O_NOATIME),
                other => other,
            };
            let fd = match fd {
                Ok(fd) => fd,
                Err(errno) if is_race(errno) => continue,
                Err(errno) => return Err(Error::io("open", path, errno)),
            };
            let stat = fstat(&fd).map_err(|e| Error::io("stat", path, e))?;
            let same = stat.st_ino == group.ino
                && meta::kind(stat.st_mode) == meta::kind(group.found.stat.st_mode);
            if !same {
                continue;
            }
            let to = at.unwrap_or(path);
            if at.is_none() {
                self.touched.insert(split(path).0.into());
            }
            let inode = if file {
                self.file(&File::from(fd), &stat, to, known)?
            } else {
                self.node(&fd, &stat, to, at.is_some())?
            };
            self.summary.changed += 1;
            return Ok(Some((inode, to.clone())));
        }
        Ok(None)
    }

    /// Order: stat (done), sync, copy. The sync writes mapped pages back and so makes the next
    /// write to them change the ctime.
    fn file(
        &mut self,
        file: &File,
        stat: &FileStat,
        to: &RelPath,
        known: Option<&Inode>,
    ) -> Result<Inode> {
        let doubtful = meta::is_doubtful(meta::ctime(stat));
        if self.live && stat.st_size > 0 {
            write_back(file, to);
        }
        let size = stat.st_size as u64;
        let update = known.is_some();
        self.out.put(&Frame::File {
            update,
            size,
            path: to,
        })?;
        let there = There {
            update,
            blocks: known.map_or(&[][..], |known| &known.blocks),
        };
        let marks = (self.marks, MAX_PRINTS.saturating_sub(self.blocks));
        let buffer = &mut self.buffer;
        let sent = content::send(self.out, file, to, size, &there, marks, buffer)?;
        self.attributes(file.as_fd(), stat, to)?;
        self.summary.content_bytes += sent.bytes;
        if sent.torn && !self.live {
            let reason = "its content could not be read to its end".to_owned();
            return Err(Error::Unsupported {
                path: show(to),
                reason,
            });
        }
        let doubtful = doubtful || sent.torn;
        Ok(Inode {
            blocks: sent.blocks,
            ..inode(stat, doubtful)
        })
    }

    fn node(&mut self, fd: &OwnedFd, stat: &FileStat, to: &RelPath, known: bool) -> Result<Inode> {
        let kind = meta::kind(stat.st_mode);
        if !known {
            let mut target = Vec::new();
            if kind == libc::S_IFLNK {
                let text = readlinkat(fd, "").map_err(|e| Error::io("read link", to, e))?;
                target = text.as_bytes().to_vec();
            }
            let device = if matches!(kind, libc::S_IFCHR | libc::S_IFBLK) {
                stat.st_rdev
            } else {
                0
            };
            self.out.put(&Frame::Node {
                kind,
                device,
                target: &target,
                path: to,
            })?;
        }
        self.attributes(fd.as_fd(), stat, to)?;
        Ok(inode(stat, meta::is_doubtful(meta::ctime(stat))))
    }

    /// Attributes of directories come last, children before parents, because everything before
    /// alters the times of the directories around it.
    pub(super) fn directories(&mut self, steps: &Plan, new: &Scan) -> Result<()> {
        for (path, found) in new.iter().rev() {
            if !meta::is_dir(found.stat.st_mode) {
                continue;
            }
            let ino = found.stat.st_ino;
            let changed = path.is_empty()
                || steps.changed_dirs.contains(path)
                || steps.touched.contains(path)
                || self.touched.contains(path);
            let sent = if changed {
                self.directory(path, ino)?
            } else {
                self.old.inodes.remove(&ino)
            };
            let inode = sent.unwrap_or_else(|| inode(&found.stat, true));
            self.index.paths.insert(path.clone(), ino);
            self.index.inodes.insert(ino, inode);
        }
        Ok(())
    }

    fn directory(&mut self, path: &RelPath, ino: u64) -> Result<Option<Inode>> {
        let fd = match self.root.directory(path) {
            Ok(fd) => fd,
            Err(errno) if is_race(errno) => return Ok(None),
            Err(errno) => return Err(Error::io("open", path, errno)),
        };
        let stat = fstat(&fd).map_err(|e| Error::io("stat", path, e))?;
        let doubtful = stat.st_ino != ino || meta::is_doubtful(meta::ctime(&stat));
        self.attributes(fd.as_fd(), &stat, path)?;
        self.summary.changed += 1;
        Ok(Some(inode(&stat, doubtful)))
    }

    fn attributes(&mut self, fd: BorrowedFd<'_>, stat: &FileStat, to: &[u8]) -> Result<()> {
        let attributes =
            meta::read(fd, stat).map_err(|e| Error::io("read attributes of", to, e))?;
        self.out.put(&Frame::Attr {
            attributes,
            path: to,
        })
    }
}

fn inode(stat: &FileStat, doubtful: bool) -> Inode {
    Inode {
        kind: meta::kind(stat.st_mode),
        device: stat.st_rdev,
        ctime: meta::ctime(stat),
        doubtful,
        blocks: Vec::new(),
    }
}

/// Writes a file's dirty pages back without a journal commit (sync_file_range(2)): the pages
/// become write-protected in every mapping, which is all that is needed here.
fn write_back(file: &File, path: &[u8]) {
    use std::os::fd::AsRawFd as _;
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: plain integers and an open descriptor.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(path = %show(path), %error, "write-back failed");
    }
}
