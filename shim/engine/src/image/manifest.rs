//! The manifest of a checkpoint directory.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Here, Misfit, files};
use crate::{EngineError, cpu, spec};

/// Its name in the directory.
pub const MANIFEST: &str = "mycedrive-checkpoint.json";
/// The version that this program writes and reads.
pub(super) const FORMAT: u32 = 1;
/// Largest manifest that is read, in bytes.
const LARGEST: u64 = 4 << 20;
/// Most files in a checkpoint: a process has about ten.
const MOST_FILES: usize = 100_000;

/// What a checkpoint directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Name of the engine that made the images.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// Kernel release of the node that made it.
    pub kernel: String,
    /// What its CPU could do, as far as programs choose instructions by it.
    pub cpu_features: Vec<String>,
    /// The containers in it.
    pub containers: Vec<ContainerEntry>,
    /// The files beside the manifest.
    pub files: Vec<FileEntry>,
}

/// A container of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerEntry {
    /// Kubernetes' name, or the id.
    pub name: String,
    /// Name of its image; empty where nobody told.
    pub image: String,
    /// Whether its first process has a terminal.
    pub terminal: bool,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name, without a directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content, hex.
    pub blake3: String,
}

impl Manifest {
    /// Compares what was there with what is here.
    pub(super) fn fits(&self, here: &Here) -> Result<(), Misfit> {
        let engine = here.engine.kind.name();
        if self.engine != engine {
            return Err(Misfit::Engine {
                made_by: self.engine.clone(),
                here: engine,
            });
        }
        if self.architecture != std::env::consts::ARCH {
            return Err(Misfit::Architecture {
                made_on: self.architecture.clone(),
                here: std::env::consts::ARCH,
            });
        }
        if numbers(&self.engine_version) > numbers(&here.engine.version) {
            return Err(Misfit::EngineVersion {
                engine,
                made_by: self.engine_version.clone(),
                here: here.engine.version.clone(),
            });
        }
        let ours: BTreeSet<String> = cpu::features().into_iter().collect();
        let missing: Vec<&str> = self
            .cpu_features
            .iter()
            .filter(|feature| !ours.contains(*feature))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            return Err(Misfit::Cpu {
                missing: missing.join(", "),
            });
        }
        let [container] = self.containers.as_slice() else {
            return Err(Misfit::Containers {
                count: self.containers.len(),
            });
        };
        if container.terminal != here.terminal {
            return Err(Misfit::Terminal {
                had: container.terminal,
            });
        }
        Ok(())
    }
}

/// The numbers of a version, for comparing.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse().ok())
        .collect()
}

/// Reads a directory's manifest. `None` where there is none.
pub(super) fn read(directory: &Path) -> Result<Option<Manifest>, Misfit> {
    let unreadable = |error: io::Error| Misfit::Unreadable {
        name: MANIFEST.to_owned(),
        problem: error.to_string(),
    };
    let path = directory.join(MANIFEST);
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if file.metadata().map_err(unreadable)?.len() > LARGEST {
        return Err(unreadable(io::Error::other(format!(
            "it is larger than {LARGEST} bytes"
        ))));
    }
    let mut text = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    decode(&text).map(Some)
}

/// A manifest from bytes that anybody may have written.
pub(super) fn decode(text: &[u8]) -> Result<Manifest, Misfit> {
    let unreadable = |problem: String| Misfit::Unreadable {
        name: MANIFEST.to_owned(),
        problem,
    };
    // The version first: another one may have other fields.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version =
        serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
    if version.format != FORMAT {
        return Err(Misfit::Format {
            found: version.format,
            known: FORMAT,
        });
    }
    let manifest: Manifest =
        serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
    if manifest.files.len() > MOST_FILES {
        return Err(unreadable(format!("it lists more than {MOST_FILES} files")));
    }
    let mut names = BTreeSet::new();
    for file in &manifest.files {
        files::plain(&file.name)?;
        if file.name == MANIFEST || !names.insert(file.name.as_str()) {
            return Err(unreadable(format!("it lists {:?} twice", file.name)));
        }
    }
    Ok(manifest)
}

/// Replaces a directory's manifest in one step.
pub(super) fn write(directory: &Path, manifest: &Manifest) -> Result<(), EngineError> {
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| EngineError::io("encode", directory)(io::Error::other(error)))?;
    spec::replace(&directory.join(MANIFEST), &text)
}
