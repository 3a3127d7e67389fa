//! Checkpoint: to a directory, for `ctr task checkpoint` and CRI.

use std::path::PathBuf;
use std::sync::Arc;

use containerd_shim::api::CheckpointTaskRequest;
use containerd_shim::protos::events::task::TaskCheckpointed;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::shim::oci::CheckpointOptions;

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
    pod.events.send(TaskCheckpointed {
        container_id: req.id.clone(),
        checkpoint: request.path.display().to_string(),
        ..TaskCheckpointed::default()
    });
    Ok(())
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
    let path = if req.path.is_empty() {
        &options.image_path
    } else {
        &req.path
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
