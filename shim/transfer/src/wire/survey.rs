//! What a stream holds, without storing anything of it.

use std::io::Read;

use super::frame::Frame;
use super::reader::{FrameReader, Section};
use crate::budget::check;
use crate::error::{Error, Result};

/// What a section brings. A tree that comes in several rounds counts what each one brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links and further names of files.
    pub links: u64,
    /// Device nodes; whiteouts of an overlay are not among them.
    pub devices: u64,
    /// Fifos, sockets and whiteouts.
    pub special: u64,
    /// Entries with a set-user-id or set-group-id bit.
    pub setuid: u64,
    /// Bytes of content.
    pub bytes: u64,
}

impl Survey {
    /// Adds another section's.
    pub fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.links += other.links;
        self.devices += other.devices;
        self.special += other.special;
        self.setuid += other.setuid;
        self.bytes += other.bytes;
    }

    fn tree(&mut self, frame: &Frame<'_>) -> bool {
        match frame {
            Frame::MakeDir { .. } => self.directories += 1,
            Frame::Link { .. } => self.links += 1,
            Frame::File { update, .. } => self.files += u64::from(!update),
            Frame::Data { bytes, .. } => self.bytes += bytes.len() as u64,
            Frame::Node { kind, device, .. } => match *kind {
                libc::S_IFLNK => self.links += 1,
                libc::S_IFBLK => self.devices += 1,
                libc::S_IFCHR if *device != 0 => self.devices += 1,
                _ => self.special += 1,
            },
            Frame::Attr { attributes, .. } => {
                self.setuid += u64::from(attributes.mode & 0o6000 != 0);
            }
            Frame::Park { .. }
            | Frame::Remove { .. }
            | Frame::Unpark { .. }
            | Frame::Hole { .. } => {}
            _ => return false,
        }
        true
    }

    fn images(&mut self, frame: &Frame<'_>) -> bool {
        match frame {
            Frame::ImageFile { .. } => self.files += 1,
            Frame::ImageData { bytes, .. } => self.bytes += bytes.len() as u64,
            Frame::ImageSize { .. } | Frame::ImageKnown { .. } | Frame::ImageShared { .. } => {}
            _ => return false,
        }
        true
    }
}

impl<R: Read> FrameReader<R> {
    /// Reads over the section that [`FrameReader::next_section`] announced. Its frames are
    /// decoded, bounded and its digest verified; nothing is stored.
    pub fn skip_section(&mut self, section: &Section) -> Result<Survey> {
        let limit = self.budget().entries;
        let mut survey = Survey::default();
        loop {
            let frame = self.next()?;
            let belongs = match (section, &frame) {
                (Section::Tree(_), Frame::TreeEnd { .. })
                | (Section::Images(_), Frame::ImagesEnd { .. }) => return Ok(survey),
                (Section::Tree(_), other) => survey.tree(other),
                (Section::Images(_), other) => survey.images(other),
            };
            if !belongs {
                return Err(Error::Unexpected {
                    frame: frame.name(),
                    reason: "it does not belong into this section",
                });
            }
            let entries = survey.files + survey.directories + survey.links + survey.special;
            check("entries in the section", entries + survey.devices, limit)?;
        }
    }
}
