//! Follows a directory of image files.
//!
//! CRIU appends to `pages-*.img` only, so those are followed while it works; they are nearly all
//! of the bytes. Every other file may be written at any offset until CRIU has finished, and is
//! sent after that.
//!
//! Images of DMTCP are followed as well ([`early`]). Where the receiver has pages whatever their
//! address, every page of what is sent is looked up among them.
//!
//! Where the receiver has memory from rounds before, pages are only digested while CRIU works. What
//! it has is taken out of them at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::pages::{Followed, Sent, read_up_to, send_pages};
use super::{ImageSet, MAX_DEPTH, PAGE, depth, early};
use crate::beneath::{Root, split};
use crate::error::{Error, Result, show};
use crate::memory::{Instead, Known, Thin, is_of_process};
use crate::tree::{ScannedFile, list_files};
use crate::wire::{Frame, FrameWriter};

/// How long to wait when CRIU has written nothing new.
const POLL: Duration = Duration::from_millis(2);
/// Read size: a multiple of the page size that fits into one frame.
const READ: usize = 128 * PAGE;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImagesSummary {
    /// Files.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// Bytes left out because the receiver has them.
    pub known_bytes: u64,
    /// Bytes left out because they are zero.
    pub zero_bytes: u64,
    /// Bytes that were sent before `done` said true.
    pub early_bytes: u64,
}

impl ImagesSummary {
    fn add(&mut self, sent: Sent) {
        self.bytes += sent.bytes;
        self.known_bytes += sent.known;
        self.zero_bytes += sent.zero;
    }
}

/// Sends every regular file beneath `dir` (folders with flat files). `done` is asked again and
/// again; it must return true only when nothing is written any more, successfully or not: when
/// the dump failed, drop the writer without finishing it. `known` is what the receiver has of the
/// memory.
pub fn send_images<W: Write>(
    out: &mut FrameWriter<W>,
    dir: &Path,
    known: &Known,
    done: impl Fn() -> bool,
) -> Result<ImagesSummary> {
    let root = Root::open(dir)?;
    let base = known.round();
    out.put(&Frame::ImagesBegin {
        id: ImageSet::Whole { base }.to_string().as_bytes(),
    })?;
    // That all before it has come is news to the receiver.
    out.flush()?;
    let mut sending = Sending {
        root,
        out,
        files: BTreeMap::new(),
        known: known.has_store().then_some(known),
        thin: (base > 0).then(|| Thin::new(known)),
        buffer: vec![0; READ],
        summary: ImagesSummary::default(),
    };
    loop {
        // Asked before looking, so that the last look sees everything.
        let last = done();
        let before = sending.read();
        sending.look(last)?;
        if last {
            break;
        }
        sending.summary.early_bytes = sending.summary.bytes;
        if sending.read() == before {
            thread::sleep(POLL);
        }
    }
    sending.sizes()?;
    let summary = sending.summary;
    let digest = out.digest();
    out.put(&Frame::ImagesEnd { digest })?;
    Ok(summary)
}

struct Sending<'a, W: Write> {
    root: Root,
    out: &'a mut FrameWriter<W>,
    files: BTreeMap<Box<[u8]>, Followed>,
    /// What is looked up page by page.
    known: Option<&'a Known>,
    thin: Option<Thin<'a>>,
    buffer: Vec<u8>,
    summary: ImagesSummary,
}

impl<W: Write> Sending<'_, W> {
    /// How many bytes were read of all files.
    fn read(&self) -> u64 {
        self.files.values().map(|file| file.read).sum()
    }

    /// Sends what is new; `last` takes in the files that are not followed.
    fn look(&mut self, last: bool) -> Result<()> {
        let list = self.list()?;
        for path in &list {
            if let Some(named) = early::final_path(path) {
                // It may be renamed at any moment, and is found again under its last name.
                self.follow_as(path, &named)?;
            }
        }
        let Some(mut thin) = self.thin.take() else {
            for path in list.iter().filter(|path| last || is_append_only(path)) {
                self.follow(path, None)?;
            }
            return Ok(());
        };
        for path in list.iter().filter(|path| is_append_only(path)) {
            self.follow(path, Some(&mut thin))?;
        }
        if !last {
            self.thin = Some(thin);
            return Ok(());
        }
        let mut instead = BTreeMap::new();
        for path in list.iter().filter(|path| is_of_process(path)) {
            if let Some((pages, of_map, of_pages)) = thin.instead(path, &self.content(path)?) {
                instead.insert(path.clone(), of_map);
                instead.insert(pages, of_pages);
            }
        }
        for path in &list {
            if let Some(instead) = instead.remove(path) {
                self.replace(path, instead)?;
                continue;
            }
            // So far it was only looked at.
            if let Some(followed) = self.files.get_mut(path).filter(|file| !file.early) {
                followed.read = 0;
            }
            self.follow(path, None)?;
        }
        Ok(())
    }

    /// The files, sorted.
    fn list(&self) -> Result<Vec<Box<[u8]>>> {
        let unsupported = |path: &[u8], reason: &str| Error::Unsupported {
            path: show(path),
            reason: reason.to_owned(),
        };
        let mut list = Vec::new();
        for ScannedFile { path, regular } in list_files(&self.root)? {
            if depth(&path) >= MAX_DEPTH {
                return Err(unsupported(&path, "image files lie too deep"));
            }
            if !regular {
                let reason = "an image directory has regular files only";
                return Err(unsupported(&path, reason));
            }
            list.push(path);
        }
        Ok(list)
    }

    fn open(&mut self, path: &[u8]) -> Result<()> {
        if self.files.contains_key(path) {
            return Ok(());
        }
        let fd = self
            .root
            .at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
            .map_err(|e| Error::io("open", path, e))?;
        self.add(path, File::from(fd), false)
    }

    fn add(&mut self, path: &[u8], file: File, early: bool) -> Result<()> {
        let number = self.files.len() as u32;
        self.out.put(&Frame::ImageFile { file: number, path })?;
        let followed = Followed {
            number,
            file,
            read: 0,
            sent: 0,
            early,
        };
        self.files.insert(path.into(), followed);
        self.summary.files += 1;
        Ok(())
    }

    /// Sends the whole pages that a file at `path` has beyond what was read of it, as the file `named`.
    /// One that has just got its last name is left to the next look.
    fn follow_as(&mut self, path: &[u8], named: &[u8]) -> Result<()> {
        if !self.files.contains_key(named) {
            match self.root.at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
                Ok(fd) => self.add(named, File::from(fd), true)?,
                Err(Errno::ENOENT) => return Ok(()),
                Err(errno) => return Err(Error::io("open", path, errno)),
            }
        }
        self.read_on(named, None, true)
    }

    /// Sends what a file has beyond what was read of it; with `thin` only takes its digests, of
    /// whole pages.
    fn follow(&mut self, path: &[u8], thin: Option<&mut Thin<'_>>) -> Result<()> {
        self.open(path)?;
        let whole = thin.is_some();
        self.read_on(path, thin, whole)
    }

    /// `whole`: whole pages only.
    fn read_on(&mut self, path: &[u8], mut thin: Option<&mut Thin<'_>>, whole: bool) -> Result<()> {
        let Some(followed) = self.files.get_mut(path) else {
            return Ok(());
        };
        loop {
            let count = read_up_to(&followed.file, &mut self.buffer, followed.read)
                .map_err(|e| Error::io("read", path, e))?;
            let whole = whole || count == self.buffer.len();
            let done = if let Some(thin) = &mut thin {
                let pages = count - count % PAGE;
                thin.pages(path, &self.buffer[..pages]);
                pages as u64
            } else {
                let bytes = &self.buffer[..count];
                let sent = send_pages(self.out, followed, bytes, self.known, whole)?;
                self.summary.add(sent);
                sent.bytes + sent.known
            };
            if done == 0 {
                return Ok(());
            }
            followed.read += done;
        }
    }

    /// All of a file, which is a small one.
    fn content(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.open(path)?;
        let mut content = Vec::new();
        if let Some(followed) = self.files.get_mut(path) {
            followed
                .file
                .read_to_end(&mut content)
                .map_err(|e| Error::io("read", path, e))?;
            followed.read = content.len() as u64;
        }
        Ok(content)
    }

    /// Sends something in place of a file that was read to its end.
    fn replace(&mut self, path: &[u8], instead: Instead) -> Result<()> {
        let Some(followed) = self.files.get_mut(path) else {
            return Ok(());
        };
        match instead {
            Instead::Content(content) => {
                for piece in content.chunks(READ) {
                    let sent = send_pages(self.out, followed, piece, None, false)?;
                    self.summary.bytes += sent.bytes;
                }
            }
            Instead::Pages(runs) => {
                for run in runs {
                    let (mut at, end) = (run.start * PAGE as u64, run.end * PAGE as u64);
                    while at < end {
                        let length = self.buffer.len().min((end - at) as usize);
                        followed
                            .file
                            .read_exact_at(&mut self.buffer[..length], at)
                            .map_err(|e| Error::io("read", path, e))?;
                        at += length as u64;
                        let bytes = &self.buffer[..length];
                        self.summary
                            .add(send_pages(self.out, followed, bytes, None, false)?);
                    }
                }
                self.summary.known_bytes += followed.read - followed.sent;
            }
        }
        Ok(())
    }

    /// The sizes at the end, which also shows a file that shrank or grew after its last read.
    fn sizes(&mut self) -> Result<()> {
        for (path, followed) in &self.files {
            let size = followed
                .file
                .metadata()
                .map_err(|e| Error::io("stat", path, e))?
                .len();
            if size != followed.read {
                let reason = format!(
                    "it had {} bytes when it was sent, and {size} after that",
                    followed.read
                );
                return Err(Error::Unsupported {
                    path: show(path),
                    reason,
                });
            }
            self.out.put(&Frame::ImageSize {
                file: followed.number,
                size: followed.sent,
            })?;
        }
        Ok(())
    }
}

fn is_append_only(path: &[u8]) -> bool {
    let (_, name) = split(path);
    name.starts_with(b"pages-") && name.ends_with(b".img")
}
