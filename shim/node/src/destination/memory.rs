//! Rounds of memory that arrive before the freeze, and how the images build on them.
//!
//! Each round is a directory `NUMBER/CONTAINER` with images of CRIU's, whose link `parent` leads to
//! the round it builds on. CRIU follows these links while it restores. It does so from within the
//! container's mounts, so they are relative.
//!
//! For images of DMTCP a round has a file with pages, which are copied into the images as these
//! arrive.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mycedrive_transfer::{FrameReader, ImageFiles, ImageSet, ImagesBegin, receive_images_over};

use crate::error::{Error, Result};
use crate::files;

/// What CRIU calls the link (criu/include/crtools.h, `CR_PARENT_LINK`).
const PARENT: &str = "parent";

/// The rounds of one migration.
#[derive(Debug, Default)]
pub struct MemoryRounds {
    folder: PathBuf,
    /// The newest whole round; 0: there is none.
    newest: u32,
    /// One whose stream has not ended yet.
    arriving: Option<u32>,
}

impl MemoryRounds {
    /// None yet; they will be kept in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            ..Self::default()
        }
    }

    /// The newest whole round; 0: there is none.
    pub const fn newest(&self) -> u32 {
        self.newest
    }

    /// Receives one round, or the images of the freeze into `images`. A round may leave out pages of
    /// `files`.
    pub fn receive<R: io::Read>(
        &mut self,
        frames: &mut FrameReader<R>,
        begin: &ImagesBegin,
        images: Option<&Path>,
        files: &ImageFiles,
    ) -> Result<()> {
        let (to, base) = match (begin.set, images) {
            (ImageSet::Memory { round, base }, None) if round > self.newest => {
                files::make_private_dir(&self.folder)?;
                self.arriving = Some(round);
                (self.folder.join(round.to_string()), base)
            }
            (ImageSet::Whole { base }, Some(images)) => (images.to_owned(), base),
            (set, _) => {
                let text = format!("the source sent {set:?} out of turn");
                return Err(Error::Failed(text));
            }
        };
        if base != 0 && base != self.newest {
            return Err(Error::Failed(format!(
                "the source sent memory that builds on round {base}; here is round {}",
                self.newest
            )));
        }
        receive_images_over(frames, begin, &to, &self.folder, files).map_err(failed)?;
        if base == 0 {
            return Ok(());
        }
        self.link(&to, base)
    }

    /// The stream has ended well.
    pub fn ended(&mut self) {
        if let Some(round) = self.arriving.take() {
            self.newest = round;
        }
    }

    /// The stream has not ended well.
    pub fn broken(&mut self) {
        self.arriving = None;
    }

    /// Makes the links of every container that has images in round `base` as well.
    fn link(&self, set: &Path, base: u32) -> Result<()> {
        let base = self.folder.join(base.to_string());
        let Some(way) = way(set, &base) else {
            let text = format!("{} and {} lie too far apart", set.display(), base.display());
            return Err(Error::Failed(text));
        };
        for entry in fs::read_dir(set).map_err(Error::io("cannot list", set))? {
            let entry = entry.map_err(Error::io("cannot list", set))?;
            let name = entry.file_name();
            if entry.path().is_dir() && base.join(&name).is_dir() {
                let link = entry.path().join(PARENT);
                // From the container's directory.
                symlink(Path::new("..").join(&way).join(&name), &link)
                    .map_err(Error::io("cannot create", &link))?;
            }
        }
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value)]
fn failed(error: mycedrive_transfer::Error) -> Error {
    let text = error.to_string();
    match error {
        mycedrive_transfer::Error::NotShared { .. } => Error::OtherImage(text),
        _ => Error::Failed(text),
    }
}

/// The way from one directory to another, both of which lie in one directory or its children.
fn way(from: &Path, to: &Path) -> Option<PathBuf> {
    if let Ok(rest) = to.strip_prefix(from.parent()?) {
        return Some(Path::new("..").join(rest));
    }
    None
}

#[cfg(test)]
mod tests;
