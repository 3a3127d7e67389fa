//! Pages of mapped files that the receiver has in its copy of the container's image, at the sender.

use std::fs::File;

use super::PAGE;
use super::process::Page;
use crate::image::shared::read;
use crate::image_files::ImageFiles;

/// Where in the image a page is.
pub(super) struct Origin<'a> {
    /// The container, and the path in its image.
    pub(super) path: &'a [u8],
    /// In bytes.
    pub(super) offset: u64,
}

/// Finds them in this node's copy of the image: what is there, the receiver has as well.
pub(super) struct Finder<'a> {
    files: &'a ImageFiles,
    /// The container and path that were looked for last, and what was found.
    path: Vec<u8>,
    file: Option<File>,
    buffer: [u8; PAGE],
}

impl<'a> Finder<'a> {
    pub(super) fn new(files: &'a ImageFiles) -> Self {
        Self {
            files,
            path: Vec::new(),
            file: None,
            buffer: [0; PAGE],
        }
    }

    /// Where the image of `container` has this page. `None`: nowhere, or the page was changed.
    pub(super) fn find(&mut self, container: &[u8], page: &Page<'_>) -> Option<Origin<'_>> {
        let (path, offset) = page.file?;
        // The path begins with the slash between them.
        let same = self.path.strip_prefix(container) == Some(path);
        if !same {
            self.path = [container, path].concat();
            self.file = self.files.open(&self.path).unwrap_or(None);
        }
        let file = self.file.as_ref()?;
        let there = read(file, &mut self.buffer, offset).is_ok_and(|read| read.is_some());
        (there && self.buffer == page.content).then_some(Origin {
            path: &self.path,
            offset,
        })
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
