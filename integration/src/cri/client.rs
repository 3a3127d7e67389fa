//! A blocking client: tests are plain threads.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::proto;
use super::proto::image_service_client::ImageServiceClient;
use super::proto::runtime_service_client::RuntimeServiceClient;
use crate::{Error, Result};

/// kubelet's deadline for a start, which is when a pod arrives from another node.
const START_TIME: Duration = Duration::from_secs(120);
/// kubelet gives the other calls two minutes as well; here an answer later than this is a failure.
pub(super) const CALL_TIME: Duration = Duration::from_secs(60);

/// A connection to a node's containerd. Cheap to clone. Must not be used from asynchronous code.
#[derive(Debug, Clone)]
pub struct Cri {
    pub(super) node: String,
    pub(super) runtime: Arc<Runtime>,
    pub(super) channel: Channel,
}

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecResult {
    /// Exit code.
    pub code: i32,
    /// Standard output, lossy UTF-8.
    pub stdout: String,
    /// Standard error, lossy UTF-8.
    pub stderr: String,
}

impl Cri {
    /// Connects to the socket; `node` is for messages only.
    pub fn connect(node: &str, socket: &Path) -> Result<Self> {
        let failed = |reason: String| Error::Connect {
            node: node.to_owned(),
            reason,
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(|error| failed(error.to_string()))?;
        let channel = runtime
            .block_on(endpoint.connect())
            .map_err(|error| failed(format!("{}: {error:?}", socket.display())))?;
        Ok(Self {
            node: node.to_owned(),
            runtime: Arc::new(runtime),
            channel,
        })
    }

    pub(super) fn call<Q, A, F>(
        &self,
        call: &'static str,
        time: Duration,
        message: Q,
        send: impl FnOnce(RuntimeServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<A>
    where
        F: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(time);
        let client = RuntimeServiceClient::new(self.channel.clone());
        self.runtime
            .block_on(send(client, request))
            .map(Response::into_inner)
            .map_err(|status| Error::Cri {
                call,
                node: self.node.clone(),
                status: Box::new(status),
            })
    }

    /// Name and version of the runtime.
    pub fn version(&self) -> Result<proto::VersionResponse> {
        let message = proto::VersionRequest {
            version: "v1".to_owned(),
        };
        self.call(
            "Version",
            Duration::from_secs(5),
            message,
            async |mut c, r| c.version(r).await,
        )
    }

    /// Starts a sandbox; answers with its id.
    pub fn run_pod_sandbox(
        &self,
        config: proto::PodSandboxConfig,
        handler: &str,
    ) -> Result<String> {
        let message = proto::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.to_owned(),
        };
        self.call("RunPodSandbox", CALL_TIME * 2, message, async |mut c, r| {
            c.run_pod_sandbox(r).await
        })
        .map(|answer| answer.pod_sandbox_id)
    }

    /// Stops a sandbox and its containers.
    pub fn stop_pod_sandbox(&self, sandbox: &str) -> Result<()> {
        let message = proto::StopPodSandboxRequest {
            pod_sandbox_id: sandbox.to_owned(),
        };
        self.call("StopPodSandbox", CALL_TIME, message, async |mut c, r| {
            c.stop_pod_sandbox(r).await
        })
        .map(drop)
    }

    /// Removes a stopped sandbox and its containers.
    pub fn remove_pod_sandbox(&self, sandbox: &str) -> Result<()> {
        let message = proto::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.to_owned(),
        };
        self.call("RemovePodSandbox", CALL_TIME, message, async |mut c, r| {
            c.remove_pod_sandbox(r).await
        })
        .map(drop)
    }

    /// State and addresses of a sandbox.
    pub fn pod_sandbox_status(&self, sandbox: &str) -> Result<proto::PodSandboxStatusResponse> {
        let message = proto::PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.to_owned(),
            verbose: true,
        };
        self.call("PodSandboxStatus", CALL_TIME, message, async |mut c, r| {
            c.pod_sandbox_status(r).await
        })
    }

    /// All sandboxes.
    pub fn list_pod_sandbox(&self) -> Result<Vec<proto::PodSandbox>> {
        let message = proto::ListPodSandboxRequest {};
        self.call("ListPodSandbox", CALL_TIME, message, async |mut c, r| {
            c.list_pod_sandbox(r).await
        })
        .map(|answer| answer.items)
    }

    /// Makes a container; answers with its id.
    pub fn create_container(
        &self,
        sandbox: &str,
        config: proto::ContainerConfig,
        pod: proto::PodSandboxConfig,
    ) -> Result<String> {
        let message = proto::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod),
        };
        self.call("CreateContainer", CALL_TIME, message, async |mut c, r| {
            c.create_container(r).await
        })
        .map(|answer| answer.container_id)
    }

    /// Starts a container, with kubelet's deadline of two minutes.
    pub fn start_container(&self, container: &str) -> Result<()> {
        let message = proto::StartContainerRequest {
            container_id: container.to_owned(),
        };
        self.call("StartContainer", START_TIME, message, async |mut c, r| {
            c.start_container(r).await
        })
        .map(drop)
    }

    /// Stops a container: its stop signal, then SIGKILL after `grace`.
    pub fn stop_container(&self, container: &str, grace: Duration) -> Result<()> {
        let message = proto::StopContainerRequest {
            container_id: container.to_owned(),
            timeout: grace.as_secs() as i64,
        };
        self.call(
            "StopContainer",
            CALL_TIME + grace,
            message,
            async |mut c, r| c.stop_container(r).await,
        )
        .map(drop)
    }

    /// Removes a container, by force if it runs.
    pub fn remove_container(&self, container: &str) -> Result<()> {
        let message = proto::RemoveContainerRequest {
            container_id: container.to_owned(),
        };
        self.call("RemoveContainer", CALL_TIME, message, async |mut c, r| {
            c.remove_container(r).await
        })
        .map(drop)
    }

    /// All containers, without the sandboxes' own.
    pub fn list_containers(&self) -> Result<Vec<proto::Container>> {
        let message = proto::ListContainersRequest {};
        self.call("ListContainers", CALL_TIME, message, async |mut c, r| {
            c.list_containers(r).await
        })
        .map(|answer| answer.containers)
    }

    /// State of a container.
    pub fn container_status(&self, container: &str) -> Result<proto::ContainerStatus> {
        let message = proto::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        };
        self.call("ContainerStatus", CALL_TIME, message, async |mut c, r| {
            c.container_status(r).await
        })
        .map(|answer| answer.status.unwrap_or_default())
    }

    /// Runs a command in a container to its end.
    pub fn exec_sync(
        &self,
        container: &str,
        command: &[&str],
        time: Duration,
    ) -> Result<ExecResult> {
        let message = proto::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: time.as_secs() as i64,
        };
        self.call("ExecSync", time + CALL_TIME, message, async |mut c, r| {
            c.exec_sync(r).await
        })
        .map(|answer| ExecResult {
            code: answer.exit_code,
            stdout: String::from_utf8_lossy(&answer.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&answer.stderr).into_owned(),
        })
    }

    /// Writes a checkpoint archive of a container to a file of the node.
    pub fn checkpoint_container(&self, container: &str, file: &str) -> Result<()> {
        let message = proto::CheckpointContainerRequest {
            container_id: container.to_owned(),
            location: file.to_owned(),
            timeout: 60,
        };
        self.call(
            "CheckpointContainer",
            CALL_TIME,
            message,
            async |mut c, r| c.checkpoint_container(r).await,
        )
        .map(drop)
    }

    /// The image's data if the node has it.
    pub fn image_status(&self, image: &str) -> Result<Option<proto::Image>> {
        let message = proto::ImageStatusRequest {
            image: Some(proto::ImageSpec {
                image: crate::image::reference(image),
            }),
            verbose: false,
        };
        let mut client = ImageServiceClient::new(self.channel.clone());
        self.runtime
            .block_on(client.image_status(message))
            .map(|answer| answer.into_inner().image)
            .map_err(|status| Error::Cri {
                call: "ImageStatus",
                node: self.node.clone(),
                status: Box::new(status),
            })
    }
}
