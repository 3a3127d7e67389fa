//! Delete: removes an ended container or exec.

use std::fs;
use std::sync::Arc;

use containerd_shim::api::{DeleteRequest, DeleteResponse};
use containerd_shim::protos::events::task::TaskDelete;
use tracing::warn;

use crate::container::Container;
use crate::error::Result;
use crate::events::timestamp;
use crate::migration;
use crate::pod::{Ended, Pod};
use crate::state::{Exit, State, Step};
use crate::volumes::{self, After};

/// Delete.
pub async fn delete(pod: &Arc<Pod>, req: &DeleteRequest) -> Result<DeleteResponse> {
    let container = pod.container(&req.id)?;
    if req.exec_id.is_empty() {
        delete_init(pod, &container).await
    } else {
        delete_exec(&container, &req.exec_id).await
    }
}

fn response(pid: u32, exit: Option<Exit>) -> DeleteResponse {
    DeleteResponse {
        pid,
        exit_status: exit.map_or(0, |exit| exit.code),
        exited_at: exit.map(|exit| timestamp(exit.at)).into(),
        ..DeleteResponse::default()
    }
}

async fn delete_init(pod: &Arc<Pod>, container: &Arc<Container>) -> Result<DeleteResponse> {
    let _op = container.init.op.lock().await;
    container.init.allows(Step::Delete)?;
    let pid = container.reported_pid();
    let unused = container.init.state() == State::Created;
    container.forget_restore().await;
    let streams = container.init.take_streams();
    let drained = async {
        if let Some(streams) = streams {
            streams.drain().await;
        }
    };
    let (deleted, ()) = tokio::join!(container.delete_from_runc(), drained);
    deleted?;
    // The kernel writes the layer to its disk first. A Kill meanwhile is answered: containerd sends
    // one when the grace period ends, and gives it up with an error when this has returned.
    let unmounting = container.clone();
    migration::blocking(move || unmounting.unmount_rootfs()).await?;
    volumes::detach(pod, container, After::End).await;
    if unused {
        container.report_unused(pid).await;
    }
    container.init.step(Step::Delete)?;
    let exit = container.init.exit();
    container.init.removed(Exit::now(0));
    pod.remove(&container.id);
    if let Some(exit) = exit.filter(|_| !container.is_sandbox) {
        pod.remember(Ended {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image_name().to_owned(),
            spec: container.spec.clone(),
            exit_code: exit.code,
        });
    }
    migration::leave(pod, container, container.is_sandbox || pod.is_empty());
    pod.events.send(TaskDelete {
        container_id: container.id.clone(),
        pid,
        exit_status: exit.map_or(0, |exit| exit.code),
        exited_at: exit.map(|exit| timestamp(exit.at)).into(),
        ..TaskDelete::default()
    });
    Ok(response(pid, exit))
}

async fn delete_exec(container: &Container, exec_id: &str) -> Result<DeleteResponse> {
    let exec = container.exec(exec_id)?;
    let _op = exec.op.lock().await;
    exec.step(Step::Delete)?;
    if let Some(streams) = exec.take_streams() {
        streams.drain().await;
    }
    let exit = exec.exit();
    exec.removed(Exit::now(0));
    container.remove_exec(exec_id);
    let (process, _) = container.exec_files(exec_id);
    if let Err(error) = fs::remove_file(&process)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(%error, file = %process.display(), "a file stays");
    }
    Ok(response(exec.pid() as u32, exit))
}
