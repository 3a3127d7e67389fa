//! Start: of a container's init, of an exec, of a container that waits for its migration.

use std::sync::Arc;

use containerd_shim::api::{StartRequest, StartResponse};
use containerd_shim::protos::events::task::{TaskExecStarted, TaskStart};
use mycedrive_handover::away::Away;
use mycedrive_volume::attach::Want;
use tracing::info;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::migration::{self, Arrival};
use crate::pod::Pod;
use crate::state::{Exit, State, Step};
use crate::volumes;

/// Start.
pub async fn start(pod: &Arc<Pod>, req: &StartRequest) -> Result<StartResponse> {
    let container = pod.container(&req.id)?;
    let pid = if !req.exec_id.is_empty() {
        start_exec(pod, &container, &req.exec_id).await?
    } else if container.init.state() == State::Waiting {
        start_waiting(pod, &container).await?
    } else {
        start_init(pod, &container).await?
    };
    Ok(StartResponse {
        pid,
        ..StartResponse::default()
    })
}

async fn start_exec(pod: &Pod, container: &Arc<Container>, exec_id: &str) -> Result<u32> {
    let exec = container.exec(exec_id)?;
    let _op = exec.op.lock().await;
    if let State::Exited(_) | State::Deleted = container.init.state() {
        return Err(Error::Precondition(format!(
            "cannot start {}: the container's init process is not running",
            exec.name
        )));
    }
    exec.allows(Step::Run)?;
    super::exec::refuse_when_away(pod, container)?;
    let pid = match container.launch_exec(&exec).await {
        Ok(pid) => pid as u32,
        Err(error) => {
            exec.start_failed();
            return Err(error);
        }
    };
    pod.events.send(TaskExecStarted {
        container_id: container.id.clone(),
        exec_id: exec_id.to_owned(),
        pid,
        ..TaskExecStarted::default()
    });
    Ok(pid)
}

async fn start_init(pod: &Arc<Pod>, container: &Arc<Container>) -> Result<u32> {
    let _op = container.init.op.lock().await;
    container.init.allows(Step::Run)?;
    if !container.is_sandbox
        && let Some(away) = migration::away(pod)
    {
        migration::hold_created(container).await?;
        return start_away(pod, container, &away);
    }
    if let Some(image) = &container.restore_from {
        migration::restore(pod, container, image).await?;
        container.init.step(Step::Run)?;
        container.watch_oom();
        announce(pod, container);
        return Ok(container.reported_pid());
    }
    run(pod, container).await
}

/// `runc start` of a made container. The caller holds `init.op`.
///
/// A freeze that begins after the check finds the container created and fails; one that began
/// before is seen by the check. So nothing starts beside frozen processes.
async fn run(pod: &Pod, container: &Arc<Container>) -> Result<u32> {
    migration::refuse_when_frozen(pod, container)?;
    container.runc.run(["start", container.id.as_str()]).await?;
    container.init.step(Step::Run)?;
    container.watch_oom();
    container.follow_start();
    announce(pod, container);
    Ok(container.reported_pid())
}

fn announce(pod: &Pod, container: &Container) {
    pod.events.send(TaskStart {
        container_id: container.id.clone(),
        pid: container.reported_pid(),
        ..TaskStart::default()
    });
}

/// Makes a container that waited, and runs it.
async fn launch(pod: &Pod, container: &Arc<Container>) -> Result<u32> {
    let _op = container.init.op.lock().await;
    container.init.allows(Step::Run)?;
    container.mount_rootfs()?;
    if !container.in_runc() {
        volumes::attach(pod, container, Want::Stack).await?;
        migration::choose(pod, container).await?;
        container.make_init().await?;
    }
    run(pod, container).await
}

/// The pod does not run here any more: a held container is reported as started, and runs
/// nothing; one of a parked pod cannot start.
fn start_away(pod: &Pod, container: &Container, away: &Away) -> Result<u32> {
    match away {
        Away::Moved { destination, .. } => {
            info!(id = %container.id, destination, "started as held");
            announce(pod, container);
            Ok(container.reported_pid())
        }
        Away::Parked { .. } => Err(Error::Precondition(format!(
            "container {} cannot start: {away}",
            container.id
        ))),
    }
}

/// Asks the migration what became of the container. `init.op` is free meanwhile, so that the
/// migration can make the container, and Kill and State are answered.
async fn start_waiting(pod: &Arc<Pod>, container: &Arc<Container>) -> Result<u32> {
    let _start = container.start.lock().await;
    if let Some(away) = migration::away(pod) {
        if matches!(away, Away::Moved { .. }) {
            container.init.step(Step::Hold)?;
        }
        return start_away(pod, container, &away);
    }
    migration::refuse_when_frozen(pod, container)?;
    if !migration::is_destination(pod, &container.spec) {
        // Created while the pod was frozen; it stayed here.
        return launch(pod, container).await;
    }
    let killed = || {
        Error::Precondition(format!(
            "container {}: it was killed while it waited for its migration",
            container.id
        ))
    };
    let arrival = tokio::select! {
        arrival = migration::arrive(pod, container) => arrival?,
        _ = container.init.wait() => return Err(killed()),
    };
    info!(id = %container.id, ?arrival, "arrived");
    match arrival {
        Arrival::Ordinary => launch(pod, container).await,
        Arrival::Running | Arrival::Waiting => {
            if matches!(container.init.state(), State::Exited(_) | State::Deleted) {
                return Err(killed());
            }
            announce(pod, container);
            Ok(container.reported_pid())
        }
        Arrival::Exited(code) => {
            announce(pod, container);
            let pid = container.reported_pid();
            container.end(Exit::now(code));
            Ok(pid)
        }
        Arrival::Retry(text) => Err(Error::Unavailable(text)),
        Arrival::Refused(text) => Err(Error::Precondition(text)),
    }
}
