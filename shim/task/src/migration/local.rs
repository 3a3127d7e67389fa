//! Checkpoint and restore on this node alone: `ctr task checkpoint`, `ctr run` with a
//! checkpoint, CRI's CheckpointContainer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mycedrive_engine::{Checkpoint, Connections, Purpose, Release};
use tracing::debug;

use super::choice::choose_for_image;
use super::target;
use crate::container::{Container, Launch, RestorePlan};
use crate::error::Result;
use crate::pod::Pod;

/// A checkpoint that containerd asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// Directory for the images.
    pub path: PathBuf,
    /// Directory for the engine's log, which then stays.
    pub work: Option<PathBuf>,
    /// Whether the container ends.
    pub exit: bool,
}

/// Takes a checkpoint. The caller holds `init.op`.
pub async fn checkpoint(container: &Arc<Container>, request: &CheckpointRequest) -> Result<()> {
    let work_dir = request
        .work
        .clone()
        .unwrap_or_else(|| container.bundle.join("checkpoint-work"));
    container
        .engine()?
        .checkpoint(Checkpoint {
            target: target(container),
            pid: container.init.pid(),
            image_dir: request.path.clone(),
            work_dir: work_dir.clone(),
            purpose: Purpose::Local { exit: request.exit },
            connections: Connections::Keep,
        })
        .await?;
    if request.work.is_none() {
        remove(&work_dir);
    }
    Ok(())
}

/// Makes a container's processes from a checkpoint and lets them run. Its root file system is
/// mounted. The caller holds `init.op`.
pub async fn restore(pod: &Arc<Pod>, container: &Arc<Container>, image: &Path) -> Result<()> {
    choose_for_image(pod, container, image).await?;
    let engine = container.engine()?;
    let work = container.bundle.join("restore-work");
    container
        .launch(Launch::Restore(RestorePlan {
            engine: &*engine,
            image: image.to_owned(),
            work: work.clone(),
            release: Release::Running,
            purpose: Purpose::Local { exit: true },
            connections: Connections::Keep,
        }))
        .await?;
    remove(&work);
    Ok(())
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        debug!(%error, directory = %directory.display(), "a directory stays");
    }
}
