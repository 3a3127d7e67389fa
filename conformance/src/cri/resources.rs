//! Statistics and limits.

use anyhow::{Result, ensure};
use mycedrive_integration::Container;
use mycedrive_integration::proto::{LinuxContainerResources, UInt64Value};

use super::kube::soon;
use super::{Facts, Kube, code_or_ok, modes};

fn some(value: Option<&UInt64Value>) -> &'static str {
    match value {
        None => "none",
        Some(UInt64Value { value: 0 }) => "0",
        Some(_) => "some",
    }
}

pub fn stats(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    // kubelet gives every pod a parent of its control groups, and the pod's numbers are that one's.
    let pod = kube.pod("stats");
    let mut config = pod.config();
    if let Some(linux) = config.linux.as_mut() {
        "/kubepods/podstats".clone_into(&mut linux.cgroup_parent);
    }
    let pod = kube.sandbox_with(pod, config)?;
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/tmp/file bs=1M count=4; echo done; sleep 1000000";
    let id = kube.script(&pod, "main", script)?;
    soon("work", || Ok(kube.log(&pod, "main")?.contains("done")))?;
    // containerd collects the size of layers every ten seconds.
    soon("the layer's size", || {
        let layer = kube
            .cri
            .container_stats(&id)?
            .writable_layer
            .unwrap_or_default();
        Ok(layer.used_bytes.is_some_and(|bytes| bytes.value >= 4 << 20))
    })?;
    let stats = kube.cri.container_stats(&id)?;
    let (cpu, memory) = (
        stats.cpu.unwrap_or_default(),
        stats.memory.unwrap_or_default(),
    );
    facts.add("cpu time", some(cpu.usage_core_nano_seconds.as_ref()));
    facts.add("working set", some(memory.working_set_bytes.as_ref()));
    facts.add("usage", some(memory.usage_bytes.as_ref()));
    facts.add("rss", some(memory.rss_bytes.as_ref()));
    facts.add("page faults", some(memory.page_faults.as_ref()));
    let linux = kube
        .cri
        .pod_sandbox_stats(&pod.id)?
        .linux
        .unwrap_or_default();
    facts.add("pod's containers", linux.containers.len());
    let processes = linux.process.unwrap_or_default().process_count;
    facts.add("pod's processes", processes.map_or(0, |count| count.value));
    let network = linux
        .network
        .unwrap_or_default()
        .default_interface
        .unwrap_or_default();
    facts.add("pod's interface", network.name);
    facts.add(
        "pod's memory",
        some(linux.memory.unwrap_or_default().usage_bytes.as_ref()),
    );
    kube.cri.stop_container(&id, std::time::Duration::ZERO)?;
    facts.add(
        "of an ended one",
        code_or_ok(kube.cri.container_stats(&id))?,
    );
    kube.remove(&pod)?;
    modes::remove_parents(kube)
}

/// Reads a limit of the container's group, version 1 or 2 of control groups.
fn limit(kube: &Kube, id: &str, v1: &str, v2: &str) -> Result<String> {
    Ok(kube.node.sh(&format!(
        "cat $(find /sys/fs/cgroup -path '*{id}/{v1}' -o -path '*{id}/{v2}' | head -1)"
    ))?)
}

pub fn update(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("update")?;
    let container = Container::new("main", "busybox", &[]).memory(64 << 20);
    let id = kube.start(&pod, &container, 0)?;
    facts.add(
        "memory before",
        limit(kube, &id, "memory.limit_in_bytes", "memory.max")?,
    );
    let new = |memory: i64| LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 512,
        memory_limit_in_bytes: memory,
        ..LinuxContainerResources::default()
    };
    kube.cri.update_container_resources(&id, new(96 << 20))?;
    facts.add(
        "memory",
        limit(kube, &id, "memory.limit_in_bytes", "memory.max")?,
    );
    facts.add("shares", limit(kube, &id, "cpu.shares", "cpu.weight")?);
    facts.add("quota", limit(kube, &id, "cpu.cfs_quota_us", "cpu.max")?);
    ensure!(kube.running(&id)?, "it ended");
    facts.add(
        "too little memory",
        code_or_ok(kube.cri.update_container_resources(&id, new(4096)))?,
    );
    facts.add(
        "memory after that",
        limit(kube, &id, "memory.limit_in_bytes", "memory.max")?,
    );
    let cpus = LinuxContainerResources {
        cpuset_cpus: "4000".to_owned(),
        ..LinuxContainerResources::default()
    };
    facts.add(
        "no such cpu",
        code_or_ok(kube.cri.update_container_resources(&id, cpus))?,
    );
    ensure!(kube.running(&id)?, "it ended");
    kube.exec(&id, &["true"])?;
    kube.cri.stop_container(&id, std::time::Duration::ZERO)?;
    facts.add(
        "an ended one",
        code_or_ok(kube.cri.update_container_resources(&id, new(96 << 20)))?,
    );
    kube.remove(&pod)
}

pub fn out_of_memory(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("memory")?;
    let eat = "b = bytearray()\nwhile True: b.extend(bytes(1 << 20))";
    let container = Container::new("main", "python", &["python3", "-c", eat]).memory(32 << 20);
    for attempt in 0..2 {
        let id = kube.start(&pod, &container, attempt)?;
        let status = kube.ended(&id)?;
        facts.add(
            format!("attempt {attempt}"),
            format!("{} {}", status.exit_code, status.reason),
        );
    }
    // A child is killed, init goes on.
    let script = format!("python3 -c '{eat}'; echo child ended with $?; sleep 1000000");
    let container = Container::new("child", "python", &["sh", "-c", &script]).memory(32 << 20);
    let id = kube.start(&pod, &container, 0)?;
    soon("the child's end", || {
        Ok(kube.log(&pod, "child")?.contains("child ended"))
    })?;
    let ended = kube.log(&pod, "child")?.contains("child ended with 137");
    facts.add("child ended with 137", ended);
    ensure!(kube.running(&id)?, "init ended with its child");
    kube.cri.stop_container(&id, std::time::Duration::ZERO)?;
    let status = kube.ended(&id)?;
    facts.add("init", format!("{} {}", status.exit_code, status.reason));
    kube.remove(&pod)
}
