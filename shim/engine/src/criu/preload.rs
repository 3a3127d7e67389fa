//! A library that CRIU is to load when it dumps.
//!
//! Only for machines that withhold CAP_SYS_RESOURCE, such as those that testbeds run on: there CRIU
//! cannot read the resource limits of processes that do not run as root, and a library can read them
//! elsewhere. A node that has the capability needs none.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Names the library; set in the environment of containerd, from which the shim has its own.
const VARIABLE: &str = "MYCEDRIVE_CRIU_PRELOAD";

/// Whether there is one.
pub(super) fn is_set() -> bool {
    library().is_some()
}

/// Lets the OCI runtime hand the library to the CRIU that it runs.
pub(super) fn add(command: &mut Command) {
    if let Some(library) = library() {
        command.env("LD_PRELOAD", library);
    }
}

fn library() -> Option<PathBuf> {
    env::var_os(VARIABLE)
        .map(PathBuf::from)
        .filter(|library| library.is_file())
}
