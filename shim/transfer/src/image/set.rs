//! What a set of images is, and on which one before it builds.

use std::fmt;

use crate::error::{Error, Result};

/// A set of images. Numbers are those of memory rounds, counted from 1; a base of 0 means that the
/// set stands by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSet {
    /// All images of the pod. What their memory has in common with round `base` is not in them.
    Whole {
        /// The round that fills them up.
        base: u32,
    },
    /// A round of memory, taken while the pod runs.
    Memory {
        /// Its number.
        round: u32,
        /// The round that fills it up.
        base: u32,
    },
}

/// Its name in a stream.
impl fmt::Display for ImageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { base: 0 } => f.write_str("images"),
            Self::Whole { base } => write!(f, "images/{base}"),
            Self::Memory { round, base } => write!(f, "memory/{round}/{base}"),
        }
    }
}

impl ImageSet {
    /// The round that it builds on; 0: none.
    pub const fn base(&self) -> u32 {
        match self {
            Self::Whole { base } | Self::Memory { base, .. } => *base,
        }
    }

    /// The set of that name. A set may only build on an earlier round.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let mut parts = name.split('/');
        let kind = parts.next();
        let numbers: Vec<u32> = parts
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| {
                let reason = "the name of the set has a part that is no number";
                Error::Malformed {
                    frame: "ImagesBegin",
                    reason,
                }
            })?;
        match (kind, numbers.as_slice()) {
            (Some("images"), []) => Ok(Self::Whole { base: 0 }),
            (Some("images"), [base]) => Ok(Self::Whole { base: *base }),
            (Some("memory"), [round, base]) if base < round => Ok(Self::Memory {
                round: *round,
                base: *base,
            }),
            _ => Err(Error::Malformed {
                frame: "ImagesBegin",
                reason: "there is no set of that name",
            }),
        }
    }
}

#[cfg(test)]
mod tests;
