//! Pages of a file on their way: zeros are left out, those that the receiver has are named.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::{PAGE, early};
use crate::error::Result;
use crate::memory::{At, Known, digest};
use crate::wire::{Frame, FrameWriter};

/// A file on its way.
pub(super) struct Followed {
    pub(super) number: u32,
    pub(super) file: File,
    /// How far it was read.
    pub(super) read: u64,
    /// How many bytes the receiver's file has so far.
    pub(super) sent: u64,
    /// It was followed under another name.
    pub(super) early: bool,
}

/// What became of pages. Those that are known are not among the bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) known: u64,
    pub(super) zero: u64,
}

/// Fills the buffer as far as the file has bytes.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
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

/// What is done with a run of pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zero,
    Data,
    /// The receiver has them: where the page behind the last one would be.
    Known(At),
}

/// Sends pages behind what was sent of the file: those that are not all zero, and not known. With
/// `whole` what is left behind the last whole page is not sent yet.
pub(super) fn send_pages<W: Write>(
    out: &mut FrameWriter<W>,
    file: &mut Followed,
    bytes: &[u8],
    known: Option<&Known>,
    whole: bool,
) -> Result<Sent> {
    static ZEROS: [u8; PAGE] = [0; PAGE];
    let mut sent = Sent::default();
    let (mut start, mut at, mut kind) = (0, 0, Kind::Data);
    loop {
        let rest = &bytes[at..];
        if rest.is_empty() || (whole && rest.len() < PAGE) {
            break;
        }
        let mut page = &rest[..rest.len().min(PAGE)];
        let of_page = if page == &ZEROS[..page.len()] {
            sent.zero += page.len() as u64;
            Kind::Zero
        } else {
            let place = known
                .filter(|_| page.len() == PAGE)
                .and_then(|known| known.stored(&digest(page)?));
            place.map_or(Kind::Data, Kind::Known)
        };
        if of_page == Kind::Data
            && known.is_some()
            && let Some(next) = early::area(rest)
        {
            page = &page[..next.min(page.len())];
        }
        if kind != of_page {
            put_run(out, file, bytes, start..at, kind)?;
            start = at;
            kind = of_page;
        }
        if let Kind::Known(place) = of_page {
            sent.known += PAGE as u64;
            kind = Kind::Known(At {
                page: place.page + 1,
                ..place
            });
        } else {
            sent.bytes += page.len() as u64;
        }
        at += page.len();
    }
    put_run(out, file, bytes, start..at, kind)?;
    file.sent += at as u64;
    Ok(sent)
}

fn put_run<W: Write>(
    out: &mut FrameWriter<W>,
    file: &Followed,
    bytes: &[u8],
    run: Range<usize>,
    kind: Kind,
) -> Result<()> {
    if run.is_empty() {
        return Ok(());
    }
    let offset = file.sent + run.start as u64;
    match kind {
        Kind::Zero => Ok(()),
        Kind::Data => out.put(&Frame::ImageData {
            file: file.number,
            offset,
            bytes: &bytes[run],
        }),
        Kind::Known(behind) => {
            let count = (run.len() / PAGE) as u32;
            out.put(&Frame::ImageKnown {
                file: file.number,
                offset,
                round: behind.round,
                page: behind.page - count,
                count,
            })
        }
    }
}
