//! Puts MyceDrive on a node, with the installer that real nodes and node images get it from.

use std::path::Path;
use std::process::Command;

use crate::host::INSTALLER;
use crate::run::capture;
use crate::{Error, Result};

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
    capture(&mut command)?.ok().map(drop)
}
