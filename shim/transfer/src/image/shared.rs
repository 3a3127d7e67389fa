//! Pages of files of the containers' images, at the receiver.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::PAGE;
use crate::error::{Error, Result, show};
use crate::image_files::ImageFiles;

/// Pages that are copied at once.
const PIECE: usize = 64;

/// Pages that the sender left out.
pub(super) struct Shared<'a> {
    /// The container, and the path in its image.
    pub(super) path: &'a [u8],
    /// Where in that file, in bytes.
    pub(super) from: u64,
    /// How many pages.
    pub(super) count: u32,
    /// BLAKE3 of all of them.
    pub(super) digest: [u8; 32],
}

/// Copies them to `offset` of an image file called `name`. They are what the sender has, or this
/// is an error: [`Error::NotShared`].
pub(super) fn copy(
    files: &ImageFiles,
    pages: &Shared<'_>,
    to: &File,
    name: &[u8],
    offset: u64,
) -> Result<()> {
    let missing = || Error::NotShared {
        path: show(pages.path),
    };
    let source = files.open(pages.path)?.ok_or_else(missing)?;
    let length = u64::from(pages.count) * PAGE as u64;
    let end = pages.from.checked_add(length).ok_or_else(missing)?;
    let mut buffer = vec![0; PIECE * PAGE];
    let mut hasher = blake3::Hasher::new();
    let (mut from, mut at) = (pages.from, offset);
    while from < end {
        let size = buffer.len().min((end - from) as usize);
        let bytes = &mut buffer[..size];
        read(&source, bytes, from)
            .map_err(|e| Error::io("read", pages.path, e))?
            .ok_or_else(missing)?;
        hasher.update(bytes);
        to.write_all_at(bytes, at)
            .map_err(|e| Error::io("write", name, e))?;
        from += size as u64;
        at += size as u64;
    }
    if *hasher.finalize().as_bytes() == pages.digest {
        Ok(())
    } else {
        Err(missing())
    }
}

/// Reads pages, the last of which the file may end in: behind its end are zeros, as where it is
/// mapped (mmap(2)). `None`: there is a page with nothing of the file.
pub(crate) fn read(file: &File, pages: &mut [u8], from: u64) -> io::Result<Option<()>> {
    let mut done = 0;
    while done < pages.len() {
        match file.read_at(&mut pages[done..], from + done as u64) {
            Ok(0) if pages.len() - done < PAGE => {
                pages[done..].fill(0);
                break;
            }
            Ok(0) => return Ok(None),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(()))
}
