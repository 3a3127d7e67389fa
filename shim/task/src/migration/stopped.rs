//! The proof that restored processes have not run.
//!
//! A file beside the pod's socket says in which migration they were restored and stopped. It is
//! removed before the first one is let go. When a shim dies after `RUN` was recorded the daemon
//! sees by it whether anything ran here: if not, the pod can go on at the source.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::pod_socket;

fn path(sandbox_id: &str) -> PathBuf {
    pod_socket::path(sandbox_id).with_extension("stopped")
}

/// The processes are restored and stopped.
pub fn note(sandbox_id: &str, migration: &str) -> Result<()> {
    let path = path(sandbox_id);
    fs::write(&path, migration).map_err(Error::path("write", &path))
}

/// They may run from now on, or are ended.
pub fn remove(sandbox_id: &str) -> Result<()> {
    let path = path(sandbox_id);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::path("remove", &path)(error))
        }
        _ => Ok(()),
    }
}
