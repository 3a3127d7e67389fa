//! The files of containers' images on this node: what both nodes have of a pod before it moves.

use std::path::PathBuf;

use mycedrive_proto::shim::Container;
use mycedrive_transfer::ImageFiles;

/// Those of these containers. One whose layers are not known or not there has none.
pub fn of<'a>(containers: impl IntoIterator<Item = &'a Container>) -> ImageFiles {
    let mut all = ImageFiles::default();
    for container in containers {
        let layers: Vec<PathBuf> = container.rootfs_lowers.iter().map(PathBuf::from).collect();
        if let Err(error) = all.add(&container.name, &layers) {
            tracing::debug!(container = container.name, %error, "its image is not used");
        }
    }
    all
}
