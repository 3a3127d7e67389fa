//! Which processes were stopped by a signal when the image was taken.
//!
//! A restore ends with all of them stopped, and SIGCONT must not reach these. Pids are those of
//! the container's own pid namespace, which are the same after the restore.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::process::{self, Status};
use crate::{EngineError, freezer, spec};

/// Name in the image directory.
const FILE: &str = "mycedrive-stopped.json";
/// Largest file that is read, in bytes: the image comes from another node.
const LARGEST: u64 = 1 << 20;

/// Writes the list of those among `processes` into an image directory. Returns their pids here.
pub(super) fn record(image_dir: &Path, processes: &[i32]) -> Result<Vec<i32>, EngineError> {
    let mut stopped = processes.to_vec();
    stopped.retain(|pid| process::is_stopped(*pid));
    let inner: BTreeSet<i32> = stopped
        .iter()
        .filter_map(|pid| Some(Status::read(*pid).ok()?.inner_pid))
        .collect();
    let list = serde_json::Value::from_iter(inner);
    spec::replace(&image_dir.join(FILE), list.to_string().as_bytes())?;
    Ok(stopped)
}

/// Processes that are not stopped as long as this lives.
///
/// CRIU cannot seize a process that is stopped in a group that the v1 freezer froze: ptrace
/// waits, beyond SIGKILL, for a step that the frozen process cannot take. SIGCONT ends the stop,
/// and being frozen the process does not run for it; SIGSTOP afterwards stops it again before it
/// can run.
pub(super) struct Continued(Vec<i32>);

impl Continued {
    /// Continues processes that are frozen as well as stopped.
    pub(super) fn new(stopped: Vec<i32>) -> Result<Self, EngineError> {
        let continued = Self(stopped);
        for pid in &continued.0 {
            freezer::signal(*pid, Signal::SIGCONT)?;
        }
        Ok(continued)
    }
}

impl Drop for Continued {
    fn drop(&mut self) {
        for pid in &self.0 {
            if let Err(error) = freezer::signal(*pid, Signal::SIGSTOP) {
                tracing::warn!(pid, %error, "a process that was stopped is not any more");
            }
        }
    }
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
