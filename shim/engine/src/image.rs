//! A checkpoint directory: flat files, and one manifest of ours that says what they are. DMTCP's
//! files are in a folder, to which a list of its own holds; the manifest holds to that list.
//!
//! `ctr`, CRI and `CreateTask` hand such a directory around as files in a tar, an OCI layer or a
//! path. Whoever restores it may not be who made it: [`check`] compares it with this node and
//! with the container that it is for, before anything is made of it, and the first thing that
//! does not fit is named.

mod files;
mod manifest;
mod misfit;

use std::collections::BTreeMap;
use std::path::Path;

pub use manifest::{ContainerEntry, FileEntry, MANIFEST, Manifest};
pub use misfit::Misfit;

use crate::{Capabilities, EngineError, EngineKind, cpu, dmtcp};

/// What a checkpoint is to be restored into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// The engine that would restore it.
    pub engine: Capabilities,
    /// Whether the container has a terminal.
    pub terminal: bool,
}

/// The folder that an engine has in a checkpoint directory.
const fn folder(engine: EngineKind) -> Option<&'static str> {
    match engine {
        EngineKind::Criu => None,
        EngineKind::Dmtcp => Some(dmtcp::FOLDER),
    }
}

/// Makes room for a checkpoint: takes away what an earlier one left in the directory, by its
/// manifest. Anything else that is there stays, and is an error.
pub fn clear(directory: &Path) -> Result<(), EngineError> {
    if !directory.exists() {
        return Ok(());
    }
    let failed = |misfit| EngineError::misfit(directory, misfit);
    if let Some(old) = manifest::read(directory).map_err(failed)? {
        for file in &old.files {
            files::remove(directory, &file.name).map_err(failed)?;
        }
        if old.engine == EngineKind::Dmtcp.name() {
            files::remove_folder(directory, dmtcp::FOLDER).map_err(failed)?;
        }
        files::remove(directory, MANIFEST).map_err(failed)?;
    }
    match files::list(directory, None).map_err(failed)?.first() {
        None => Ok(()),
        Some(other) => Err(failed(Misfit::NotEmpty {
            name: other.clone(),
        })),
    }
}

/// Writes the manifest of a directory that an engine has just filled. The program may stand still
/// until it is written: what the engine has read once is not read again.
pub fn seal(
    directory: &Path,
    engine: &Capabilities,
    containers: Vec<ContainerEntry>,
) -> Result<Manifest, EngineError> {
    let failed = |misfit| EngineError::misfit(directory, misfit);
    let mut entries = Vec::new();
    let mut known = match engine.kind {
        EngineKind::Dmtcp => dmtcp::described(directory)?,
        EngineKind::Criu => BTreeMap::new(),
    };
    for name in files::list(directory, folder(engine.kind)).map_err(failed)? {
        entries.push(match known.remove(&name) {
            Some(entry) => entry,
            None => files::describe(directory, &name).map_err(failed)?,
        });
    }
    let manifest = Manifest {
        format: manifest::FORMAT,
        engine: engine.kind.name().to_owned(),
        engine_version: engine.version.clone(),
        architecture: std::env::consts::ARCH.to_owned(),
        kernel: cpu::kernel(),
        cpu_features: cpu::features(),
        containers,
        files: entries,
    };
    manifest::write(directory, &manifest)?;
    Ok(manifest)
}

/// Whether a checkpoint can be restored here. `None`: another program made it, and only what can
/// be seen of its files was checked.
pub fn check(directory: &Path, here: &Here) -> Result<Option<Manifest>, EngineError> {
    let failed = |misfit| EngineError::misfit(directory, misfit);
    let kind = here.engine.kind;
    let found = files::list(directory, folder(kind)).map_err(failed)?;
    let Some(manifest) = manifest::read(directory).map_err(failed)? else {
        let criu = found.iter().any(|name| name == "inventory.img");
        if kind == EngineKind::Criu && !criu {
            return Err(failed(Misfit::NoCheckpoint));
        }
        return Ok(None);
    };
    manifest.fits(here).map_err(failed)?;
    for name in &found {
        let listed = manifest.files.iter().any(|file| file.name == *name);
        if !listed && name != MANIFEST {
            return Err(failed(Misfit::Unlisted { name: name.clone() }));
        }
    }
    for file in &manifest.files {
        files::compare(directory, file).map_err(failed)?;
    }
    Ok(Some(manifest))
}

#[cfg(test)]
mod tests;
