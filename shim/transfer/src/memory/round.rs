//! One round of memory, at the sender.

use std::io::Write;

use super::known::Known;
use super::pagemap::{PARENT, PRESENT, Pagemap};
use super::process::{Form, MemoryProcess};
use super::shared::Finder;
use super::store::Storing;
use super::{PAGE, Pages, digest};
use crate::error::Result;
use crate::image::ImageSet;
use crate::image_files::ImageFiles;
use crate::wire::{Frame, FrameWriter};

/// Most processes whose memory is sent in rounds; others go in the freeze. A set of images may have
/// 4096 files, and each process has two.
const MAX_PROCESSES: usize = 1024;
/// Most bytes of one frame.
const FRAME: usize = 64 * PAGE;

/// What a round brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemorySummary {
    /// Processes.
    pub processes: u64,
    /// Bytes of their pages that hold something.
    pub bytes: u64,
    /// Those that were sent.
    pub sent_bytes: u64,
    /// Those that the receiver took from its copy of the containers' images.
    pub shared_bytes: u64,
}

/// What the receiver has of a pod's memory, at the sender.
#[derive(Debug, Default)]
pub struct MemorySender {
    /// Of the newest round that the receiver is known to have.
    held: Known,
    /// Of a round that was sent after that.
    sent: Option<Known>,
}

impl MemorySender {
    /// What a receiver has whose newest whole round is `base`: nothing, if that is not a round of
    /// this sender's.
    fn settle(&mut self, base: u32) -> &Known {
        if let Some(mut sent) = self.sent.take_if(|sent| sent.round == base) {
            // Stores of rounds before stay, and are not sent again.
            sent.stored.extend(std::mem::take(&mut self.held.stored));
            self.held = sent;
        }
        self.sent = None;
        if self.held.round != base {
            self.held = Known::default();
        }
        &self.held
    }

    /// What a receiver has whose newest whole round is `base`. Further rounds begin anew.
    pub fn known(&mut self, base: u32) -> Known {
        self.settle(base);
        std::mem::take(&mut self.held)
    }

    /// Sends round `round` to a receiver whose newest whole round is `base` (0: it has none), and
    /// which has `files` as well.
    pub fn send_round<W: Write>(
        &mut self,
        out: &mut FrameWriter<W>,
        round: u32,
        base: u32,
        processes: &[MemoryProcess],
        files: &ImageFiles,
    ) -> Result<MemorySummary> {
        let held = self.settle(base);
        let set = ImageSet::Memory {
            round,
            base: held.round,
        };
        out.put(&Frame::ImagesBegin {
            id: set.to_string().as_bytes(),
        })?;
        let mut sent = Known {
            round,
            ..Known::default()
        };
        let mut summary = MemorySummary::default();
        let of = |form| processes.iter().filter(move |process| process.form == form);
        let mut number_of_files = 0;
        for (number, process) in of(Form::Criu).take(MAX_PROCESSES).enumerate() {
            number_of_files = 2 * number as u32 + 2;
            let mut sending = Sending::begin(out, process, number as u32)?;
            let mut known = held.lookup(&process.file);
            process.read(|page| -> Result<()> {
                let Some(digest) = digest(page.content) else {
                    return Ok(());
                };
                let known = known.has(page.address, &digest);
                sending.page(page.address, page.content, known)?;
                sending.pages.push((page.address, digest));
                Ok(())
            })?;
            let (pages, bytes) = sending.finish()?;
            summary.processes += 1;
            summary.bytes += (pages.len() * PAGE) as u64;
            summary.sent_bytes += bytes;
            sent.processes.insert(process.file.clone(), pages);
        }
        let mut store = Storing::new(&held.stored, round, number_of_files);
        let mut finder = Finder::new(files);
        for process in of(Form::Pages) {
            process.read(|page| -> Result<()> {
                let Some(digest) = digest(page.content) else {
                    return Ok(());
                };
                summary.bytes += PAGE as u64;
                if !store.wants(&digest) {
                    return Ok(());
                }
                let origin = finder.find(process.container(), page);
                store.page(out, page.content, digest, origin.as_ref())
            })?;
            summary.processes += 1;
        }
        let brought = store.finish(out)?;
        sent.stored = brought.pages;
        summary.sent_bytes += brought.sent;
        summary.shared_bytes = brought.shared;
        let digest = out.digest();
        out.put(&Frame::ImagesEnd { digest })?;
        self.sent = Some(sent);
        Ok(summary)
    }
}

/// One process on its way.
struct Sending<'a, W: Write> {
    out: &'a mut FrameWriter<W>,
    /// Number of its pagemap file; its pages have the next one.
    file: u32,
    pagemap: Pagemap,
    pages: Pages,
    buffer: Vec<u8>,
    /// Bytes of the page file that were sent.
    end: u64,
}

impl<'a, W: Write> Sending<'a, W> {
    fn begin(out: &'a mut FrameWriter<W>, process: &MemoryProcess, number: u32) -> Result<Self> {
        let file = 2 * number;
        let path = &*process.file;
        out.put(&Frame::ImageFile { file, path })?;
        let (folder, _) = crate::beneath::split(path);
        let pages_id = number + 1;
        let pages = [folder, format!("/pages-{pages_id}.img").as_bytes()].concat();
        out.put(&Frame::ImageFile {
            file: file + 1,
            path: &pages,
        })?;
        Ok(Self {
            out,
            file,
            pagemap: Pagemap::new(pages_id),
            pages: Pages::new(),
            buffer: Vec::with_capacity(FRAME),
            end: 0,
        })
    }

    fn page(&mut self, address: u64, content: &[u8], known: bool) -> Result<()> {
        self.pagemap
            .add(address, if known { PARENT } else { PRESENT });
        if !known {
            self.buffer.extend_from_slice(content);
            if self.buffer.len() >= FRAME {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.out.put(&Frame::ImageData {
                file: self.file + 1,
                offset: self.end,
                bytes: &self.buffer,
            })?;
            self.end += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Its pages, and how many bytes of them were sent.
    fn finish(mut self) -> Result<(Pages, u64)> {
        self.flush()?;
        let bytes = self.pagemap.encode();
        for (number, piece) in bytes.chunks(FRAME).enumerate() {
            self.out.put(&Frame::ImageData {
                file: self.file,
                offset: (number * FRAME) as u64,
                bytes: piece,
            })?;
        }
        for (file, size) in [(self.file, bytes.len() as u64), (self.file + 1, self.end)] {
            self.out.put(&Frame::ImageSize { file, size })?;
        }
        Ok((self.pages, self.end))
    }
}
