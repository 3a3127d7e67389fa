//! The runtime handler in containerd's configuration, for plain containerd and
//! for the distributions that generate it.
//!
//! Sources: containerd's `docs/cri/config.md` and `docs/man/containerd-config.toml.5.md`
//! for versions 2 to 4, the k3s and RKE2 documentation for templates, the k0s
//! documentation for `/etc/k0s/containerd.d`. Behaviour that matters was tried
//! with containerd 1.6.20 and 2.1.9 (`containerd -c FILE config dump`):
//!
//! - 1.x replaces the whole `runtimes` map by what a file sets, so a file that
//!   only adds a handler loses the default `runc`; 2.x merges.
//! - 1.x replaces a plugin's whole section by that of an imported file; 2.x
//!   merges. A drop-in is therefore only safe where the main file has version
//!   3 or more, which 1.x refuses.

pub mod block;
mod distribution;
pub mod edit;
pub mod imports;
mod k0s;
mod plain;
mod rancher;
pub mod tree;

pub use distribution::{Distribution, detect};
pub(crate) use plain::read as read_text;

use crate::error::Result;
use crate::root::Root;
use crate::versions::Versions;

/// Name of the runtime handler in containerd and in the RuntimeClass.
pub const HANDLER: &str = "mycedrive";
/// containerd's name of the shim; it runs `containerd-shim-mycedrive-v2`.
pub const RUNTIME_TYPE: &str = "io.containerd.mycedrive.v2";
/// Pod annotations that containerd must pass on to the shim.
pub const POD_ANNOTATIONS: &str = "mycedrive.io/*";
/// File name of drop-ins.
pub const DROP_IN: &str = "mycedrive.toml";

/// What the handler's table says beyond the constants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handler {
    /// Path of the shim where containerd would not find it in its `PATH`.
    pub runtime_path: Option<String>,
}

/// A configuration file as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Path inside the root, symlinks already followed.
    pub path: String,
    /// Full text.
    pub text: String,
}

/// What to do to one distribution's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files to write.
    pub files: Vec<Wanted>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Works out the files for one distribution. Nothing is written.
pub fn plan(
    root: &Root,
    distribution: Distribution,
    handler: &Handler,
    version: Option<u32>,
    versions: Versions,
) -> Result<Plan> {
    match distribution {
        Distribution::Containerd => plain::plan(root, handler, version, versions),
        Distribution::K3s | Distribution::Rke2 => {
            rancher::plan(root, distribution, handler, version)
        }
        Distribution::K0s => k0s::plan(root, handler, version),
    }
}

/// Files that may hold the handler, for `status` and `doctor`.
pub fn candidates(root: &Root, distribution: Distribution) -> Vec<String> {
    let mut paths = match distribution {
        Distribution::Containerd => plain::files(root),
        Distribution::K3s | Distribution::Rke2 => rancher::files(distribution),
        Distribution::K0s => k0s::files(),
    };
    paths.retain(|path| root.is_file(path));
    paths
}

/// True if a file name ends in `.extension`.
pub fn has_extension(path: &str, extension: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, found)| found == extension)
}
