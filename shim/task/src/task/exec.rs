//! Exec: adds a process to a container; Start runs it.

use std::fs;

use containerd_shim::api::ExecProcessRequest;
use containerd_shim::protos::events::task::TaskExecAdded;
use serde_json::{Map, Value};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::io::Stdio;
use crate::migration;
use crate::pod::Pod;
use crate::process::Process;
use crate::state::State;

/// Exec.
pub fn exec(pod: &Pod, req: &ExecProcessRequest) -> Result<()> {
    let container = pod.container(&req.id)?;
    if req.exec_id.is_empty() || req.exec_id.contains('/') {
        return Err(Error::Invalid(format!("exec id {:?}", req.exec_id)));
    }
    refuse_when_away(pod, &container)?;
    if container.exec(&req.exec_id).is_ok() {
        return Err(Error::AlreadyExists(format!(
            "exec {} of container {}",
            req.exec_id, req.id
        )));
    }
    if let State::Exited(_) | State::Deleted = container.init.state() {
        return Err(Error::State(format!(
            "cannot exec in container {}: it is stopped",
            req.id
        )));
    }
    if container.init.state() == State::Paused {
        return Err(Error::State(format!(
            "cannot exec in container {}: it is paused",
            req.id
        )));
    }
    let name = format!("exec {} of container {}", req.exec_id, req.id);
    let mut process: Map<String, Value> = serde_json::from_slice(&req.spec.value)
        .map_err(|error| Error::decode(format!("the process of {name}"), error))?;
    process.insert("terminal".to_owned(), req.terminal.into());
    let process = Value::Object(process).to_string();
    let stdio = Stdio {
        stdin: req.stdin.clone(),
        stdout: req.stdout.clone(),
        stderr: req.stderr.clone(),
        terminal: req.terminal,
    };
    container.add_exec(Process::new(&req.exec_id, name, stdio, State::Created))?;
    let (file, _) = container.exec_files(&req.exec_id);
    if let Err(error) = fs::write(&file, process).map_err(Error::path("write", &file)) {
        container.remove_exec(&req.exec_id);
        return Err(error);
    }
    pod.events.send(TaskExecAdded {
        container_id: req.id.clone(),
        exec_id: req.exec_id.clone(),
        ..TaskExecAdded::default()
    });
    Ok(())
}

/// An exec needs a container that runs here.
pub fn refuse_when_away(pod: &Pod, container: &Container) -> Result<()> {
    let why = match container.init.state() {
        State::Held => match migration::away(pod) {
            Some(away) => format!("{away}; exec there"),
            None => "the pod does not run here any more".to_owned(),
        },
        State::Waiting => "it waits for its migration; try again when it has arrived".to_owned(),
        State::Frozen => "it is frozen for a migration; try again when that has ended".to_owned(),
        State::Created | State::Running | State::Paused | State::Exited(_) | State::Deleted => {
            return Ok(());
        }
    };
    Err(Error::Precondition(format!(
        "cannot exec in container {}: {why}",
        container.id
    )))
}
