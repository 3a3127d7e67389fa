//! containerd's Task service, version 3: takes requests apart and hands them to the pod.

mod checkpoint;
mod control;
mod create;
mod delete;
mod exec;
mod start;
mod state;

use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim::{Task, TtrpcContext, TtrpcResult};
use tracing::{debug, info};

use crate::error::Result;
use crate::pod::Pod;
use crate::pod_socket;

/// The Task service of a pod's shim.
pub struct TaskService {
    pod: Arc<Pod>,
}

impl TaskService {
    /// The service for `pod`.
    pub fn new(pod: Arc<Pod>) -> Self {
        Self { pod }
    }
}

/// Logs a failure and turns it into containerd's form.
fn answer<T>(call: &str, id: &str, result: Result<T>) -> TtrpcResult<T> {
    match result {
        Ok(value) => {
            debug!(call, id, "done");
            Ok(value)
        }
        Err(error) => {
            info!(call, id, %error, "failed");
            Err(error.into())
        }
    }
}

fn empty(result: Result<()>) -> Result<Empty> {
    result.map(|()| Empty::default())
}

#[async_trait]
impl Task for TaskService {
    async fn state(&self, _: &TtrpcContext, req: StateRequest) -> TtrpcResult<StateResponse> {
        answer("state", &req.id, state::state(&self.pod, &req))
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        req: CreateTaskRequest,
    ) -> TtrpcResult<CreateTaskResponse> {
        answer("create", &req.id, create::create(&self.pod, &req).await)
    }

    async fn start(&self, _: &TtrpcContext, req: StartRequest) -> TtrpcResult<StartResponse> {
        answer("start", &req.id, start::start(&self.pod, &req).await)
    }

    async fn delete(&self, _: &TtrpcContext, req: DeleteRequest) -> TtrpcResult<DeleteResponse> {
        answer("delete", &req.id, delete::delete(&self.pod, &req).await)
    }

    async fn pids(&self, _: &TtrpcContext, req: PidsRequest) -> TtrpcResult<PidsResponse> {
        answer("pids", &req.id, state::pids(&self.pod, &req))
    }

    async fn pause(&self, _: &TtrpcContext, req: PauseRequest) -> TtrpcResult<Empty> {
        let result = control::pause(&self.pod, &req.id).await;
        answer("pause", &req.id, empty(result))
    }

    async fn resume(&self, _: &TtrpcContext, req: ResumeRequest) -> TtrpcResult<Empty> {
        let result = control::resume(&self.pod, &req.id).await;
        answer("resume", &req.id, empty(result))
    }

    async fn checkpoint(&self, _: &TtrpcContext, req: CheckpointTaskRequest) -> TtrpcResult<Empty> {
        let result = checkpoint::checkpoint(&self.pod, &req).await;
        answer("checkpoint", &req.id, empty(result))
    }

    async fn kill(&self, _: &TtrpcContext, req: KillRequest) -> TtrpcResult<Empty> {
        let result = control::kill(&self.pod, &req).await;
        answer("kill", &req.id, empty(result))
    }

    async fn exec(&self, _: &TtrpcContext, req: ExecProcessRequest) -> TtrpcResult<Empty> {
        answer("exec", &req.id, empty(exec::exec(&self.pod, &req)))
    }

    async fn resize_pty(&self, _: &TtrpcContext, req: ResizePtyRequest) -> TtrpcResult<Empty> {
        let result = control::resize(&self.pod, &req);
        answer("resize_pty", &req.id, empty(result))
    }

    async fn close_io(&self, _: &TtrpcContext, req: CloseIORequest) -> TtrpcResult<Empty> {
        let result = control::close_io(&self.pod, &req);
        answer("close_io", &req.id, empty(result))
    }

    async fn update(&self, _: &TtrpcContext, req: UpdateTaskRequest) -> TtrpcResult<Empty> {
        let result = control::update(&self.pod, &req).await;
        answer("update", &req.id, empty(result))
    }

    async fn wait(&self, _: &TtrpcContext, req: WaitRequest) -> TtrpcResult<WaitResponse> {
        answer("wait", &req.id, state::wait(&self.pod, &req).await)
    }

    async fn stats(&self, _: &TtrpcContext, req: StatsRequest) -> TtrpcResult<StatsResponse> {
        answer("stats", &req.id, state::stats(&self.pod, &req))
    }

    async fn connect(&self, _: &TtrpcContext, req: ConnectRequest) -> TtrpcResult<ConnectResponse> {
        let task_pid = self
            .pod
            .container(&req.id)
            .map_or(0, |container| container.reported_pid());
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            ..ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, req: ShutdownRequest) -> TtrpcResult<Empty> {
        // A pod's shim is asked when each of its containers is deleted; it goes with the last.
        if self.pod.is_empty() {
            debug!(id = req.id, "shutting down");
            self.pod.events.flush().await;
            pod_socket::remove(&self.pod);
            self.pod.exit.signal();
        }
        Ok(Empty::default())
    }
}
