//! Calls that few tests need: streams, statistics, resources, logs.

use super::client::{CALL_TIME, Cri};
use super::proto;
use crate::Result;

impl Cri {
    /// Changes a container's resources.
    pub fn update_container_resources(
        &self,
        container: &str,
        resources: proto::LinuxContainerResources,
    ) -> Result<()> {
        let message = proto::UpdateContainerResourcesRequest {
            container_id: container.to_owned(),
            linux: Some(resources),
        };
        self.call(
            "UpdateContainerResources",
            CALL_TIME,
            message,
            async |mut c, r| c.update_container_resources(r).await,
        )
        .map(drop)
    }

    /// Lets the runtime open a container's log anew: kubelet has renamed it.
    pub fn reopen_container_log(&self, container: &str) -> Result<()> {
        let message = proto::ReopenContainerLogRequest {
            container_id: container.to_owned(),
        };
        self.call(
            "ReopenContainerLog",
            CALL_TIME,
            message,
            async |mut c, r| c.reopen_container_log(r).await,
        )
        .map(drop)
    }

    /// Prepares a command in a container; answers with the URL of its streams. Standard error is
    /// the terminal's with one.
    pub fn exec(
        &self,
        container: &str,
        command: &[&str],
        tty: bool,
        stdin: bool,
    ) -> Result<String> {
        let message = proto::ExecRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            tty,
            stdin,
            stdout: true,
            stderr: !tty,
        };
        self.call("Exec", CALL_TIME, message, async |mut c, r| c.exec(r).await)
            .map(|answer| answer.url)
    }

    /// Prepares an attachment to a container's streams; answers with their URL.
    pub fn attach(&self, container: &str, tty: bool, stdin: bool) -> Result<String> {
        let message = proto::AttachRequest {
            container_id: container.to_owned(),
            stdin,
            tty,
            stdout: true,
            stderr: !tty,
        };
        self.call("Attach", CALL_TIME, message, async |mut c, r| {
            c.attach(r).await
        })
        .map(|answer| answer.url)
    }

    /// Prepares a connection to a port of a pod; answers with its URL.
    pub fn port_forward(&self, sandbox: &str, port: u16) -> Result<String> {
        let message = proto::PortForwardRequest {
            pod_sandbox_id: sandbox.to_owned(),
            port: vec![i32::from(port)],
        };
        self.call("PortForward", CALL_TIME, message, async |mut c, r| {
            c.port_forward(r).await
        })
        .map(|answer| answer.url)
    }

    /// A container's statistics.
    pub fn container_stats(&self, container: &str) -> Result<proto::ContainerStats> {
        let message = proto::ContainerStatsRequest {
            container_id: container.to_owned(),
        };
        self.call("ContainerStats", CALL_TIME, message, async |mut c, r| {
            c.container_stats(r).await
        })
        .map(|answer| answer.stats.unwrap_or_default())
    }

    /// A pod's statistics.
    pub fn pod_sandbox_stats(&self, sandbox: &str) -> Result<proto::PodSandboxStats> {
        let message = proto::PodSandboxStatsRequest {
            pod_sandbox_id: sandbox.to_owned(),
        };
        self.call("PodSandboxStats", CALL_TIME, message, async |mut c, r| {
            c.pod_sandbox_stats(r).await
        })
        .map(|answer| answer.stats.unwrap_or_default())
    }
}
