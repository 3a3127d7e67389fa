//! Memory of running processes, in rounds, so that the images of the freeze need to carry only
//! what changed since.
//!
//! A round reads the private memory of each process from outside, compares every page with the
//! digest of what was sent before, and sends the pages that differ, in the form of CRIU's own
//! images (`pagemap-PID.img`, `pages-N.img`). So the receiver's rounds form what CRIU calls a chain
//! of parent images, <https://criu.org/Incremental_dumps>, and CRIU restores from it. Neither the
//! processes nor the kernel have to help: no page is missed, whatever was written how, because its
//! content decides.
//!
//! CRIU's dump in the freeze is whole. [`thin`] takes out what the receiver has.
//!
//! DMTCP's images hold pages as well, at other places and without their addresses. For them a round
//! brings each page once, whatever its address, in a file of pages ([`store`]); the images of the
//! freeze say which of their pages are there. Pages of files of the container's image are not sent:
//! the receiver is told where in its copy they are ([`shared`]).

mod known;
mod maps;
mod pagemap;
mod process;
mod round;
mod shared;
mod store;
mod thin;

pub use known::Known;
pub use process::{Form, MemoryProcess};
pub use round::{MemorySender, MemorySummary};
pub(crate) use store::{At, STORE};
pub(crate) use thin::{Instead, Thin, is_of_process};

use std::collections::BTreeMap;

/// The unit, in bytes.
use crate::image::PAGE;

/// Of a page's content. Two different pages with one digest take 2^64 tries to find.
pub(crate) type PageDigest = [u8; 16];

static ZEROS: [u8; PAGE] = [0; PAGE];

/// The digest of a page; `None` if it is all zeros.
pub(crate) fn digest(page: &[u8]) -> Option<PageDigest> {
    if page == ZEROS {
        return None;
    }
    let mut digest = PageDigest::default();
    digest.copy_from_slice(&blake3::hash(page).as_bytes()[..16]);
    Some(digest)
}

/// Pages of one process by address, ascending.
type Pages = Vec<(u64, PageDigest)>;

/// Pages by process: `CONTAINER/pagemap-PID.img`.
type Processes = BTreeMap<Box<[u8]>, Pages>;

#[cfg(test)]
mod tests;
