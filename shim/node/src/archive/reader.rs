//! An archive that is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use mycedrive_transfer::{Budget, FrameReader, ImageSet, Section, Survey};
use serde::Serialize;

use super::sealed::{Key, Source};
use super::{ArchiveError, ContainerHeader, Header};
use crate::source::ids_of;

/// An open archive: the header was read and checked, the stream comes next.
#[derive(Debug)]
pub struct Archive<R> {
    header: Header,
    source: R,
}

/// All that is in an archive; every digest was right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The header.
    #[serde(flatten)]
    pub header: Header,
    /// By tree, and `images` for the memory.
    pub sections: BTreeMap<String, Counts>,
}

/// What a tree or the memory holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links.
    pub links: u64,
    /// Device nodes.
    pub devices: u64,
    /// Entries with a set-user-id or set-group-id bit.
    pub setuid: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// Opens a file, with a key if it is encrypted; a link is not followed.
pub fn source(path: &Path, key: Option<&Key>) -> Result<Source, ArchiveError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => ArchiveError::NotAFile,
            _ => ArchiveError::Read(error),
        })?;
    if !file.metadata().map_err(ArchiveError::Read)?.is_file() {
        return Err(ArchiveError::NotAFile);
    }
    Source::new(file, key)
}

impl Archive<Source> {
    /// Opens a file, with a key if it is encrypted; a link is not followed.
    pub fn open(path: &Path, key: Option<&Key>) -> Result<Self, ArchiveError> {
        Self::new(source(path, key)?)
    }
}

impl<R: Read> Archive<R> {
    /// Reads the header.
    pub fn new(mut source: R) -> Result<Self, ArchiveError> {
        let header = Header::decode(&mut source)?;
        Ok(Self { header, source })
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The stream, from its beginning. What has been read of it counts only once
    /// [`Self::finish`] says that it ended there.
    pub fn stream(&mut self) -> &mut R {
        &mut self.source
    }

    /// Nothing may follow the stream.
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        let mut byte = [0];
        match self.source.read(&mut byte).map_err(ArchiveError::Read)? {
            0 => Ok(()),
            _ => Err(ArchiveError::Trailing),
        }
    }

    /// Reads all of it and stores nothing.
    pub fn survey(mut self) -> Result<Contents, ArchiveError> {
        let mut sections: BTreeMap<String, Counts> = BTreeMap::new();
        let mut frames = FrameReader::new(&mut self.source, &Budget::default())?;
        while let Some(section) = frames.next_section()? {
            let name = match &section {
                Section::Tree(begin) => begin.id.as_str().to_owned(),
                Section::Images(begin) => begin.set.to_string(),
            };
            let found = frames.skip_section(&section)?;
            if sections.len() >= 65_536 {
                return Err(ArchiveError::Differs("too many sections".to_owned()));
            }
            sections.entry(name).or_default().add(&found);
        }
        drop(frames);
        let header = self.header.clone();
        compare(&header, &sections)?;
        self.finish()?;
        Ok(Contents { header, sections })
    }
}

/// The trees of the header are those of the stream, and the memory is there.
fn compare(header: &Header, sections: &BTreeMap<String, Counts>) -> Result<(), ArchiveError> {
    let mut listed: BTreeSet<String> = header.containers.iter().flat_map(ids).collect();
    listed.insert(ImageSet::Whole { base: 0 }.to_string());
    let found: BTreeSet<String> = sections.keys().cloned().collect();
    match listed.symmetric_difference(&found).next() {
        None => Ok(()),
        Some(one) if found.contains(one) => Err(ArchiveError::Differs(format!(
            "{one:?} is in it, the header does not say so"
        ))),
        Some(one) => Err(ArchiveError::Differs(format!("{one:?} is not in it"))),
    }
}

/// Ids of the parts of a container's trees.
fn ids(container: &ContainerHeader) -> impl Iterator<Item = String> {
    container.trees.iter().flat_map(|tree| {
        let layers = container.layers.get(tree).copied().unwrap_or(0);
        ids_of(&container.name, tree, layers)
    })
}

impl Counts {
    fn add(&mut self, survey: &Survey) {
        self.files += survey.files;
        self.directories += survey.directories;
        self.links += survey.links;
        self.devices += survey.devices;
        self.setuid += survey.setuid;
        self.bytes += survey.bytes;
    }
}
