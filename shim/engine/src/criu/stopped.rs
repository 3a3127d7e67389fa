//! Which processes were stopped by a signal when the image was taken.
//!
//! A restore ends with all of them stopped, and SIGCONT must not reach these. Pids are those of
//! the container's own pid namespace, which are the same after the restore.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use crate::process::Status;
use crate::{EngineError, spec};

/// Name in the image directory.
const FILE: &str = "mycedrive-stopped.json";
/// Largest file that is read, in bytes: the image comes from another node.
const LARGEST: u64 = 1 << 20;

/// Writes the list of those among `processes` into an image directory.
pub(super) fn record(image_dir: &Path, processes: &[i32]) -> Result<(), EngineError> {
    let stopped: BTreeSet<i32> = processes
        .iter()
        .filter_map(|pid| Status::read(*pid).ok())
        .filter(|status| status.state == 'T')
        .map(|status| status.inner_pid)
        .collect();
    let list = serde_json::Value::from_iter(stopped);
    spec::replace(&image_dir.join(FILE), list.to_string().as_bytes())
}

/// Reads the list from an image directory. An image of another program has none.
pub(super) fn read(image_dir: &Path) -> Result<BTreeSet<i32>, EngineError> {
    let path = image_dir.join(FILE);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(EngineError::io("open", &path)(error)),
    };
    let mut text = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut text)
        .map_err(EngineError::io("read", &path))?;
    serde_json::from_slice(&text).map_err(|error| EngineError::DamagedImage {
        path,
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
