//! What a receiver allows a peer to make it store.

use crate::error::{Error, Result};

/// Upper bounds for one stream; set them from the free space and from what the peer's manifest
/// announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most bytes of uncompressed frames in one stream (file content and metadata).
    pub stream_bytes: u64,
    /// Most files, directories and other entries that one stream may create.
    pub entries: u64,
    /// Largest apparent size of one file in bytes (a sparse file may be larger than the disk).
    pub file_size: u64,
    /// Whether device nodes may come. Whiteouts of an overlay (character device 0:0) always may.
    pub devices: bool,
}

impl Default for Budget {
    /// 1 TiB of content, 16 million entries, files up to 16 TiB (the limit of ext4), devices.
    fn default() -> Self {
        Self {
            stream_bytes: 1 << 40,
            entries: 16 << 20,
            file_size: 16 << 40,
            devices: true,
        }
    }
}

/// A counter with a limit.
#[derive(Debug)]
pub(crate) struct Meter {
    what: &'static str,
    used: u64,
    limit: u64,
}

impl Meter {
    pub(crate) const fn new(what: &'static str, limit: u64) -> Self {
        Self {
            what,
            used: 0,
            limit,
        }
    }

    /// Counts `amount`, or fails when the limit would be passed.
    pub(crate) fn take(&mut self, amount: u64) -> Result<()> {
        let asked = self.used.saturating_add(amount);
        check(self.what, asked, self.limit)?;
        self.used = asked;
        Ok(())
    }

    pub(crate) const fn used(&self) -> u64 {
        self.used
    }
}

/// Fails when `asked` is more than `limit`.
pub(crate) fn check(what: &'static str, asked: u64, limit: u64) -> Result<()> {
    if asked > limit {
        return Err(Error::Budget { what, asked, limit });
    }
    Ok(())
}
