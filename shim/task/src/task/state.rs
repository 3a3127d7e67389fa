//! State, Pids, Wait and Stats.

use containerd_shim::api::{
    PidsRequest, PidsResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, Status,
    WaitRequest, WaitResponse,
};
use containerd_shim::protos::api::ProcessInfo;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::shim::oci::ProcessDetails;

use crate::error::{Error, Result};
use crate::events::timestamp;
use crate::pod::Pod;
use crate::state::State;
use crate::stats;

/// What containerd calls a state. A container that waits, is frozen or held is said to run.
fn status(state: State) -> Status {
    match state {
        State::Created => Status::CREATED,
        State::Running | State::Waiting | State::Frozen | State::Held => Status::RUNNING,
        State::Paused => Status::PAUSED,
        State::Exited(_) | State::Deleted => Status::STOPPED,
    }
}

/// Of an exec: while its container is paused it is paused too.
fn exec_status(container: State, exec: State) -> Status {
    match container {
        State::Paused => Status::PAUSED,
        _ => status(exec),
    }
}

/// State.
pub fn state(pod: &Pod, req: &StateRequest) -> Result<StateResponse> {
    let container = pod.container(&req.id)?;
    let init = container.init.state();
    let exec;
    let (process, id, pid, status) = if req.exec_id.is_empty() {
        (
            &container.init,
            &req.id,
            container.reported_pid(),
            status(init),
        )
    } else {
        exec = container.exec(&req.exec_id)?;
        let status = exec_status(init, exec.state());
        (&*exec, &req.exec_id, exec.pid() as u32, status)
    };
    let exit = process.exit();
    Ok(StateResponse {
        id: id.clone(),
        exec_id: req.exec_id.clone(),
        bundle: container.bundle.display().to_string(),
        pid,
        status: status.into(),
        stdin: process.stdio.stdin.clone(),
        stdout: process.stdio.stdout.clone(),
        stderr: process.stdio.stderr.clone(),
        terminal: process.stdio.terminal,
        exit_status: exit.map_or(0, |exit| exit.code),
        exited_at: exit.map(|exit| timestamp(exit.at)).into(),
        ..StateResponse::default()
    })
}

/// Pids.
pub fn pids(pod: &Pod, req: &PidsRequest) -> Result<PidsResponse> {
    let container = pod.container(&req.id)?;
    let pids = match container.init.state() {
        // Never none: containerd takes a shim without pids for a leftover.
        State::Waiting | State::Held => vec![container.reported_pid()],
        State::Exited(_) | State::Deleted => Vec::new(),
        State::Created | State::Running | State::Paused | State::Frozen => container
            .cgroup()
            .map(|cgroup| cgroup.pids())
            .unwrap_or_default(),
    };
    let execs = container.execs();
    let processes = pids
        .into_iter()
        .map(|pid| {
            let info = execs
                .iter()
                .find(|exec| exec.pid() as u32 == pid)
                .and_then(|exec| details(&exec.id));
            ProcessInfo {
                pid,
                info: info.into(),
                ..ProcessInfo::default()
            }
        })
        .collect();
    Ok(PidsResponse {
        processes,
        ..PidsResponse::default()
    })
}

fn details(exec_id: &str) -> Option<Any> {
    let details = ProcessDetails {
        exec_id: exec_id.to_owned(),
        ..ProcessDetails::default()
    };
    Some(Any {
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value: details.write_to_bytes().ok()?,
        ..Any::default()
    })
}

/// Wait.
pub async fn wait(pod: &Pod, req: &WaitRequest) -> Result<WaitResponse> {
    let container = pod.container(&req.id)?;
    let exit = if req.exec_id.is_empty() {
        container.init.wait().await
    } else {
        container.exec(&req.exec_id)?.wait().await
    };
    Ok(WaitResponse {
        exit_status: exit.code,
        exited_at: Some(timestamp(exit.at)).into(),
        ..WaitResponse::default()
    })
}

/// Stats.
pub fn stats(pod: &Pod, req: &StatsRequest) -> Result<StatsResponse> {
    let container = pod.container(&req.id)?;
    let stats = match (container.init.state(), container.cgroup()) {
        (State::Waiting | State::Held, Err(_)) => stats::empty()?,
        (State::Deleted, _) => {
            return Err(Error::NotFound(format!("cgroup of container {}", req.id)));
        }
        // Its cgroup stays until Delete, except after a checkpoint that ended it.
        (State::Exited(_), cgroup) => cgroup
            .and_then(|cgroup| stats::of(&cgroup))
            .or_else(|_| stats::empty())?,
        (_, cgroup) => stats::of(&*cgroup?)?,
    };
    Ok(StatsResponse {
        stats: Some(stats).into(),
        ..StatsResponse::default()
    })
}
