//! Puts MyceDrive on a node, with the installer that real nodes and node images get it from.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::host::INSTALLER;
use crate::run::capture;
use crate::{Error, Result};

/// Library that lets CRIU dump processes which do not run as root on machines without CAP_SYS_RESOURCE.
const LIBRARY: &str = "libmycedrive_prlimit.so";
/// Where nodes of the testbed have it. Without it, the shim refuses such processes.
pub(crate) const PRELOAD: &str = "/usr/local/lib/libmycedrive_prlimit.so";

/// Installs what `programs` holds into the tree `root`, or brings it up to date.
pub(crate) fn into(root: &Path, programs: &Path) -> Result<()> {
    let installer = programs.join(INSTALLER);
    if !installer.is_file() {
        return Err(Error::Unknown {
            kind: "program",
            name: installer.display().to_string(),
            hint: "build it with `cargo build -p mycedrive-installer`".to_owned(),
        });
    }
    let mut command = Command::new(&installer);
    command.arg("install").arg("--root").arg(root);
    command.arg("--from").arg(programs);
    capture(&mut command)?.ok()?;
    preload(root, &programs.join(LIBRARY))
}

/// Processes that have the old one loaded are not disturbed.
fn preload(root: &Path, library: &Path) -> Result<()> {
    if !library.is_file() {
        return Ok(());
    }
    let target = root.join(PRELOAD.trim_start_matches('/'));
    let partial = target.with_extension("new");
    if let Some(dir) = target.parent() {
        fs::create_dir_all(dir).map_err(Error::file("make", dir))?;
    }
    fs::copy(library, &partial).map_err(Error::file("copy to", &partial))?;
    fs::rename(&partial, &target).map_err(Error::file("rename", &partial))
}
