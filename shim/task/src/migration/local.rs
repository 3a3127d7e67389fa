//! Checkpoint and restore on this node alone: `ctr task checkpoint`, `ctr run` with a
//! checkpoint, CRI's CheckpointContainer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mycedrive_engine::{Checkpoint, Connections, Purpose, Release};
use tracing::debug;

use super::target;
use crate::container::{Container, Launch, RestorePlan};
use crate::error::Result;
use crate::pod::Pod;
use crate::spec::Spec;

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

/// Changes the spec of a container that is about to be created, so that the engine can
/// checkpoint it later.
pub fn prepare(pod: &Pod, container: &Container, spec: &mut Spec) -> Result<()> {
    let engine = &pod.migration.engine;
    Ok(engine.prepare(&target(container), spec.json_mut())?)
}

/// Takes a checkpoint. The caller holds `init.op`.
pub async fn checkpoint(
    pod: &Arc<Pod>,
    container: &Arc<Container>,
    request: &CheckpointRequest,
) -> Result<()> {
    let work_dir = request
        .work
        .clone()
        .unwrap_or_else(|| container.bundle.join("checkpoint-work"));
    pod.migration
        .engine
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
    let work = container.bundle.join("restore-work");
    container
        .launch(Launch::Restore(RestorePlan {
            engine: &*pod.migration.engine,
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
