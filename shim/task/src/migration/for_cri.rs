//! What CRIU says of a checkpoint, for kubelet's archive.
//!
//! CRI puts `stats-dump` and `dump.log` into the archive (`checkpointctl` reads them) out of a directory of
//! its own, and tells only runc's own shim, as the work path, which one that is. containerd 2.1 does without
//! the files; later versions fail if the first one is missing.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::spec::{Spec, annotation};

/// Which files CRI takes.
const FILES: [&str; 2] = ["stats-dump", "dump.log"];
/// Files of the sandbox that CRI mounts into each container.
const OF_SANDBOX: [&str; 2] = ["hostname", "resolv.conf"];
/// In the container's directory, as long as the call takes: becomes the archive. containerd 2.1 has it
/// before the shim is asked, and the files are to be there; later versions copy them from the directory.
const ARCHIVE: &str = "ctrd-checkpoint";

/// Where CRI looks: `ROOT/containers/ID`, or a folder in it. It stands beside `ROOT/sandboxes/SANDBOX`, out of
/// which CRI mounts files. None for containers that CRI did not make.
pub fn directory(spec: &Spec, id: &str) -> Option<PathBuf> {
    let sandbox = spec.annotation(annotation::SANDBOX_ID)?;
    let mounts = spec.json().get("mounts").and_then(Value::as_array)?;
    let root = mounts.iter().find_map(|mount| {
        let source = Path::new(mount.get("source")?.as_str()?);
        let name = source.file_name()?.to_str()?;
        let own = source.parent()?;
        let all = own.parent()?;
        (OF_SANDBOX.contains(&name) && own.ends_with(sandbox) && all.ends_with("sandboxes"))
            .then(|| all.parent())?
    })?;
    let directory = root.join("containers").join(id);
    let archive = directory.join(ARCHIVE);
    let found = if archive.is_dir() { archive } else { directory };
    found.is_dir().then_some(found)
}

/// Puts the files from `work` into `directory`, in place of those of an earlier checkpoint. Readable by
/// root alone.
pub fn leave(work: &Path, directory: &Path) -> Result<()> {
    for name in FILES {
        let target = directory.join(name);
        match fs::remove_file(&target) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::path("remove", &target)(error));
            }
            _ => {}
        }
        let content = match fs::read(work.join(name)) {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::path("read", &work.join(name))(error)),
        };
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target)
            .and_then(|mut file| file.write_all(&content))
            .map_err(Error::path("write", &target))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "for_cri_tests.rs"]
mod tests;
