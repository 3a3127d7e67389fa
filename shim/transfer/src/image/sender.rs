//! Follows a directory of image files.
//!
//! CRIU appends to `pages-*.img` only, so those are followed while it works; they are nearly all
//! of the bytes. Every other file may be written at any offset until CRIU has finished, and is
//! sent after that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::{MAX_DEPTH, PAGE, depth};
use crate::beneath::Root;
use crate::error::{Error, Result, show};
use crate::tree::TreeId;
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
    /// Bytes left out because they are zero.
    pub zero_bytes: u64,
    /// Bytes that were sent before `done` said true.
    pub early_bytes: u64,
}

/// A file whose content was sent up to `sent`.
struct Followed {
    number: u32,
    file: File,
    sent: u64,
}

/// Sends every regular file beneath `dir` (folders with flat files). `done` is asked again and
/// again; it must return true only when nothing is written any more, successfully or not: when
/// the dump failed, drop the writer without finishing it.
pub fn send_images<W: Write>(
    out: &mut FrameWriter<W>,
    id: &TreeId,
    dir: &Path,
    done: impl Fn() -> bool,
) -> Result<ImagesSummary> {
    let root = Root::open(dir)?;
    out.put(&Frame::ImagesBegin {
        id: id.as_str().as_bytes(),
    })?;
    let mut sending = Sending {
        root,
        out,
        files: BTreeMap::new(),
        buffer: vec![0; READ],
        summary: ImagesSummary::default(),
    };
    loop {
        // Asked before looking, so that the last look sees everything.
        let last = done();
        let before = sending.summary.bytes;
        sending.look(last)?;
        if last {
            break;
        }
        sending.summary.early_bytes = sending.summary.bytes;
        if sending.summary.bytes == before {
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
    buffer: Vec<u8>,
    summary: ImagesSummary,
}

impl<W: Write> Sending<'_, W> {
    /// Sends what is new; `last` takes in the files that are not followed.
    fn look(&mut self, last: bool) -> Result<()> {
        for ScannedFile { path, regular } in list_files(&self.root)? {
            if depth(&path) >= MAX_DEPTH {
                let reason = "image files lie too deep".to_owned();
                return Err(Error::Unsupported {
                    path: show(&path),
                    reason,
                });
            }
            if !regular {
                let reason = "an image directory has regular files only".to_owned();
                return Err(Error::Unsupported {
                    path: show(&path),
                    reason,
                });
            }
            if last || is_append_only(&path) {
                self.follow(&path)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, path: &[u8]) -> Result<()> {
        if !self.files.contains_key(path) {
            let number = self.files.len() as u32;
            let fd = self
                .root
                .at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
                .map_err(|e| Error::io("open", path, e))?;
            self.out.put(&Frame::ImageFile { file: number, path })?;
            self.files.insert(
                path.into(),
                Followed {
                    number,
                    file: File::from(fd),
                    sent: 0,
                },
            );
            self.summary.files += 1;
        }
        let Some(followed) = self.files.get_mut(path) else {
            return Ok(());
        };
        loop {
            let count = read_up_to(&followed.file, &mut self.buffer, followed.sent)
                .map_err(|e| Error::io("read", path, e))?;
            if count == 0 {
                return Ok(());
            }
            let zero = send_pages(self.out, followed, &self.buffer[..count])?;
            followed.sent += count as u64;
            self.summary.bytes += count as u64;
            self.summary.zero_bytes += zero;
        }
    }

    /// The sizes at the end, which also shows a file that shrank or grew after its last read.
    fn sizes(&mut self) -> Result<()> {
        for (path, followed) in &self.files {
            let size = followed
                .file
                .metadata()
                .map_err(|e| Error::io("stat", path, e))?
                .len();
            if size != followed.sent {
                let reason = format!(
                    "it had {} bytes when it was sent, and {size} after that",
                    followed.sent
                );
                return Err(Error::Unsupported {
                    path: show(path),
                    reason,
                });
            }
            self.out.put(&Frame::ImageSize {
                file: followed.number,
                size,
            })?;
        }
        Ok(())
    }
}

fn is_append_only(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
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

/// Sends the runs of pages that are not all zero; returns how many bytes were left out.
fn send_pages<W: Write>(out: &mut FrameWriter<W>, file: &Followed, bytes: &[u8]) -> Result<u64> {
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
