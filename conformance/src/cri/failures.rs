//! containerd, the shim or the whole node end.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_integration::proto::PodSandboxState;
use mycedrive_integration::{Container, ContainerState};

use super::kube::soon;
use super::{Facts, HANDLERS, Kube, code_or_ok};

pub fn containerd(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("containerd")?;
    let count = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";
    let id = kube.script(&pod, "main", count)?;
    let ends = kube.script(
        &pod,
        "ends",
        "while ! test -e /tmp/end; do sleep 0.05; done; exit 9",
    )?;
    for killed in [false, true] {
        if killed {
            kube.node.kill_service("containerd")?;
        } else {
            kube.node.stop_service("containerd")?;
            kube.node.start_service("containerd")?;
        }
        kube.reconnect()?;
        ensure!(kube.running(&id)?, "it ended");
        facts.add(
            format!("exec after {killed}"),
            kube.exec(&id, &["echo", "here"])?,
        );
        let lines = kube.log(&pod, "main")?.lines().count();
        soon("the log goes on", || {
            Ok(kube.log(&pod, "main")?.lines().count() > lines)
        })?;
    }
    // It ends while containerd is away.
    kube.exec(&ends, &["true"])?;
    let pid = kube
        .node
        .sh("pgrep -f 'while ! test -e /tmp/en[d]' | head -1")?;
    kube.node.stop_service("containerd")?;
    kube.node.sh(&format!("touch /proc/{pid}/root/tmp/end"))?;
    kube.node.wait_for("its end", Duration::from_secs(20), || {
        !kube.node.path(&format!("/proc/{pid}")).exists()
    })?;
    kube.node.start_service("containerd")?;
    kube.reconnect()?;
    let status = kube.ended(&ends)?;
    facts.add(
        "ended meanwhile",
        format!("{} {}", status.exit_code, status.reason),
    );
    let state = kube
        .cri
        .pod_sandbox_status(&pod.id)?
        .status
        .unwrap_or_default()
        .state;
    facts.add("sandbox", state);
    kube.cri.stop_container(&id, Duration::ZERO)?;
    facts.add("stopped", kube.ended(&id)?.exit_code);
    kube.remove(&pod)
}

pub fn shim(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("shim")?;
    let id = kube.script(&pod, "main", "sleep 1234567")?;
    let shim = kube.node.sh("pgrep -f containerd-shi[m]")?;
    kube.node.sh(&format!("kill -KILL {shim}"))?;
    let status = kube.ended(&id)?;
    facts.add(
        "container",
        format!("{} {}", status.exit_code, status.reason),
    );
    soon("the sandbox", || {
        let status = kube
            .cri
            .pod_sandbox_status(&pod.id)?
            .status
            .unwrap_or_default();
        Ok(status.state() == PodSandboxState::SandboxNotready)
    })?;
    facts.add(
        "exec",
        code_or_ok(kube.cri.exec_sync(&id, &["true"], Duration::from_secs(5)))?,
    );
    // kubelet makes another sandbox and removes this one.
    let next = kube.sandbox("shim")?;
    let again = kube.start(
        &next,
        &Container::new("main", "busybox", &["sleep", "7654321"]),
        1,
    )?;
    ensure!(kube.running(&again)?, "the next one does not run");
    kube.cri.stop_pod_sandbox(&pod.id)?;
    kube.cri.remove_container(&id)?;
    kube.cri.remove_pod_sandbox(&pod.id)?;
    let left = "pgrep -fc 'sleep 123456[7]' || true";
    // A moment for what is done beside the calls.
    std::thread::sleep(Duration::from_millis(500));
    let left = kube.node.sh(left)?;
    ensure!(
        kube.handler != HANDLERS[1] || left == "0",
        "{left} processes of the dead shim run on"
    );
    facts.add("processes of the dead shim that run on", left);
    kube.node.sh("pkill -KILL -f 'sleep 123456[7]' || true")?;
    ensure!(kube.running(&again)?, "the next one ended");
    kube.remove(&next)?;
    // What runc's shim leaves of the container.
    kube.node.sh(&format!(
        "runc --root /run/containerd/runc/k8s.io delete --force {id} 2>/dev/null || true
        umount /run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/rootfs 2>/dev/null || true
        rm -rf /run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}"
    ))?;
    Ok(())
}

pub fn reboot(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("reboot")?;
    let id = kube.script(&pod, "main", "echo before; sleep 1000000")?;
    soon("the log", || Ok(kube.log(&pod, "main")? == "before"))?;
    kube.reboot()?;
    let status = kube.status(&id)?;
    facts.add(
        "container",
        format!(
            "{:?} {} {}",
            status.state(),
            status.exit_code,
            status.reason
        ),
    );
    ensure!(
        status.state() != ContainerState::ContainerRunning,
        "said to run"
    );
    let state = kube
        .cri
        .pod_sandbox_status(&pod.id)?
        .status
        .unwrap_or_default()
        .state;
    facts.add("sandbox", state);
    facts.add("log", kube.log(&pod, "main")?);
    // kubelet makes the pod anew, then removes what was.
    let next = kube.sandbox_with(pod.pod.clone(), {
        let mut config = pod.config.clone();
        if let Some(metadata) = config.metadata.as_mut() {
            metadata.attempt = 1;
        }
        config
    })?;
    let again = kube.start(
        &next,
        &Container::new("main", "busybox", &["sleep", "1000000"]),
        1,
    )?;
    facts.add("runs again", kube.running(&again)?);
    facts.add(
        "stop of the old sandbox",
        code_or_ok(kube.cri.stop_pod_sandbox(&pod.id))?,
    );
    facts.add(
        "remove of the old container",
        code_or_ok(kube.cri.remove_container(&id))?,
    );
    facts.add(
        "remove of the old sandbox",
        code_or_ok(kube.cri.remove_pod_sandbox(&pod.id))?,
    );
    kube.remove(&next)
}
