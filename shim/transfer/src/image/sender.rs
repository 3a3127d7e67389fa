//! Follows a directory of image files.
//!
//! CRIU appends to `pages-*.img` only, so those are followed while it works; they are nearly all
//! of the bytes. Every other file may be written at any offset until CRIU has finished, and is
//! sent after that.
//!
//! Where the receiver has memory from rounds before, pages are only digested while CRIU works. What
//! it has is taken out of them at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::{ImageSet, MAX_DEPTH, PAGE, depth};
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

/// A file on its way.
struct Followed {
    number: u32,
    file: File,
    /// How far it was read.
    read: u64,
    /// How many bytes the receiver's file has so far.
    sent: u64,
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
    let mut sending = Sending {
        root,
        out,
        files: BTreeMap::new(),
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
            if let Some(followed) = self.files.get_mut(path) {
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
        let number = self.files.len() as u32;
        let fd = self
            .root
            .at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
            .map_err(|e| Error::io("open", path, e))?;
        self.out.put(&Frame::ImageFile { file: number, path })?;
        let followed = Followed {
            number,
            file: File::from(fd),
            read: 0,
            sent: 0,
        };
        self.files.insert(path.into(), followed);
        self.summary.files += 1;
        Ok(())
    }

    /// Sends what a file has beyond what was read of it; with `thin` only takes its digests, of
    /// whole pages.
    fn follow(&mut self, path: &[u8], mut thin: Option<&mut Thin<'_>>) -> Result<()> {
        self.open(path)?;
        let Some(followed) = self.files.get_mut(path) else {
            return Ok(());
        };
        loop {
            let mut count = read_up_to(&followed.file, &mut self.buffer, followed.read)
                .map_err(|e| Error::io("read", path, e))?;
            if let Some(thin) = &mut thin {
                count -= count % PAGE;
                thin.pages(path, &self.buffer[..count]);
            }
            if count == 0 {
                return Ok(());
            }
            followed.read += count as u64;
            if thin.is_none() {
                let zero = send_pages(self.out, followed, &self.buffer[..count])?;
                self.summary.bytes += count as u64;
                self.summary.zero_bytes += zero;
            }
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
                    send_pages(self.out, followed, piece)?;
                }
                self.summary.bytes += content.len() as u64;
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
                        let zero = send_pages(self.out, followed, &self.buffer[..length])?;
                        self.summary.bytes += length as u64;
                        self.summary.zero_bytes += zero;
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

/// Fills the buffer as far as the file has bytes.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Sends the runs of pages that are not all zero, behind what was sent of the file; returns how
/// many bytes were left out.
fn send_pages<W: Write>(
    out: &mut FrameWriter<W>,
    file: &mut Followed,
    bytes: &[u8],
) -> Result<u64> {
    static ZEROS: [u8; PAGE] = [0; PAGE];
    let mut zero = 0;
    let mut run = 0;
    let mut at = 0;
    for page in bytes.chunks(PAGE) {
        let next = at + page.len();
        if page == &ZEROS[..page.len()] {
            zero += page.len() as u64;
            put_run(out, file, bytes, run, at)?;
            run = next;
        }
        at = next;
    }
    put_run(out, file, bytes, run, at)?;
    file.sent += bytes.len() as u64;
    Ok(zero)
}

fn put_run<W: Write>(
    out: &mut FrameWriter<W>,
    file: &Followed,
    bytes: &[u8],
    from: usize,
    to: usize,
) -> Result<()> {
    if from == to {
        return Ok(());
    }
    let offset = file.sent + from as u64;
    out.put(&Frame::ImageData {
        file: file.number,
        offset,
        bytes: &bytes[from..to],
    })
}
