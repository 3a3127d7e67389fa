//! What a receiver has of a pod's memory.

use super::store::{At, Stored};
use super::{PageDigest, Pages, Processes};

/// The pages that a round of memory and those before it brought.
#[derive(Debug, Default)]
pub struct Known {
    pub(super) round: u32,
    pub(super) processes: Processes,
    /// Pages for images that do not say their addresses.
    pub(super) stored: Stored,
}

impl Known {
    /// The round that holds all of them; 0: there is none.
    pub const fn round(&self) -> u32 {
        self.round
    }

    /// Whether the receiver has pages for images that do not say their addresses.
    pub(crate) fn has_store(&self) -> bool {
        !self.stored.is_empty()
    }

    /// Where the receiver has a page with this content.
    pub(crate) fn stored(&self, digest: &PageDigest) -> Option<At> {
        self.stored.get(digest).copied()
    }

    /// Looks up pages of the process with this image file, by ascending address.
    pub(super) fn lookup(&self, file: &[u8]) -> Lookup<'_> {
        Lookup {
            rest: self.processes.get(file).map_or(&[], Pages::as_slice),
        }
    }
}

/// See [`Known::lookup`].
pub(super) struct Lookup<'a> {
    rest: &'a [(u64, PageDigest)],
}

impl Lookup<'_> {
    /// Whether the receiver has this content at `address`. Addresses must ascend.
    pub(super) fn has(&mut self, address: u64, digest: &PageDigest) -> bool {
        let skipped = self.rest.iter().take_while(|(at, _)| *at < address).count();
        self.rest = &self.rest[skipped..];
        matches!(self.rest.first(), Some((at, known)) if *at == address && known == digest)
    }
}
