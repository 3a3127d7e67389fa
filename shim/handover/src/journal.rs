//! Records that survive a crash: one append-only file per migration.
//!
//! A file is a sequence of frames: length of the payload (u32, little endian), CRC-32 of the
//! payload (u32, little endian), payload (one JSON value). [`Journal::append`] returns after
//! `fsync`; a new file's directory entry is synced too. Reading stops at the first frame that
//! is incomplete or does not match its checksum: a crash while writing leaves a torn tail,
//! which was never acted upon, and which is cut off before the next append.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest payload in bytes. A length above it is damage, not a record.
const LONGEST: u32 = 1 << 20;
const HEADER: usize = 8;
const EXTENSION: &str = "journal";

/// A journal could not be read or written. Nothing that depends on the record may be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("journal {path}: cannot {what}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A record is not JSON of the expected form: another version wrote it.
    #[error("journal {path}: record {index} is unreadable: {source}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Which record, from 0.
        index: usize,
        /// Why not.
        source: serde_json::Error,
    },
    /// A record is longer than one mebibyte.
    #[error("journal {path}: a record of {length} bytes is too long", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes.
        length: usize,
    },
    /// A name that cannot be a file name.
    #[error("{name:?} cannot name a journal: letters, digits, '.', '_' and '-' only")]
    Name {
        /// The name.
        name: String,
    },
}

/// A journal that is open for appending.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Length of what is known to be whole; a failed write is cut back to it.
    whole: u64,
}

impl Journal {
    /// Opens `directory/name.journal`, makes both when they do not exist, cuts off a torn
    /// tail, and returns the records in it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open<R: DeserializeOwned>(
        directory: &Path,
        name: &str,
    ) -> Result<(Self, Vec<R>), Error> {
        let path = path_of(directory, name)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io_error(directory, "make the folder"))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error(&path, "open"))?;
        File::open(directory)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error(directory, "sync the folder"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(io_error(&path, "read"))?;
        let (records, whole) = decode(&path, &bytes)?;
        let whole = whole as u64;
        if whole < bytes.len() as u64 {
            tracing::warn!(path = %path.display(), whole, "journal: cutting off a torn tail");
            file.set_len(whole)
                .and_then(|()| file.sync_all())
                .map_err(io_error(&path, "cut"))?;
        }
        Ok((Self { file, path, whole }, records))
    }

    /// Appends a record; it is durable when this returns `Ok`.
    ///
    /// # Errors
    /// See [`Error`]. After an error the record is not in the journal.
    pub fn append<R: Serialize>(&mut self, record: &R) -> Result<(), Error> {
        let payload = serde_json::to_vec(record).map_err(|source| Error::Record {
            path: self.path.clone(),
            index: 0,
            source,
        })?;
        if payload.len() > LONGEST as usize {
            let (path, length) = (self.path.clone(), payload.len());
            return Err(Error::TooLong { path, length });
        }
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        frame.extend_from_slice(&payload);
        let written = self
            .file
            .seek(SeekFrom::Start(self.whole))
            .and_then(|_| self.file.write_all(&frame))
            .and_then(|()| self.file.sync_all());
        if let Err(source) = written {
            let cut = self
                .file
                .set_len(self.whole)
                .and_then(|()| self.file.sync_all());
            if let Err(error) = cut {
                tracing::error!(path = %self.path.display(), %error, "journal: cannot cut back");
            }
            let path = self.path.clone();
            let what = "append";
            return Err(Error::Io { path, what, source });
        }
        self.whole += frame.len() as u64;
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Names of the journals in a folder, sorted. A folder that does not exist has none.
///
/// # Errors
/// See [`Error`].
pub fn list(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(source) => return Err(io_error(directory, "list")(source)),
    };
    let mut names = vec![];
    for entry in entries {
        let path = entry.map_err(io_error(directory, "list"))?.path();
        if path.extension().is_some_and(|found| found == EXTENSION)
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a journal's records without changing it.
///
/// # Errors
/// See [`Error`].
pub fn read<R: DeserializeOwned>(directory: &Path, name: &str) -> Result<Vec<R>, Error> {
    let path = path_of(directory, name)?;
    let bytes = fs::read(&path).map_err(io_error(&path, "read"))?;
    Ok(decode(&path, &bytes)?.0)
}

/// Removes journals whose records are final by `finished` and that were last written more
/// than `age` ago. Returns the names of those removed.
///
/// A destination's finished migration must stay until the source can no longer ask; both
/// sides' final states imply that the other side has durably recorded the outcome.
///
/// # Errors
/// See [`Error`]. Journals that cannot be read stay.
pub fn prune<R: DeserializeOwned>(
    directory: &Path,
    age: Duration,
    finished: impl Fn(&[R]) -> bool,
) -> Result<Vec<String>, Error> {
    let now = SystemTime::now();
    let mut removed = vec![];
    for name in list(directory)? {
        let path = path_of(directory, &name)?;
        let Ok(written) = fs::metadata(&path).and_then(|metadata| metadata.modified()) else {
            continue;
        };
        if now.duration_since(written).unwrap_or_default() < age {
            continue;
        }
        let Ok(records) = read::<R>(directory, &name) else {
            continue;
        };
        if records.is_empty() || finished(&records) {
            fs::remove_file(&path).map_err(io_error(&path, "remove"))?;
            removed.push(name);
        }
    }
    Ok(removed)
}

/// The whole records of a file and how many bytes they take.
fn decode<R: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<(Vec<R>, usize), Error> {
    let mut records = vec![];
    let mut at = 0;
    while let Some(payload) = frame(&bytes[at..]) {
        let record = serde_json::from_slice(payload).map_err(|source| Error::Record {
            path: path.to_owned(),
            index: records.len(),
            source,
        })?;
        records.push(record);
        at += HEADER + payload.len();
    }
    Ok((records, at))
}

/// The payload of the frame at the front, when it is whole.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length == 0 || length > LONGEST {
        return None;
    }
    let payload = rest.get(..length as usize)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*checksum)).then_some(payload)
}

fn path_of(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(allowed) {
        let name = name.to_owned();
        return Err(Error::Name { name });
    }
    Ok(directory.join(format!("{name}.{EXTENSION}")))
}

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, what, source }
}

#[cfg(test)]
mod tests;
