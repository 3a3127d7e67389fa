//! Takes out of a whole dump what the receiver has from rounds of memory.

use std::collections::BTreeMap;
use std::ops::Range;

use super::pagemap::{PARENT, PRESENT, Pagemap};
use super::{Known, PAGE, PageDigest, digest};
use crate::beneath::split;
use crate::error::show;

/// What is sent of a file in place of all of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// This content.
    Content(Vec<u8>),
    /// These pages of the file, by number, one after the other.
    Pages(Vec<Range<u64>>),
}

/// The digests of a dump's pages, taken while it is written.
pub(crate) struct Thin<'a> {
    known: &'a Known,
    /// By path of the `pages-*.img`; a page of zeros has none.
    files: BTreeMap<Box<[u8]>, Vec<Option<PageDigest>>>,
}

impl<'a> Thin<'a> {
    pub(crate) const fn new(known: &'a Known) -> Self {
        Self {
            known,
            files: BTreeMap::new(),
        }
    }

    /// Takes the next pages of a file, which are whole.
    pub(crate) fn pages(&mut self, path: &[u8], pages: &[u8]) {
        if !self.files.contains_key(path) {
            self.files.insert(path.into(), Vec::new());
        }
        if let Some(digests) = self.files.get_mut(path) {
            digests.extend(pages.chunks(PAGE).map(digest));
        }
    }

    /// What to send in place of the pagemap at `path`, whose content is `file`, and of its pages,
    /// whose path comes first. `None`: both go as they are.
    pub(crate) fn instead(
        &self,
        path: &[u8],
        file: &[u8],
    ) -> Option<(Box<[u8]>, Instead, Instead)> {
        let unusual = || {
            tracing::warn!(image = %show(path), "sent whole: it is not of the usual form");
        };
        let Some(whole) = Pagemap::decode(file) else {
            unusual();
            return None;
        };
        let (folder, _) = split(path);
        let name = format!("/pages-{}.img", whole.pages_id);
        let pages_path: Box<[u8]> = [folder, name.as_bytes()].concat().into();
        let digests = self.files.get(&pages_path).map_or(&[][..], Vec::as_slice);
        let count: u64 = whole.ranges.iter().map(|range| range.pages).sum();
        // There are other flags beside, such as that the pages may be restored late.
        let kinds = whole
            .ranges
            .iter()
            .map(|range| range.flags & (PRESENT | PARENT));
        let plain = kinds.eq(std::iter::repeat_n(PRESENT, whole.ranges.len()));
        if !plain || count != digests.len() as u64 {
            unusual();
            return None;
        }
        let mut known = self.known.lookup(path);
        let mut thin = Pagemap::new(whole.pages_id);
        let mut kept: Vec<Range<u64>> = Vec::new();
        let addresses = whole.ranges.iter().flat_map(|range| {
            let address = |page| range.address.saturating_add(page * PAGE as u64);
            (0..range.pages).map(move |page| (address(page), range.flags))
        });
        for ((number, (address, flags)), digest) in (0..).zip(addresses).zip(digests) {
            if digest.is_some_and(|digest| known.has(address, &digest)) {
                thin.add(address, PARENT);
                continue;
            }
            thin.add(address, flags);
            match kept.last_mut() {
                Some(last) if last.end == number => last.end += 1,
                _ => kept.push(number..number + 1),
            }
        }
        if thin == whole {
            return None;
        }
        let content = Instead::Content(thin.encode());
        Some((pages_path, content, Instead::Pages(kept)))
    }
}

/// Whether the file is the pagemap of a process (of shared memory there are others).
pub(crate) fn is_of_process(path: &[u8]) -> bool {
    let (_, name) = split(path);
    let pid = name
        .strip_prefix(b"pagemap-")
        .and_then(|rest| rest.strip_suffix(b".img"));
    pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit))
}
