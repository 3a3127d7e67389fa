//! Pages that rounds before have brought, at the receiver.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::PAGE;
use crate::error::{Error, Result};
use crate::memory::STORE;

/// Pages that are copied at once.
const PIECE: usize = 64;

/// The rounds that a set may take pages from: directories named by their numbers.
pub(super) struct Rounds<'a> {
    folder: &'a Path,
    newest: u32,
    stores: BTreeMap<u32, File>,
    buffer: Vec<u8>,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(folder: &'a Path, newest: u32) -> Self {
        Self {
            folder,
            newest,
            stores: BTreeMap::new(),
            buffer: vec![0; PIECE * PAGE],
        }
    }

    /// Copies `count` pages of a round's store to `offset` of a file.
    pub(super) fn copy(
        &mut self,
        (round, page, count): (u32, u32, u32),
        to: &File,
        path: &[u8],
        offset: u64,
    ) -> Result<()> {
        if round == 0 || round > self.newest {
            let reason = "it takes pages from a round on which the set does not build";
            return Err(Error::Malformed {
                frame: "ImageKnown",
                reason,
            });
        }
        let place = self.folder.join(round.to_string()).join(STORE);
        let name = place.as_os_str().as_bytes();
        let store = match self.stores.entry(round) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(new) => {
                new.insert(File::open(&place).map_err(|e| Error::io("open", name, e))?)
            }
        };
        let (mut from, mut at) = (u64::from(page) * PAGE as u64, offset);
        let end = from + u64::from(count) * PAGE as u64;
        while from < end {
            let length = self.buffer.len().min((end - from) as usize);
            let bytes = &mut self.buffer[..length];
            store
                .read_exact_at(bytes, from)
                .map_err(|e| Error::io("read", name, e))?;
            to.write_all_at(bytes, at)
                .map_err(|e| Error::io("write", path, e))?;
            from += length as u64;
            at += length as u64;
        }
        Ok(())
    }
}
