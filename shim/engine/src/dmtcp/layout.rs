//! Where things are: inside a container whose program runs under DMTCP, and on the host.
//!
//! The paths inside are the same on every node, because they are part of the images.

use std::path::{Path, PathBuf};

/// A private tmpfs; all the rest is mounted below it.
pub(super) const ROOT: &str = "/.mycedrive";
/// Our init.
pub(super) const INIT: &str = "/.mycedrive/init";
/// DMTCP's prefix.
pub(super) const DMTCP: &str = "/.mycedrive/dmtcp";
/// Libraries that the image lacks, and our plugin.
pub(super) const LIBRARIES: &str = "/.mycedrive/lib";
/// Our plugin.
pub(super) const PLUGIN: &str = "/.mycedrive/lib/libmycedrive_dmtcp.so";
/// What the shim tells the container: see [`Folder::environment`].
pub(super) const RUN: &str = "/.mycedrive/run";
/// [`Folder::environment`], inside.
pub(super) const ENVIRONMENT: &str = "/.mycedrive/run/environment";
/// Where DMTCP writes images, and reads them.
pub(super) const IMAGES: &str = "/.mycedrive/ckpt";
/// The images that a container comes out of, while it does.
pub(super) const RESTART: &str = "/.mycedrive/restart";
/// DMTCP's own files: a tmpfs.
pub(super) const TEMPORARY: &str = "/.mycedrive/tmp";

/// A container's files on the host: `dmtcp` in its bundle.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Of the container with this bundle.
    pub(super) fn of(bundle: &Path) -> Self {
        Self(bundle.join("dmtcp"))
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Mounted at [`RUN`].
    pub(super) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// `NAME=VALUE` lines that our init adds to the program's environment: where the coordinator
    /// listens is known only when the container exists.
    pub(super) fn environment(&self) -> PathBuf {
        self.run().join("environment")
    }

    /// Where the plugin finds the pod's helper (`mycedrive_dmtcp_wire::HELPER_PATH`, inside).
    pub(super) fn helper(&self) -> PathBuf {
        self.run().join("helper.sock")
    }

    /// Mounted at [`IMAGES`] while there is no checkpoint: empty.
    pub(super) fn images(&self) -> PathBuf {
        self.0.join("images")
    }
}
