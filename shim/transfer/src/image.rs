//! Image files of engines, sent while these still write them.

mod early;
mod pages;
mod receiver;
mod rounds;
mod sender;
mod set;
pub(crate) mod shared;

pub use receiver::{ReceivedImages, receive_images, receive_images_over};
pub use sender::{ImagesSummary, send_images};
pub use set::ImageSet;

/// Unit of CRIU's page files; blocks of zeros of this size are left out.
pub(crate) const PAGE: usize = 4096;

/// Deepest image path: container folder and file, with room for one more level.
pub(crate) const MAX_DEPTH: usize = 4;

/// Announces a set of image files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesBegin {
    /// Which set.
    pub set: ImageSet,
}

/// How many directories lie above the file.
fn depth(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').count() - 1
}
