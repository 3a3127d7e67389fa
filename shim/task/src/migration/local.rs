//! Checkpoint and restore on this node alone: `ctr task checkpoint`, `ctr run` with a
//! checkpoint, CRI's CheckpointContainer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mycedrive_engine::image::{self, ContainerEntry, Here};
use mycedrive_engine::{Checkpoint, Connections, EngineKind, Purpose, Release};
use tracing::{debug, warn};

use super::choice::choose_for_image;
use super::{blocking, for_cri, target};
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
///
/// With `exit` the container ends before the manifest is written. Should that fail, the images
/// are whole and can be restored as those of another program.
pub async fn checkpoint(container: &Arc<Container>, request: &CheckpointRequest) -> Result<()> {
    let engine = container.engine()?;
    let capabilities = engine.capabilities().await?;
    let directory = request.path.clone();
    blocking(move || Ok(image::clear(&directory)?)).await?;
    let work_dir = request
        .work
        .clone()
        .unwrap_or_else(|| container.bundle.join("checkpoint-work"));
    engine
        .checkpoint(Checkpoint {
            target: target(container),
            pid: container.init.pid(),
            image_dir: request.path.clone(),
            work_dir: work_dir.clone(),
            purpose: Purpose::Local { exit: request.exit },
            connections: Connections::Keep,
            pod: Vec::new(),
        })
        .await?;
    if request.work.is_none() {
        if let Some(directory) = for_cri::directory(&container.spec, &container.id)
            && let Err(error) = for_cri::leave(&work_dir, &directory)
        {
            warn!(%error, "the checkpoint's statistics and log are not kept");
        }
        remove(&work_dir);
    }
    let contents = vec![ContainerEntry {
        name: container.name.clone(),
        image: container.image_name().to_owned(),
        terminal: container.init.stdio.terminal,
    }];
    let directory = request.path.clone();
    blocking(move || Ok(image::seal(&directory, &capabilities, contents)?)).await?;
    Ok(())
}

/// Whether a checkpoint can be restored into a container that is about to be created.
pub async fn check(pod: &Pod, directory: &Path, terminal: bool) -> Result<()> {
    let kind = EngineKind::of_image(directory);
    let engine = pod.migration.engine(kind).capabilities().await?;
    let directory = directory.to_owned();
    blocking(move || {
        if image::check(&directory, &Here { engine, terminal })?.is_none() {
            let directory = directory.display();
            warn!(%directory, "a checkpoint of another program: its origin is not known");
        }
        Ok(())
    })
    .await
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
            ends: None,
            ipc_is_there: false,
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
