//! Pods on a node, in kubelet's order of calls.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Node;
use crate::{Container, Error, ExecResult, Pod, Result, RunningPod};

/// kubelet waits longer between tries; tests need not.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Name of a file that a node's exec commands may take, in seconds.
const EXEC_TIME: Duration = Duration::from_secs(20);

impl Node {
    /// Starts a pod's sandbox only.
    pub fn run_sandbox(&self, pod: &Pod) -> Result<RunningPod> {
        let cri = self.cri()?;
        let sandbox = cri.run_pod_sandbox(pod.config(), pod.handler_name())?;
        let network = cri
            .pod_sandbox_status(&sandbox)?
            .status
            .and_then(|status| status.network);
        let network = network.unwrap_or_default();
        Ok(RunningPod {
            pod: pod.clone(),
            sandbox,
            ip: network.ip,
            more_ips: network
                .additional_ips
                .into_iter()
                .map(|address| address.ip)
                .collect(),
            containers: BTreeMap::new(),
        })
    }

    /// Creates and starts one container of a pod. If the start fails the container stays, as it does
    /// with kubelet, and is known in `running`.
    pub fn start_container(
        &self,
        running: &mut RunningPod,
        container: &Container,
        attempt: u32,
    ) -> Result<String> {
        let cri = self.cri()?;
        let config = container.config(&running.pod, attempt);
        let id = cri.create_container(&running.sandbox, config, running.pod.config())?;
        running
            .containers
            .insert(container.name().to_owned(), id.clone());
        cri.start_container(&id)?;
        Ok(id)
    }

    /// Runs a pod. If a call fails, the sandbox is removed again.
    pub fn run_pod(&self, pod: &Pod) -> Result<RunningPod> {
        self.run_pod_within(pod, Duration::ZERO)
    }

    /// Runs a pod and, as kubelet, tries a container again that fails to start, until `time` is over.
    /// Then the sandbox is removed and the last error returned.
    pub fn run_pod_within(&self, pod: &Pod, time: Duration) -> Result<RunningPod> {
        let until = Instant::now() + time;
        let mut running = self.run_sandbox(pod)?;
        for container in pod.containers() {
            let mut attempt = 0;
            while let Err(error) = self.start_container(&mut running, container, attempt) {
                tracing::info!(node = self.name(), container = container.name(), %error, "start failed");
                if Instant::now() >= until {
                    if let Err(further) = self.remove_pod(&running) {
                        tracing::warn!(node = self.name(), error = %further, "cannot remove the failed pod");
                    }
                    return Err(error);
                }
                sleep(RETRY_AFTER);
                if let Some(id) = running.containers.get(container.name()) {
                    self.cri()?.remove_container(id)?;
                }
                attempt += 1;
            }
        }
        Ok(running)
    }

    /// Stops a pod as kubelet does when it is deleted, then removes it.
    pub fn stop_pod(&self, running: &RunningPod, grace: Duration) -> Result<()> {
        let cri = self.cri()?;
        std::thread::scope(|scope| {
            let stops: Vec<_> = running
                .containers
                .values()
                .map(|id| {
                    let cri = cri.clone();
                    scope.spawn(move || cri.stop_container(id, grace))
                })
                .collect();
            stops
                .into_iter()
                .try_for_each(|stop| stop.join().unwrap_or(Ok(())))
        })?;
        self.remove_pod(running)
    }

    /// Removes a pod, by force if it runs.
    pub fn remove_pod(&self, running: &RunningPod) -> Result<()> {
        let cri = self.cri()?;
        cri.stop_pod_sandbox(&running.sandbox)?;
        for id in running.containers.values() {
            cri.remove_container(id)?;
        }
        cri.remove_pod_sandbox(&running.sandbox)
    }

    /// Removes every pod of the node, by force.
    pub fn remove_all_pods(&self) -> Result<()> {
        let cri = self.cri()?;
        for sandbox in cri.list_pod_sandbox()? {
            cri.stop_pod_sandbox(&sandbox.id)?;
            cri.remove_pod_sandbox(&sandbox.id)?;
        }
        Ok(())
    }

    /// Runs a command in a container of a pod.
    pub fn exec_in(
        &self,
        running: &RunningPod,
        container: &str,
        command: &[&str],
    ) -> Result<ExecResult> {
        let id = running
            .containers
            .get(container)
            .ok_or_else(|| Error::Unknown {
                kind: "container",
                name: container.to_owned(),
                hint: format!("pod {} has others", running.pod.name()),
            })?;
        self.cri()?.exec_sync(id, command, EXEC_TIME)
    }

    /// What a container has written so far, without kubelet's line prefixes.
    pub fn container_log(&self, running: &RunningPod, container: &str) -> Result<String> {
        let script = format!(
            "cat {}/{container}/*.log 2>/dev/null || true",
            running.pod.log_directory()
        );
        let raw = self.sh(&script)?;
        let lines = raw
            .lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }
}
