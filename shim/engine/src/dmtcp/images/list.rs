//! The list that makes a directory of images complete.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{damaged, flat};
use crate::EngineError;
use crate::image::FileEntry;

/// Its name.
pub(super) const LIST: &str = "mycedrive-dmtcp.json";
/// Most files, and longest list, in bytes.
const MOST: usize = 4096;
const LONGEST: u64 = 1 << 20;

/// The list of a complete image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct List {
    /// DMTCP's version.
    pub version: String,
    /// Processes of the whole computation: `dmtcp_restart` waits for all of them.
    pub peers: u32,
    /// The files.
    pub images: Vec<Image>,
    /// BLAKE3, in hexadecimal, of the file with the pod's sockets. One container's image has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Image {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3, in hexadecimal.
    pub digest: String,
}

/// Reads the list of a directory.
pub(super) fn read(directory: &Path) -> Result<List, EngineError> {
    let path = directory.join(LIST);
    let size = path
        .metadata()
        .map_err(EngineError::io("read", &path))?
        .size();
    if size > LONGEST {
        return Err(damaged(&path, format!("it is {size} bytes long")));
    }
    let text = fs::read(&path).map_err(EngineError::io("read", &path))?;
    let list: List =
        serde_json::from_slice(&text).map_err(|error| damaged(&path, error.to_string()))?;
    if list.images.is_empty() || list.images.len() > MOST {
        return Err(damaged(
            &path,
            format!("it names {} files", list.images.len()),
        ));
    }
    Ok(list)
}

/// The files of a directory that [`super::complete`] has just filled, by their names in it.
pub(crate) fn described(directory: &Path) -> Result<BTreeMap<String, FileEntry>, EngineError> {
    let entries = read(directory)?.images.into_iter().map(|image| {
        let name = flat(&image.name);
        let entry = FileEntry {
            name: name.clone(),
            bytes: image.size,
            blake3: image.digest,
        };
        (name, entry)
    });
    Ok(entries.collect())
}
