//! How hard to compress, by the link that is found while sending.

use std::time::Duration;

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// For links of 2 Gbit/s and more: not at all.
    Stored,
    /// For links of about 1 Gbit/s: zstd's fast mode.
    Fast,
    /// For links of about 100 Mbit/s, and for those of which nothing is known: zstd level 1.
    #[default]
    Light,
    /// For slow links: zstd level 6.
    Dense,
}

impl Level {
    /// The level for a link of `bytes_per_second`.
    pub const fn for_link(bytes_per_second: u64) -> Self {
        match bytes_per_second {
            250_000_000.. => Self::Stored,
            60_000_000.. => Self::Fast,
            4_000_000.. => Self::Light,
            _ => Self::Dense,
        }
    }

    /// zstd's compression level, if it is compressed.
    pub(super) const fn zstd(self) -> Option<i32> {
        match self {
            Self::Stored => None,
            Self::Fast => Some(-5),
            Self::Light => Some(1),
            Self::Dense => Some(6),
        }
    }

    /// Bytes that are compressed together.
    pub(super) const fn block(self) -> usize {
        match self {
            Self::Stored | Self::Fast => 256 << 10,
            Self::Light => 512 << 10,
            Self::Dense => 2 << 20,
        }
    }

    const fn faster(self) -> Self {
        match self {
            Self::Stored | Self::Fast => Self::Stored,
            Self::Light => Self::Fast,
            Self::Dense => Self::Light,
        }
    }
}

/// More than what lies between a sender and a slow link: the node daemon's queue of blocks, HTTP/2's
/// send buffer and TCP's, bytes.
const QUEUES: u64 = 3 << 20;

/// Finds the level for a link from how long its blocks took, the newest counting most.
///
/// Where the sink makes the sender wait longer than compression takes, the sink is the narrower
/// one, and what it takes is the rate of the link. Where it hardly makes it wait, compression is;
/// that is believed only after more bytes than the queues on the way to the link take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adapter {
    level: Level,
    /// Bytes on the wire with this level.
    at_level: u64,
    wire_bytes: u64,
    compressing: Duration,
    waiting: Duration,
}

impl Adapter {
    pub(super) const fn new(level: Level) -> Self {
        Self {
            level,
            at_level: 0,
            wire_bytes: 0,
            compressing: Duration::ZERO,
            waiting: Duration::ZERO,
        }
    }

    /// The level for the next block, after one of `wire_bytes` that took so long.
    pub(super) fn next(
        &mut self,
        wire_bytes: u64,
        compressing: Duration,
        waiting: Duration,
    ) -> Level {
        self.at_level += wire_bytes;
        self.wire_bytes = self.wire_bytes / 2 + wire_bytes;
        self.compressing = self.compressing / 2 + compressing;
        self.waiting = self.waiting / 2 + waiting;
        let level = if self.waiting > self.compressing {
            let seconds = (self.waiting + self.compressing).as_secs_f64();
            Level::for_link((self.wire_bytes as f64 / seconds) as u64)
        } else if self.waiting < self.compressing / 4 && self.at_level >= QUEUES {
            self.level.faster()
        } else {
            self.level
        };
        if level != self.level {
            (self.level, self.at_level) = (level, 0);
        }
        self.level
    }
}

#[cfg(test)]
mod tests;
