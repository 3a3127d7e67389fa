//! Checkpoint: to a directory, for `ctr task checkpoint` and CRI.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_shim::api::CheckpointTaskRequest;
use containerd_shim::protos::events::task::TaskCheckpointed;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::shim::oci::CheckpointOptions;

use mycedrive_engine::image::MANIFEST;

use crate::error::{Error, Result};
use crate::migration::{self, CheckpointRequest};
use crate::pod::Pod;
use crate::state::State;

/// Checkpoint.
pub async fn checkpoint(pod: &Arc<Pod>, req: &CheckpointTaskRequest) -> Result<()> {
    let container = pod.container(&req.id)?;
    let request = decode(req)?;
    let _op = container.init.op.lock().await;
    let state = container.init.state();
    if !matches!(state, State::Running | State::Paused) {
        return Err(Error::State(format!(
            "cannot checkpoint container {}: it is {}",
            req.id,
            state.name()
        )));
    }
    migration::checkpoint(&container, &request).await?;
    note(req, &request.path)?;
    pod.events.send(TaskCheckpointed {
        container_id: req.id.clone(),
        checkpoint: request.path.display().to_string(),
        ..TaskCheckpointed::default()
    });
    Ok(())
}

/// containerd 1.7 makes an image of the folder that it gave, beside the caller's directory. It gets what the
/// checkpoint says of itself: a restore from it names what is missing, and no two such images are alike, which
/// containerd does not take.
fn note(req: &CheckpointTaskRequest, made: &Path) -> Result<()> {
    if req.path.is_empty() || Path::new(&req.path) == made {
        return Ok(());
    }
    let note = Path::new(&req.path).join(MANIFEST);
    std::fs::copy(made.join(MANIFEST), &note)
        .map(drop)
        .map_err(Error::path("copy the manifest to", &note))
}

/// CRI sends no options; `ctr` sends runc's for every runtime.
fn decode(req: &CheckpointTaskRequest) -> Result<CheckpointRequest> {
    let options = match req.options.as_ref() {
        Some(any)
            if any
                .type_url
                .ends_with("containerd.runc.v1.CheckpointOptions") =>
        {
            CheckpointOptions::parse_from_bytes(&any.value)
                .map_err(|error| Error::decode("the checkpoint options", error))?
        }
        _ => CheckpointOptions::default(),
    };
    // What the caller asked for comes first: containerd 1.7 gives shims that are not runc's own a folder of
    // its own as the path, beside options that name the caller's.
    let path = if options.image_path.is_empty() {
        &req.path
    } else {
        &options.image_path
    };
    if path.is_empty() {
        return Err(Error::Invalid("checkpoint: no path given".to_owned()));
    }
    Ok(CheckpointRequest {
        path: PathBuf::from(path),
        work: (!options.work_path.is_empty()).then(|| PathBuf::from(&options.work_path)),
        exit: options.exit,
    })
}

#[cfg(test)]
mod tests;
