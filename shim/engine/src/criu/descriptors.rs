//! `descriptors.json`, by which runc tells CRIU what becomes of a container's standard streams.
//!
//! runc writes the targets of the first process's descriptors 0 to 2 into the image, and at a
//! restore hands entry number N of the list to the processes as descriptor N of its own
//! (runc's `libcontainer/criu_linux.go`). A longer list would hand out whatever runc has open.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::EngineError;

/// Its name in the image directory.
pub(super) const FILE: &str = "descriptors.json";
/// Standard input, output and error.
const STREAMS: usize = 3;
/// Largest file that is read, in bytes: three paths.
const LARGEST: u64 = 64 << 10;

/// The list of an image. Refuses one that names more than the standard streams.
pub(super) fn read(image_dir: &Path) -> Result<Vec<String>, EngineError> {
    let path = image_dir.join(FILE);
    let mut text = Vec::new();
    File::open(&path)
        .map_err(EngineError::io("open", &path))?
        .take(LARGEST)
        .read_to_end(&mut text)
        .map_err(EngineError::io("read", &path))?;
    let damaged = |problem| EngineError::DamagedImage {
        path: path.clone(),
        problem,
    };
    let streams: Vec<String> =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if !fits(&streams) {
        return Err(damaged(format!(
            "it lists {} descriptors; a container has {STREAMS} standard streams",
            streams.len()
        )));
    }
    Ok(streams)
}

/// Whether a list names no more than the standard streams.
pub(super) const fn fits(streams: &[String]) -> bool {
    streams.len() <= STREAMS
}

#[cfg(test)]
mod tests;
