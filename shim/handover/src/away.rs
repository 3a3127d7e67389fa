//! Pods that must not run on this node again: they moved, or wait here as a parked image.
//!
//! kubelet does not know, and starts a pod's containers again when its shim died or the node was
//! restarted. So the daemon writes a small file for the pod's uid, and a shim looks for it before
//! it makes or starts a container.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the folder of these files, below the run directory.
const FOLDER: &str = "away";
/// Largest file that is read, in bytes.
const LARGEST: u64 = 64 << 10;

/// Why a pod does not run here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "away", rename_all = "kebab-case")]
pub enum Away {
    /// It runs on another node: its containers are held here.
    Moved {
        /// By this migration.
        migration: String,
        /// Where it runs, for people: `node b as shop/redis-0`.
        destination: String,
    },
    /// Its processes are an image on this node: its containers cannot start here.
    Parked {
        /// The parked image.
        id: String,
    },
}

impl std::fmt::Display for Away {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Moved { destination, .. } => write!(to, "the pod runs on {destination} now"),
            Self::Parked { id } => write!(
                to,
                "the pod is parked on this node as {id}: a pod with the annotation \
                 mycedrive.io/migrate-from takes it over from here; or `mycedrive drop {id}` gives \
                 it up, and it starts from its image"
            ),
        }
    }
}

/// The folder of the files.
pub fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join(FOLDER)
}

/// The file of a pod; `None` for a uid that cannot be a file name.
pub fn file(run_dir: &Path, uid: &str) -> Option<PathBuf> {
    let plain = !uid.is_empty()
        && !uid.starts_with('.')
        && uid.len() <= 128
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    plain.then(|| folder(run_dir).join(uid))
}

/// Why a pod does not run here; `None` when nothing is known of it. A file that cannot be read as
/// one of these counts as moved: running twice is worse than not running.
pub fn read(run_dir: &Path, uid: &str) -> Option<Away> {
    let file = file(run_dir, uid)?;
    let size = fs::metadata(&file).ok()?.len();
    let unreadable = || Away::Moved {
        migration: String::new(),
        destination: format!("another node ({} is unreadable)", file.display()),
    };
    if size > LARGEST {
        return Some(unreadable());
    }
    let read = fs::read(&file).ok()?;
    Some(serde_json::from_slice(&read).unwrap_or_else(|_| unreadable()))
}

/// Says why a pod does not run here, in one step. The folder is on a tmpfs: what must survive a
/// restart of the node is written again from where it is durable.
///
/// # Errors
/// When the file cannot be written. A uid that cannot be a file name is none of a pod.
pub fn write(run_dir: &Path, uid: &str, away: &Away) -> io::Result<()> {
    let Some(file) = file(run_dir, uid) else {
        return Ok(());
    };
    let new = folder(run_dir).join(format!(".{uid}.new"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder(run_dir))?;
    fs::write(&new, serde_json::to_vec(away)?)?;
    fs::rename(&new, &file)
}

/// The pod may start here again.
pub fn remove(run_dir: &Path, uid: &str) {
    if let Some(file) = file(run_dir, uid) {
        let _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests;
