//! Kill, Pause, Resume, Update and the terminal calls.

use std::sync::Arc;

use containerd_shim::api::{CloseIORequest, KillRequest, ResizePtyRequest, UpdateTaskRequest};
use containerd_shim::protos::events::task::{TaskPaused, TaskResumed};

use mycedrive_engine::freezer::{self, Freezer};
use tracing::warn;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::migration;
use crate::pod::Pod;
use crate::process::Process;
use crate::state::{Exit, State, Step};

/// Kill. Takes no lock: it must work while another call hangs.
pub async fn kill(pod: &Arc<Pod>, req: &KillRequest) -> Result<()> {
    let container = pod.container(&req.id)?;
    if !req.exec_id.is_empty() {
        return container.exec(&req.exec_id)?.signal(req.signal);
    }
    if container.is_sandbox && req.signal != 0 {
        migration::going(pod, &container).await;
    }
    let state = container.init.state();
    if matches!(state, State::Waiting | State::Held | State::Frozen)
        && migration::kill(pod, &container, req.signal).await?
    {
        return Ok(());
    }
    if migration::park::takes(pod, &container, req.signal) {
        return Ok(());
    }
    match container.init.state() {
        State::Waiting | State::Held => {
            // Nothing runs here: it ends as the signal would have ended it. 0 only asks.
            if req.signal != 0 {
                container.end(Exit::now(128 + req.signal));
                migration::leave(pod, &container, false);
            }
            Ok(())
        }
        // runc also reaches what has no pid namespace of its own. To it `all` means that it does not
        // matter whether the container runs; and in a shared pid namespace something of it may run on.
        State::Created | State::Running | State::Exited(_)
            if req.all || !container.spec.has_own_pid_namespace() =>
        {
            kill_by_runc(&container, req.signal, req.all).await
        }
        State::Exited(_) | State::Deleted => Err(Error::NotFound(format!(
            "container {}: process already finished",
            container.id
        ))),
        // runc thaws what it kills.
        State::Paused => kill_by_runc(&container, req.signal, req.all).await,
        State::Created | State::Running | State::Frozen => container.init.signal(req.signal),
    }
}

async fn kill_by_runc(container: &Container, signal: u32, all: bool) -> Result<()> {
    let signal = signal.to_string();
    let mut args = vec!["kill"];
    if all {
        args.push("--all");
    }
    args.extend([container.id.as_str(), signal.as_str()]);
    container.runc.run(args).await
}

/// Pause.
pub async fn pause(pod: &Pod, id: &str) -> Result<()> {
    let container = pod.container(id)?;
    let _op = container.init.op.lock().await;
    container.init.allows(Step::Pause)?;
    let (engine, target) = (container.engine().ok(), migration::target(&container));
    if let Some(engine) = &engine
        && let Err(error) = engine.before_pause(&target, container.init.pid()).await
    {
        warn!(container = id, %error, "a checkpoint during this pause will be of a later moment");
    }
    let frozen = freeze(&container).await;
    if frozen.is_err()
        && let Some(engine) = &engine
    {
        let undone = engine.after_pause(&target).await;
        undone.unwrap_or_else(|error| warn!(container = id, %error, "it may not go on"));
    }
    frozen?;
    container.init.step(Step::Pause)?;
    pod.events.send(TaskPaused {
        container_id: id.to_owned(),
        ..TaskPaused::default()
    });
    Ok(())
}

async fn freeze(container: &Container) -> Result<()> {
    let Err(error) = container.runc.run(["pause", &container.id]).await else {
        return Ok(());
    };
    // It gives up on a control group of version 1 while the machine is busy.
    let group = [Freezer::of_process(container.init.pid()).map_err(|_| error)?];
    migration::blocking(move || Ok(freezer::freeze_all(&group)?)).await
}

/// Resume.
pub async fn resume(pod: &Pod, id: &str) -> Result<()> {
    let container = pod.container(id)?;
    let _op = container.init.op.lock().await;
    container.init.allows(Step::Resume)?;
    container.runc.run(["resume", id]).await?;
    let went_on = match container.engine() {
        Ok(engine) => engine.after_pause(&migration::target(&container)).await,
        Err(_) => Ok(()),
    };
    // It is thawed whatever the engine says, and cannot be resumed a second time.
    container.init.step(Step::Resume)?;
    pod.events.send(TaskResumed {
        container_id: id.to_owned(),
        ..TaskResumed::default()
    });
    Ok(went_on?)
}

/// Update: new resource limits.
pub async fn update(pod: &Pod, req: &UpdateTaskRequest) -> Result<()> {
    let container = pod.container(&req.id)?;
    let _op = container.init.op.lock().await;
    match container.init.state() {
        // Nothing runs here that a limit could apply to.
        State::Held => return Ok(()),
        State::Waiting => {
            return Err(Error::Unavailable(format!(
                "cannot update container {}: it waits for its migration",
                req.id
            )));
        }
        State::Exited(_) | State::Deleted => {
            return Err(Error::State(format!(
                "cannot update container {}: it is stopped",
                req.id
            )));
        }
        State::Created | State::Running | State::Paused | State::Frozen => {}
    }
    // The value is OCI LinuxResources as JSON.
    let args = ["update", "--resources", "-", req.id.as_str()];
    container.runc.run_input(&args, &req.resources.value).await
}

/// Does something to init or, when it is named, to an exec.
fn with<T>(container: &Container, exec_id: &str, what: impl Fn(&Process) -> T) -> Result<T> {
    if exec_id.is_empty() {
        Ok(what(&container.init))
    } else {
        Ok(what(&*container.exec(exec_id)?))
    }
}

/// ResizePty.
pub fn resize(pod: &Pod, req: &ResizePtyRequest) -> Result<()> {
    let container = pod.container(&req.id)?;
    if !req.exec_id.is_empty()
        && let State::Exited(_) | State::Deleted = container.exec(&req.exec_id)?.state()
    {
        return Err(Error::State(format!(
            "cannot resize the terminal of exec {} of container {}: it is stopped",
            req.exec_id, req.id
        )));
    }
    with(&container, &req.exec_id, |process| {
        process.resize(req.width, req.height)
    })?
}

/// CloseIO.
pub fn close_io(pod: &Pod, req: &CloseIORequest) -> Result<()> {
    let container = pod.container(&req.id)?;
    if req.stdin {
        with(&container, &req.exec_id, Process::close_stdin)?;
    }
    Ok(())
}
