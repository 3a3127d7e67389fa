//! A blocking client of the Tasks and Containers services in one namespace.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mycedrive_integration::Node;
use prost_types::Any;
use tokio::runtime::{Builder, Runtime};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::Events;
use super::proto::containerd::services::containers::v1 as containers;
use super::proto::containerd::services::containers::v1::containers_client::ContainersClient;
use super::proto::containerd::services::tasks::v1 as tasks;
use super::proto::containerd::services::tasks::v1::tasks_client::TasksClient;
use super::proto::containerd::types::Mount;
use super::proto::containerd::v1::types::{Process, ProcessInfo};

/// An answer later than this is a failure.
const CALL_TIME: Duration = Duration::from_secs(30);

/// A process of a container: its init if the exec id is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// containerd's container id.
    pub container: &'a str,
    /// Exec id, or empty.
    pub exec: &'a str,
}

/// Where a process's streams go; paths within the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// FIFO, or empty.
    pub stdin: String,
    /// FIFO or URI, or empty.
    pub stdout: String,
    /// FIFO or URI, or empty.
    pub stderr: String,
    /// With a terminal.
    pub terminal: bool,
}

/// A connection to a node's containerd. Must not be used from asynchronous code.
#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    channel: Channel,
    namespace: String,
}

type Answer<T> = std::result::Result<T, Status>;

/// The name of an answer's code.
pub fn code_of(status: &Status) -> String {
    format!("{:?}", status.code())
}

impl Client {
    /// Connects to the node's containerd.
    pub fn connect(node: &Node, namespace: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let socket = node.path("/run/containerd/containerd.sock");
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        let channel = runtime
            .block_on(endpoint.connect())
            .with_context(|| format!("cannot reach containerd of {}", node.name()))?;
        Ok(Self {
            runtime: Arc::new(runtime),
            channel,
            namespace: namespace.to_owned(),
        })
    }

    /// The events of this namespace from now on. Makes and removes a record of a container `probe`
    /// until an event of that has come.
    pub fn subscribe(&self, probe: &str) -> Result<Events> {
        const TRIES: usize = 200;
        let events = Events::subscribe(&self.runtime, self.channel.clone(), &self.namespace);
        for _ in 0..TRIES {
            self.create_container(probe, "none", Any::default())
                .and_then(|()| self.delete_container(probe))
                .context("cannot make a record of a container")?;
            if events.wait(Duration::from_millis(100), |events| !events.is_empty()) {
                return Ok(events);
            }
        }
        bail!("containerd sends no events")
    }

    fn call<Q, A, F>(
        &self,
        time: Duration,
        message: Q,
        send: impl FnOnce(Channel, Request<Q>) -> F,
    ) -> Answer<A>
    where
        F: Future<Output = Answer<Response<A>>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(time);
        let namespace: MetadataValue<Ascii> = self
            .namespace
            .parse()
            .map_err(|_| Status::invalid_argument("not a namespace"))?;
        request
            .metadata_mut()
            .insert("containerd-namespace", namespace);
        let answer = async {
            // containerd does not answer a Wait whose deadline has passed.
            tokio::time::timeout(time, send(self.channel.clone(), request)).await
        };
        self.runtime
            .block_on(answer)
            .unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "no answer in time")))
            .map(Response::into_inner)
    }

    /// Makes a container (containerd's record of it).
    pub fn create_container(&self, id: &str, runtime: &str, spec: Any) -> Answer<()> {
        let message = containers::CreateContainerRequest {
            container: Some(containers::Container {
                id: id.to_owned(),
                runtime: Some(containers::container::Runtime {
                    name: runtime.to_owned(),
                    options: None,
                }),
                spec: Some(spec),
                ..containers::Container::default()
            }),
        };
        self.call(CALL_TIME, message, async |c, r| {
            ContainersClient::new(c).create(r).await
        })
        .map(drop)
    }

    /// Removes containerd's record of a container.
    pub fn delete_container(&self, id: &str) -> Answer<()> {
        let message = containers::DeleteContainerRequest { id: id.to_owned() };
        self.call(CALL_TIME, message, async |c, r| {
            ContainersClient::new(c).delete(r).await
        })
        .map(drop)
    }

    /// Create; answers with the pid.
    pub fn create(&self, id: &str, rootfs: Vec<Mount>, streams: &Streams) -> Answer<u32> {
        let message = tasks::CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            terminal: streams.terminal,
            ..tasks::CreateTaskRequest::default()
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).create(r).await
        })
        .map(|answer| answer.pid)
    }

    /// Start; answers with the pid.
    pub fn start(&self, target: Target) -> Answer<u32> {
        let message = tasks::StartRequest {
            container_id: target.container.to_owned(),
            exec_id: target.exec.to_owned(),
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).start(r).await
        })
        .map(|answer| answer.pid)
    }

    /// Get (State).
    pub fn state(&self, target: Target) -> Answer<Process> {
        let message = tasks::GetRequest {
            container_id: target.container.to_owned(),
            exec_id: target.exec.to_owned(),
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).get(r).await
        })
        .map(|answer| answer.process.unwrap_or_default())
    }

    /// Delete of a task or an exec.
    pub fn delete(&self, target: Target) -> Answer<tasks::DeleteResponse> {
        let container_id = target.container.to_owned();
        if target.exec.is_empty() {
            let message = tasks::DeleteTaskRequest { container_id };
            return self.call(CALL_TIME, message, async |c, r| {
                TasksClient::new(c).delete(r).await
            });
        }
        let message = tasks::DeleteProcessRequest {
            container_id,
            exec_id: target.exec.to_owned(),
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).delete_process(r).await
        })
    }

    /// Kill.
    pub fn kill(&self, target: Target, signal: u32, all: bool) -> Answer<()> {
        let message = tasks::KillRequest {
            container_id: target.container.to_owned(),
            exec_id: target.exec.to_owned(),
            signal,
            all,
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).kill(r).await
        })
        .map(drop)
    }

    /// Exec: adds a process; `process` is the OCI process.
    pub fn exec(&self, target: Target, process: Any, streams: &Streams) -> Answer<()> {
        let message = tasks::ExecProcessRequest {
            container_id: target.container.to_owned(),
            exec_id: target.exec.to_owned(),
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            terminal: streams.terminal,
            spec: Some(process),
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).exec(r).await
        })
        .map(drop)
    }

    /// `ResizePty`.
    pub fn resize(&self, target: Target, width: u32, height: u32) -> Answer<()> {
        let message = tasks::ResizePtyRequest {
            container_id: target.container.to_owned(),
            exec_id: target.exec.to_owned(),
            width,
            height,
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).resize_pty(r).await
        })
        .map(drop)
    }

    /// `CloseIO` of standard input.
    pub fn close_io(&self, target: Target) -> Answer<()> {
        let message = tasks::CloseIoRequest {
            container_id: target.container.to_owned(),
            exec_id: target.exec.to_owned(),
            stdin: true,
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).close_io(r).await
        })
        .map(drop)
    }

    /// Pause.
    pub fn pause(&self, container: &str) -> Answer<()> {
        let message = tasks::PauseTaskRequest {
            container_id: container.to_owned(),
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).pause(r).await
        })
        .map(drop)
    }

    /// Resume.
    pub fn resume(&self, container: &str) -> Answer<()> {
        let message = tasks::ResumeTaskRequest {
            container_id: container.to_owned(),
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).resume(r).await
        })
        .map(drop)
    }

    /// `ListPids`.
    pub fn pids(&self, container: &str) -> Answer<Vec<ProcessInfo>> {
        let message = tasks::ListPidsRequest {
            container_id: container.to_owned(),
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).list_pids(r).await
        })
        .map(|answer| answer.processes)
    }

    /// Checkpoint with these options.
    pub fn checkpoint(&self, container: &str, options: Any) -> Answer<usize> {
        let message = tasks::CheckpointTaskRequest {
            container_id: container.to_owned(),
            options: Some(options),
            ..tasks::CheckpointTaskRequest::default()
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).checkpoint(r).await
        })
        .map(|answer| answer.descriptors.len())
    }

    /// Update of resources.
    pub fn update(&self, container: &str, resources: Any) -> Answer<()> {
        let message = tasks::UpdateTaskRequest {
            container_id: container.to_owned(),
            resources: Some(resources),
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).update(r).await
        })
        .map(drop)
    }

    /// Metrics of one container; `None` if containerd has none.
    pub fn metrics(&self, container: &str) -> Answer<Option<Any>> {
        let message = tasks::MetricsRequest {
            filters: vec![format!("id=={container}")],
        };
        self.call(CALL_TIME, message, async |c, r| {
            TasksClient::new(c).metrics(r).await
        })
        .map(|answer| answer.metrics.into_iter().next().and_then(|one| one.data))
    }

    /// Wait for at most `time`; answers with the exit status.
    pub fn wait(&self, target: Target, time: Duration) -> Answer<tasks::WaitResponse> {
        let message = tasks::WaitRequest {
            container_id: target.container.to_owned(),
            exec_id: target.exec.to_owned(),
        };
        self.call(time, message, async |c, r| {
            TasksClient::new(c).wait(r).await
        })
    }
}
