//! Marks of what a sender has sent: by them it finds what changed. The freeze waits for this when a
//! large file has changed, so they are faster than digests. They are of no use to another process.

use std::fmt;

use aegis::aegis128x2::Aegis128X2Mac;

use super::blocks::{BLOCK, Data, PIECE, PIECES, clip, data};
use crate::error::{Error, Result};

/// An AEGIS-128X2 MAC (draft-irtf-cfrg-aegis-aead) of 128 bits.
pub(crate) type Mark = [u8; 16];
/// Marks of a block's pieces.
pub(crate) type Prints = Box<[Mark; PIECES]>;

/// Makes marks. The keys are random and stay here, so no program can choose contents that have one
/// mark; that two have it by chance is as likely as to guess 128 bits.
pub(crate) struct Marks {
    whole: Aegis128X2Mac<16>,
    /// No bytes of a whole block or piece have such a mark.
    parts: Aegis128X2Mac<16>,
}

impl fmt::Debug for Marks {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Marks(..)")
    }
}

impl Marks {
    /// With keys of its own.
    pub(crate) fn new() -> Result<Self> {
        let keyed = || {
            let mut key = [0; 16];
            getrandom::fill(&mut key).map_err(|error| Error::Random(error.to_string()))?;
            Ok(Aegis128X2Mac::new(&key))
        };
        Ok(Self {
            whole: keyed()?,
            parts: keyed()?,
        })
    }

    /// Of a block, whose bytes are in `buffer`.
    pub(super) fn of_block(&self, pieces: &[(u64, u64)], number: u64, buffer: &[u8]) -> Mark {
        self.of(data(pieces, number * BLOCK, BLOCK, buffer))
    }

    /// Of its pieces: of no data, zeros.
    pub(super) fn of_pieces(&self, pieces: &[(u64, u64)], number: u64, buffer: &[u8]) -> Prints {
        let mut prints: Prints = Box::default();
        for (at, print) in prints.iter_mut().enumerate() {
            let start = number * BLOCK + (at * PIECE) as u64;
            let inside: Vec<(u64, u64)> = clip(pieces, start, start + PIECE as u64).collect();
            if !inside.is_empty() {
                *print = self.of(data(&inside, start, PIECE as u64, buffer));
            }
        }
        prints
    }

    fn of(&self, data: Data<'_>) -> Mark {
        match data {
            Data::Whole(bytes) => {
                let mut mac = self.whole.clone();
                mac.update(bytes);
                mac.finalize()
            }
            Data::Parts(parts) => {
                let mut mac = self.parts.clone();
                for (head, bytes) in parts {
                    mac.update(&head);
                    mac.update(bytes);
                }
                mac.finalize()
            }
        }
    }
}

#[cfg(test)]
mod tests;
