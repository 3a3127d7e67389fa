//! The files of a checkpoint directory. Nothing but regular files directly in it is looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{FileEntry, Misfit};

/// Files are read in pieces of this size.
const PIECE: usize = 256 << 10;

/// Refuses a name that does not stay in the directory.
pub(super) fn plain(name: &str) -> Result<&str, Misfit> {
    let plain = !name.is_empty()
        && name.len() <= 255
        && !matches!(name, "." | "..")
        && !name.contains(['/', '\0']);
    if plain {
        Ok(name)
    } else {
        Err(Misfit::Name {
            name: name.to_owned(),
        })
    }
}

/// The names in a directory, sorted. All of them must be regular files, but for one folder.
pub(super) fn list(directory: &Path, folder: Option<&str>) -> Result<Vec<String>, Misfit> {
    let failed = |error: io::Error| unreadable(".", &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Not followed: a link is a link, wherever it leads.
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && folder == Some(name.as_str()) {
            continue;
        }
        if !kind.is_file() {
            return Err(Misfit::NotAFile { name });
        }
        names.push(plain(&name)?.to_owned());
    }
    names.sort();
    Ok(names)
}

/// A file's size and digest.
pub(super) fn describe(directory: &Path, name: &str) -> Result<FileEntry, Misfit> {
    let (mut file, bytes) = open(directory, name)?;
    Ok(FileEntry {
        name: name.to_owned(),
        bytes,
        blake3: digest(&mut file).map_err(|error| unreadable(name, &error))?,
    })
}

/// Compares a file with its entry: the size first, which costs nothing.
pub(super) fn compare(directory: &Path, entry: &FileEntry) -> Result<(), Misfit> {
    let (mut file, bytes) = open(directory, &entry.name)?;
    if bytes != entry.bytes {
        return Err(Misfit::Size {
            name: entry.name.clone(),
            found: bytes,
            listed: entry.bytes,
        });
    }
    let digest = digest(&mut file).map_err(|error| unreadable(&entry.name, &error))?;
    if digest == entry.blake3 {
        Ok(())
    } else {
        Err(Misfit::Digest {
            name: entry.name.clone(),
        })
    }
}

/// Removes a file of an earlier checkpoint; that it is gone is fine.
pub(super) fn remove(directory: &Path, name: &str) -> Result<(), Misfit> {
    match fs::remove_file(directory.join(plain(name)?)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreadable(name, &error)),
        _ => Ok(()),
    }
}

/// Removes the folder of an earlier checkpoint; a link in its place is not followed.
pub(super) fn remove_folder(directory: &Path, name: &str) -> Result<(), Misfit> {
    match fs::remove_dir_all(directory.join(plain(name)?)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreadable(name, &error)),
        _ => Ok(()),
    }
}

fn open(directory: &Path, name: &str) -> Result<(File, u64), Misfit> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(directory.join(plain(name)?));
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Misfit::Missing {
                name: name.to_owned(),
            });
        }
        Err(error) => return Err(unreadable(name, &error)),
    };
    let metadata = file.metadata().map_err(|error| unreadable(name, &error))?;
    if !metadata.is_file() {
        return Err(Misfit::NotAFile {
            name: name.to_owned(),
        });
    }
    Ok((file, metadata.len()))
}

fn digest(file: &mut File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&piece[..count]);
    }
}

fn unreadable(name: &str, error: &io::Error) -> Misfit {
    Misfit::Unreadable {
        name: name.to_owned(),
        problem: error.to_string(),
    }
}
