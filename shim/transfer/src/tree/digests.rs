//! Digests of a file's blocks, for lists of what a receiver has.

use super::blocks::{BLOCK, Data, data};
use crate::wire::Digest;

/// The digest of a block whose content is not known. No block will have it.
pub(super) const UNKNOWN: Digest = [0xff; 32];

/// Digest of a block: of its bytes, where all of it is data; else of the places and bytes of its
/// data.
pub(super) fn digest(pieces: &[(u64, u64)], number: u64, buffer: &[u8]) -> Digest {
    match data(pieces, number * BLOCK, BLOCK, buffer) {
        Data::Whole(bytes) => *blake3::hash(bytes).as_bytes(),
        Data::Parts(parts) => {
            // A key of its own: no bytes of a whole block have such a digest.
            let mut hasher = blake3::Hasher::new_keyed(b"parts of a piece, between holes.");
            for (head, bytes) in parts {
                hasher.update(&head);
                hasher.update(bytes);
            }
            *hasher.finalize().as_bytes()
        }
    }
}
