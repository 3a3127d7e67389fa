//! A directory with DMTCP's images of a container, and the list that makes it complete.
//!
//! DMTCP writes `NAME.dmtcp.temp` and renames it, and `NAME_files/` for files that are open but
//! deleted. `dmtcp_restart` hangs on an image that is cut off, so a directory counts only when it
//! has a list, written last, to which every file holds: number, size and digest.
//!
//! The container's processes write the files, and may go on to do so as long as they reach them.
//! So each is renamed into a directory of root's before it is looked at.

mod list;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use list::LIST;
pub(crate) use list::described;
pub(super) use list::{Image, List};

use crate::{EngineError, spec};

/// The pod's sockets, beside the list.
const SOCKETS: &str = "mycedrive-dmtcp-sockets";
/// Longest, in bytes: what was sent and not yet read is in it.
const LONGEST_SOCKETS: u64 = 1 << 30;
/// Where the files are for `dmtcp_restart`. Before, they are beside the list.
pub(crate) const FOLDER: &str = "dmtcp";
const PREFIX: &str = "ckpt_";
const SUFFIX: &str = ".dmtcp";
/// What follows the name of an image in that of the directory beside it.
const FILES: &str = "_files";

/// What is in a directory that DMTCP writes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Images that are whole.
    pub complete: usize,
    /// Images that are being written.
    pub partial: usize,
}

/// Looks.
pub(super) fn progress(directory: &Path) -> io::Result<Progress> {
    let mut progress = Progress::default();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(SUFFIX) {
            progress.complete += 1;
        } else if name.contains(SUFFIX) {
            progress.partial += 1;
        }
    }
    Ok(progress)
}

/// Makes a directory for the container's processes, of any user; nobody but root gets there from
/// outside. What an earlier image left in `directory` is removed.
pub(super) fn partial(directory: &Path) -> Result<PathBuf, EngineError> {
    let path = directory.join("dmtcp-partial");
    let removed = |result: io::Result<()>, path: &Path| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::io("remove", path)(error))
        }
        _ => Ok(()),
    };
    let (list, folder) = (directory.join(LIST), directory.join(FOLDER));
    removed(fs::remove_file(&list), &list)?;
    removed(fs::remove_dir_all(&folder), &folder)?;
    removed(fs::remove_dir_all(&path), &path)?;
    fs::create_dir(&path).map_err(EngineError::io("create", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))
        .map_err(EngineError::io("change", &path))?;
    Ok(path)
}

/// Whether a directory holds an image of DMTCP.
pub fn is_dmtcp(directory: &Path) -> bool {
    directory.join(LIST).is_file()
}

/// Takes the files from `partial`, where DMTCP wrote them, and writes the list of `directory`.
pub(super) fn complete(
    partial: &Path,
    directory: &Path,
    version: &str,
    peers: u32,
    sockets: Option<&[u8]>,
) -> Result<(), EngineError> {
    if let Some(sockets) = sockets {
        spec::replace(&directory.join(SOCKETS), sockets)?;
    }
    let mut list = List {
        version: version.to_owned(),
        peers,
        images: Vec::new(),
        sockets: sockets.map(|bytes| blake3::hash(bytes).to_hex().to_string()),
    };
    for name in names(partial)? {
        let to = directory.join(flat(&name));
        fs::rename(partial.join(&name), &to).map_err(EngineError::io("rename", &to))?;
        let file = regular(&to)?;
        let own = fs::Permissions::from_mode(0o600);
        fchown(&file, Some(0), Some(0))
            .and_then(|()| file.set_permissions(own))
            .map_err(EngineError::io("change", &to))?;
        list.images.push(Image {
            name,
            size: file
                .metadata()
                .map_err(EngineError::io("read", &to))?
                .size(),
            digest: digest(&file, &to)?,
        });
    }
    let text = serde_json::to_vec(&list).map_err(|error| EngineError::DamagedImage {
        path: directory.to_owned(),
        problem: error.to_string(),
    })?;
    spec::replace(&directory.join(LIST), &text)
}

/// What an image consists of: `ckpt_X.dmtcp`, and `ckpt_X_files/Y`.
fn names(partial: &Path) -> Result<Vec<String>, EngineError> {
    let entries = |directory: &Path| -> Result<Vec<(String, fs::FileType)>, EngineError> {
        let failed = |error| EngineError::io("list", directory)(error);
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, entry.file_type().map_err(failed)?));
        }
        Ok(found)
    };
    let mut names = Vec::new();
    for (name, kind) in entries(partial)? {
        if kind.is_file() {
            names.push(name);
        } else if kind.is_dir() {
            for (inner, kind) in entries(&partial.join(&name))? {
                if kind.is_file() {
                    names.push(format!("{name}/{inner}"));
                }
            }
        }
    }
    names.retain(|name| is_name(name));
    names.sort();
    Ok(names)
}

/// How a file is called in a directory without others below it, which is what CRI archives.
fn flat(name: &str) -> String {
    name.replace('/', "%2F")
}

/// Moves a file of an image to where DMTCP looks for it, unless an earlier restore did.
fn unfold(directory: &Path, folder: &Path, name: &str) -> Result<PathBuf, EngineError> {
    let (from, to) = (directory.join(flat(name)), folder.join(name));
    if let Some(parent) = to.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .create(parent)
            .map_err(EngineError::io("create", parent))?;
    }
    match fs::rename(&from, &to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::io("rename", &from)(error))
        }
        _ => Ok(to),
    }
}

/// Whether a name is one of an image's, and leads nowhere else.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    match name.split_once('/') {
        None => name.starts_with(PREFIX) && name.ends_with(SUFFIX),
        Some((folder, file)) => {
            folder.starts_with(PREFIX)
                && folder.ends_with(FILES)
                && plain(file)
                && !file.contains('/')
        }
    }
}

/// Opens a file that must be a regular one.
fn regular(path: &Path) -> Result<File, EngineError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(EngineError::io("open", path))?;
    let metadata = file.metadata().map_err(EngineError::io("read", path))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(damaged(path, "it is not a regular file".to_owned()))
    }
}

fn damaged(path: &Path, problem: String) -> EngineError {
    EngineError::DamagedImage {
        path: path.to_owned(),
        problem,
    }
}

/// An image to restart from.
#[derive(Debug)]
pub(super) struct Verified {
    /// Its list.
    pub list: List,
    /// Directory with the files.
    pub folder: PathBuf,
    /// Names of the processes' images in it.
    pub processes: Vec<String>,
    /// The pod's sockets, in one container's image.
    pub sockets: Option<Vec<u8>>,
}

/// Reads the list of a directory and holds every file to it. Gives the files to `user`, who
/// cannot reach them from outside of the container.
pub(super) fn verified(directory: &Path, user: u32) -> Result<Verified, EngineError> {
    let path = directory.join(LIST);
    let list = list::read(directory)?;
    let folder = directory.join(FOLDER);
    fs::DirBuilder::new()
        .recursive(true)
        .create(&folder)
        .map_err(EngineError::io("create", &folder))?;
    // What is mounted in the container is this directory, past those above it.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
        .map_err(EngineError::io("change", &folder))?;
    let mut processes = Vec::new();
    for image in &list.images {
        if !is_name(&image.name) {
            return Err(damaged(
                &path,
                format!("{:?} is not the name of an image", image.name),
            ));
        }
        let at = unfold(directory, &folder, &image.name)?;
        let file = regular(&at)?;
        let size = file
            .metadata()
            .map_err(EngineError::io("read", &at))?
            .size();
        if size != image.size {
            return Err(damaged(&at, format!("{size} bytes are not {}", image.size)));
        }
        if digest(&file, &at)? != image.digest {
            return Err(damaged(
                &at,
                "its content is not what was written".to_owned(),
            ));
        }
        if user != 0 {
            fchown(&file, Some(user), None).map_err(EngineError::io("change", &at))?;
        }
        if !image.name.contains('/') {
            processes.push(image.name.clone());
        }
    }
    for name in &processes {
        // DMTCP looks into it, whether there was something to put into it or not.
        let files = folder.join(format!("{}{FILES}", name.trim_end_matches(SUFFIX)));
        fs::DirBuilder::new()
            .recursive(true)
            .create(&files)
            .map_err(EngineError::io("create", &files))?;
    }
    let sockets = match &list.sockets {
        Some(digest) => Some(sockets(&directory.join(SOCKETS), digest)?),
        None => None,
    };
    Ok(Verified {
        list,
        folder,
        processes,
        sockets,
    })
}

fn sockets(path: &Path, wanted: &str) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    regular(path)?
        .take(LONGEST_SOCKETS)
        .read_to_end(&mut bytes)
        .map_err(EngineError::io("read", path))?;
    if blake3::hash(&bytes).to_hex().as_str() == wanted {
        Ok(bytes)
    } else {
        Err(damaged(
            path,
            "its content is not what was written".to_owned(),
        ))
    }
}

fn digest(file: &File, path: &Path) -> Result<String, EngineError> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(file)
        .map_err(EngineError::io("read", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests;
