//! What kubelet does, for one handler.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mycedrive_integration::proto::{ContainerConfig, ContainerStatus, PodSandboxConfig};
use mycedrive_integration::{Container, ContainerState, Cri, Node, Pod, Testbed};

use super::HANDLERS;

/// The engine that pods under our handler ask for.
const ENGINE: &str = "MYCEDRIVE_CONFORMANCE_ENGINE";
const ANNOTATION: &str = "mycedrive.io/engine";
/// What is certain to happen happens within this time, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Default)]
pub struct Facts {
    /// What, and how it was.
    pub all: Vec<(String, String)>,
}

impl Facts {
    /// Writes a fact down.
    pub fn add(&mut self, what: impl Into<String>, value: impl Display) {
        self.all.push((what.into(), value.to_string()));
    }
}

/// A node's kubelet.
pub struct Kube<'a> {
    testbed: &'a mut Testbed,
    /// The node.
    pub node: Node,
    /// Its container runtime.
    pub cri: Cri,
    /// The runtime handler of all pods.
    pub handler: &'static str,
}

/// A sandbox and what it was made from.
pub struct Sandbox {
    /// The pod.
    pub pod: Pod,
    /// Its configuration, which containers are made with.
    pub config: PodSandboxConfig,
    /// Id.
    pub id: String,
}

impl<'a> Kube<'a> {
    /// kubelet of node A.
    pub fn new(testbed: &'a mut Testbed, handler: &'static str) -> Result<Self> {
        let node = testbed.node("a")?.clone();
        let cri = node.cri()?;
        Ok(Self {
            testbed,
            node,
            cri,
            handler,
        })
    }

    /// A pod of this handler.
    pub fn pod(&self, name: &str) -> Pod {
        let pod = Pod::new("conformance", name).handler(self.handler);
        match std::env::var(ENGINE) {
            Ok(engine) if self.handler != HANDLERS[0] => pod.annotation(ANNOTATION, &engine),
            _ => pod,
        }
    }

    /// Cuts the node's power and starts it again.
    pub fn reboot(&mut self) -> Result<()> {
        self.testbed.reboot("a")?;
        self.reconnect()
    }

    /// After a restart of containerd.
    pub fn reconnect(&mut self) -> Result<()> {
        self.node = self.testbed.node("a")?.clone();
        self.node.wait_ready()?;
        self.cri = self.node.cri()?;
        Ok(())
    }

    /// Starts a sandbox.
    pub fn sandbox(&self, name: &str) -> Result<Sandbox> {
        let pod = self.pod(name);
        let config = pod.config();
        self.sandbox_with(pod, config)
    }

    /// Starts a sandbox with a configuration of its own.
    pub fn sandbox_with(&self, pod: Pod, config: PodSandboxConfig) -> Result<Sandbox> {
        let id = self.cri.run_pod_sandbox(config.clone(), self.handler)?;
        Ok(Sandbox { pod, config, id })
    }

    /// Makes a container.
    pub fn create(&self, sandbox: &Sandbox, container: &Container, attempt: u32) -> Result<String> {
        self.create_with(sandbox, container.config(&sandbox.pod, attempt))
    }

    /// Makes a container with a configuration of its own.
    pub fn create_with(&self, sandbox: &Sandbox, config: ContainerConfig) -> Result<String> {
        Ok(self
            .cri
            .create_container(&sandbox.id, config, sandbox.config.clone())?)
    }

    /// Makes and starts a container.
    pub fn start(&self, sandbox: &Sandbox, container: &Container, attempt: u32) -> Result<String> {
        let id = self.create(sandbox, container, attempt)?;
        self.cri.start_container(&id)?;
        Ok(id)
    }

    /// Makes and starts a shell script.
    pub fn script(&self, sandbox: &Sandbox, name: &str, script: &str) -> Result<String> {
        self.start(
            sandbox,
            &Container::new(name, "busybox", &["sh", "-c", script]),
            0,
        )
    }

    /// A container's status.
    pub fn status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(self.cri.container_status(id)?)
    }

    /// Is it running?
    pub fn running(&self, id: &str) -> Result<bool> {
        Ok(self.status(id)?.state() == ContainerState::ContainerRunning)
    }

    /// Waits until a container has ended.
    pub fn ended(&self, id: &str) -> Result<ContainerStatus> {
        soon("the end of a container", || {
            Ok(self.status(id)?.state() == ContainerState::ContainerExited)
        })?;
        self.status(id)
    }

    /// Runs a command in a container, which must end with 0; answers with its output.
    pub fn exec(&self, id: &str, command: &[&str]) -> Result<String> {
        let done = self.cri.exec_sync(id, command, PATIENCE)?;
        ensure!(
            done.code == 0,
            "{command:?} ended with {}: {}{}",
            done.code,
            done.stdout,
            done.stderr
        );
        Ok(done.stdout.trim().to_owned())
    }

    /// What a container has logged, without kubelet's line prefixes.
    pub fn log(&self, sandbox: &Sandbox, container: &str) -> Result<String> {
        let script = format!(
            "cat {}/{container}/*.log* 2>/dev/null || true",
            sandbox.pod.log_directory()
        );
        let raw = self.node.sh(&script)?;
        let lines = raw
            .lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Stops and removes a pod with all its containers.
    pub fn remove(&self, sandbox: &Sandbox) -> Result<()> {
        self.cri.stop_pod_sandbox(&sandbox.id)?;
        Ok(self.cri.remove_pod_sandbox(&sandbox.id)?)
    }
}

/// Waits for a condition.
pub fn soon(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !condition()? {
        ensure!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}
