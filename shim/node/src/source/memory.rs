//! Memory that goes in rounds, before the freeze.

use mycedrive_engine::EngineKind;
use mycedrive_proto::shim::ContainerState;
use mycedrive_transfer::{Form, ImageFiles, MemoryProcess};

use super::migration::{Migration, lock};
use super::subject::{Place, Subject};
use crate::app::Shared;
use crate::error::Result;
use crate::image_files;
use crate::shims::app_containers;

/// What a round of memory reads.
#[derive(Debug, Default)]
pub struct Memory {
    /// The processes of the containers that the destination was authorised for. Of a pod that is
    /// parked there are none.
    pub processes: Vec<MemoryProcess>,
    /// Files that the destination has as well.
    pub files: ImageFiles,
}

/// The memory of the pod. The destination has the images of the containers in `images`.
pub async fn of(app: &Shared, migration: &Migration, images: &[String]) -> Result<Memory> {
    let subject = Subject::of(app, migration).await?;
    if matches!(subject.place, Place::Parked(_)) {
        return Ok(Memory::default());
    }
    let authorised = lock(&migration.authorised).clone();
    let mut processes = Vec::new();
    for (name, container) in app_containers(&subject.pod) {
        let running =
            container.state.enum_value_or_default() == ContainerState::CONTAINER_STATE_RUNNING;
        let form = match &container.engine {
            engine if engine == EngineKind::Criu.name() => Form::Criu,
            engine if engine == EngineKind::Dmtcp.name() => Form::Pages,
            _ => continue,
        };
        if !running || !authorised.contains(name) {
            continue;
        }
        match MemoryProcess::of_container(name, container.pid, form) {
            Ok(found) => processes.extend(found),
            // The container has just ended. That shows elsewhere.
            Err(error) => tracing::debug!(container = name, %error, "no memory to send"),
        }
    }
    let with_images = app_containers(&subject.pod)
        .into_iter()
        .filter(|(name, _)| images.iter().any(|image| image == name))
        .map(|(_, container)| container);
    Ok(Memory {
        processes,
        files: image_files::of(with_images),
    })
}
