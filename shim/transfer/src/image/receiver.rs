//! Writes image files: directories 0700, files 0600, whatever they were on the source.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::ftruncate;

use super::rounds::Rounds;
use super::shared::{self, Shared};
use super::{ImageSet, ImagesBegin, MAX_DEPTH, PAGE, depth};
use crate::beneath::{ParentCache, Root, check_path, open_piece};
use crate::budget::{Meter, check};
use crate::error::{Error, Result};
use crate::image_files::ImageFiles;
use crate::tree::wipe;
use crate::wire::{Frame, FrameReader};

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedImages {
    /// Which set.
    pub set: ImageSet,
    /// Files.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

/// Receives the image files that `begin` announced into `dir`, which is created if it is missing
/// and emptied if it is not. It should lie on a tmpfs that only root can read. Verified when this
/// returns.
pub fn receive_images<R: Read>(
    reader: &mut FrameReader<R>,
    begin: &ImagesBegin,
    dir: &Path,
) -> Result<ReceivedImages> {
    receive(reader, begin, dir, None, &ImageFiles::default())
}

/// The same for images that build on rounds of memory, which are in `rounds`, each in a directory
/// named by its number. They must be whole. `files` are those that the sender may leave out.
pub fn receive_images_over<R: Read>(
    reader: &mut FrameReader<R>,
    begin: &ImagesBegin,
    dir: &Path,
    rounds: &Path,
    files: &ImageFiles,
) -> Result<ReceivedImages> {
    let rounds = Rounds::new(rounds, begin.set.base());
    receive(reader, begin, dir, Some(rounds), files)
}

fn receive<R: Read>(
    reader: &mut FrameReader<R>,
    begin: &ImagesBegin,
    dir: &Path,
    rounds: Option<Rounds<'_>>,
    shared: &ImageFiles,
) -> Result<ReceivedImages> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create", dir.as_os_str().as_bytes(), error));
        }
        _ => {}
    }
    let root = Root::open(dir)?;
    wipe(&root)?;
    let budget = reader.budget().clone();
    let mut receiving = Receiving {
        root,
        parents: ParentCache::default(),
        files: Vec::new(),
        entries: Meter::new("image files", budget.entries.min(MAX_FILES)),
        file_size: budget.file_size,
        known: Meter::new("bytes that are on this node", budget.stream_bytes),
        rounds,
        shared,
        sized: 0,
        bytes: 0,
    };
    loop {
        match reader.next()? {
            Frame::ImageFile { file, path } => receiving.file(file, path)?,
            Frame::ImageData {
                file,
                offset,
                bytes,
            } => receiving.data(file, offset, bytes)?,
            Frame::ImageKnown {
                file,
                offset,
                round,
                page,
                count,
            } => receiving.known(file, offset, (round, page, count))?,
            Frame::ImageShared {
                file,
                offset,
                from,
                count,
                digest,
                path,
            } => receiving.shared(
                file,
                offset,
                &Shared {
                    path,
                    from,
                    count,
                    digest,
                },
            )?,
            Frame::ImageSize { file, size } => receiving.size(file, size)?,
            Frame::ImagesEnd { .. } => break,
            other => {
                let reason = "it does not belong into a set of images";
                return Err(Error::Unexpected {
                    frame: other.name(),
                    reason,
                });
            }
        }
    }
    let files = receiving.files.len() as u64;
    if receiving.sized != files {
        let reason = "an image file has no size";
        return Err(Error::Unexpected {
            frame: "ImagesEnd",
            reason,
        });
    }
    Ok(ReceivedImages {
        set: begin.set,
        files,
        bytes: receiving.bytes,
    })
}

/// Most files of one set; all are open at the same time.
const MAX_FILES: u64 = 4096;

struct Image {
    path: Vec<u8>,
    /// `None` after its size arrived.
    file: Option<File>,
}

struct Receiving<'a> {
    root: Root,
    parents: ParentCache,
    files: Vec<Image>,
    entries: Meter,
    file_size: u64,
    /// Bytes that were copied from earlier rounds or files of an image.
    known: Meter,
    rounds: Option<Rounds<'a>>,
    shared: &'a ImageFiles,
    sized: u64,
    bytes: u64,
}

impl Receiving<'_> {
    fn file(&mut self, number: u32, path: &[u8]) -> Result<()> {
        self.entries.take(1)?;
        if number as usize != self.files.len() {
            let reason = "the file's number is not the next one";
            return Err(Error::Malformed {
                frame: "ImageFile",
                reason,
            });
        }
        check_path(path)?;
        if path.is_empty() || depth(path) >= MAX_DEPTH {
            return Err(Error::path(path, "it is not a file in an image directory"));
        }
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.directory(&path[..at])?;
        }
        let (parent, name) = self.parents.parent(&self.root, path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let fd =
            open_piece(parent, name, flags, 0o600).map_err(|e| Error::io("create", path, e))?;
        self.files.push(Image {
            path: path.to_vec(),
            file: Some(File::from(fd)),
        });
        Ok(())
    }

    fn directory(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.parents.parent(&self.root, path)?;
        match mkdirat(parent, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(Error::io("create", path, errno)),
        }
    }

    fn get(&mut self, frame: &'static str, number: u32) -> Result<&mut Image> {
        let reason = "it names a file that was not announced";
        self.files
            .get_mut(number as usize)
            .ok_or(Error::Malformed { frame, reason })
    }

    fn data(&mut self, number: u32, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        check("size of an image file", end, self.file_size)?;
        let image = self.get("ImageData", number)?;
        let reason = "the file's size was announced already";
        let file = image.file.as_ref().ok_or(Error::Unexpected {
            frame: "ImageData",
            reason,
        })?;
        file.write_all_at(bytes, offset)
            .map_err(|e| Error::io("write", &image.path, e))
    }

    /// A file to which `count` pages that are on this node are copied.
    fn growing(
        &mut self,
        frame: &'static str,
        number: u32,
        (offset, count): (u64, u32),
    ) -> Result<(&File, &[u8])> {
        let bytes = u64::from(count) * PAGE as u64;
        let end = offset.saturating_add(bytes);
        check("size of an image file", end, self.file_size)?;
        self.known.take(bytes)?;
        let reason = "it names a file that was not announced";
        let image = self.files.get(number as usize);
        let image = image.ok_or(Error::Malformed { frame, reason })?;
        let reason = "the file's size was announced already";
        let file = image.file.as_ref();
        let file = file.ok_or(Error::Unexpected { frame, reason })?;
        Ok((file, &image.path))
    }

    fn known(&mut self, number: u32, offset: u64, pages: (u32, u32, u32)) -> Result<()> {
        const FRAME: &str = "ImageKnown";
        let mut rounds = self.rounds.take().ok_or(Error::Unexpected {
            frame: FRAME,
            reason: "the set builds on no round",
        })?;
        let (file, path) = self.growing(FRAME, number, (offset, pages.2))?;
        rounds.copy(pages, file, path, offset)?;
        self.rounds = Some(rounds);
        Ok(())
    }

    fn shared(&mut self, number: u32, offset: u64, from: &Shared<'_>) -> Result<()> {
        let files = self.shared;
        let (file, path) = self.growing("ImageShared", number, (offset, from.count))?;
        shared::copy(files, from, file, path, offset)
    }

    fn size(&mut self, number: u32, size: u64) -> Result<()> {
        check("size of an image file", size, self.file_size)?;
        let image = self.get("ImageSize", number)?;
        let reason = "the file has a size already";
        let file = image.file.take().ok_or(Error::Unexpected {
            frame: "ImageSize",
            reason,
        })?;
        ftruncate(&file, size as i64).map_err(|e| Error::io("set the size of", &image.path, e))?;
        self.sized += 1;
        self.bytes += size;
        Ok(())
    }
}
