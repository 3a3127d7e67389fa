//! Namespaces, control groups and privileges.

use anyhow::{Result, ensure};
use mycedrive_integration::proto::{IdMapping, NamespaceMode, NamespaceOption, UserNamespace};
use mycedrive_integration::{Container, Pod};

use super::kube::{Sandbox, soon};
use super::{Facts, Kube, Skip};

fn container(name: &str) -> Container {
    Container::new(name, "busybox", &["sleep", "1000000"])
}

/// Starts a container with these namespaces.
fn with_namespaces(
    kube: &Kube,
    pod: &Sandbox,
    name: &str,
    options: NamespaceOption,
) -> Result<String> {
    let mut config = container(name).config(&pod.pod, 0);
    if let Some(security) = config
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut())
    {
        security.namespace_options = Some(options);
    }
    let id = kube.create_with(pod, config)?;
    kube.cri.start_container(&id)?;
    Ok(id)
}

/// Starts a sandbox with these namespaces.
fn sandbox(kube: &Kube, pod: Pod, options: NamespaceOption) -> Result<Sandbox> {
    let mut config = pod.config();
    if let Some(security) = config
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut())
    {
        security.namespace_options = Some(options);
    }
    kube.sandbox_with(pod, config)
}

fn namespace(kube: &Kube, id: &str, kind: &str) -> Result<String> {
    kube.exec(id, &["readlink", &format!("/proc/self/ns/{kind}")])
}

pub fn pids(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let first = |id: &str| kube.exec(id, &["cat", "/proc/1/comm"]);
    let pod = kube.sandbox("own")?;
    let one = kube.start(&pod, &container("one"), 0)?;
    let two = kube.start(&pod, &container("two"), 0)?;
    facts.add("own", first(&one)?);
    facts.add(
        "own differ",
        namespace(kube, &one, "pid")? != namespace(kube, &two, "pid")?,
    );
    // As an ephemeral container for debugging.
    let target = NamespaceOption {
        pid: NamespaceMode::Target.into(),
        target_id: one.clone(),
        ..NamespaceOption::default()
    };
    let debugger = with_namespaces(kube, &pod, "debugger", target)?;
    facts.add(
        "target's",
        namespace(kube, &one, "pid")? == namespace(kube, &debugger, "pid")?,
    );
    // It ends alone, although it shares the target's namespace.
    kube.cri
        .stop_container(&debugger, std::time::Duration::ZERO)?;
    facts.add("debugger", kube.ended(&debugger)?.exit_code);
    ensure!(kube.running(&one)?, "the target ended with its debugger");
    kube.remove(&pod)?;

    let shared = kube.pod("shared").shared_pid();
    let config = shared.config();
    let pod = kube.sandbox_with(shared, config)?;
    let script = Container::new(
        "one",
        "busybox",
        &["sh", "-c", "sleep 1000001 & sleep 1000002"],
    );
    let one = kube.start(&pod, &script, 0)?;
    let two = kube.start(&pod, &container("two"), 0)?;
    facts.add(
        "shared",
        namespace(kube, &one, "pid")? == namespace(kube, &two, "pid")?,
    );
    soon("both sleepers", || {
        Ok(kube
            .exec(
                &two,
                &["sh", "-c", "ps -o args | grep -c '[s]leep 100000[12]'"],
            )?
            .trim()
            >= "2")
    })?;
    // Init ends: what else it has in the shared namespace ends with it.
    kube.cri.stop_container(&one, std::time::Duration::ZERO)?;
    facts.add("one of shared", kube.ended(&one)?.exit_code);
    soon("the end of its child", || {
        let left = "ps -o args | grep '[s]leep 100000[12]' || true";
        Ok(kube.exec(&two, &["sh", "-c", left])?.is_empty())
    })?;
    ensure!(kube.running(&two)?, "two ended with one");
    kube.remove(&pod)
}

pub fn host(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let node = i32::from(NamespaceMode::Node);
    let options = NamespaceOption {
        network: node,
        pid: node,
        ipc: node,
        ..NamespaceOption::default()
    };
    let pod = sandbox(kube, kube.pod("host").host_network(), options.clone())?;
    let id = with_namespaces(kube, &pod, "main", options)?;
    for kind in ["net", "pid", "ipc"] {
        let own = kube.node.sh(&format!("readlink /proc/self/ns/{kind}"))?;
        facts.add(kind, own == namespace(kube, &id, kind)?);
    }
    facts.add("host name", kube.exec(&id, &["hostname"])?);
    facts.add(
        "exec sees the node",
        kube.exec(
            &id,
            &[
                "sh",
                "-c",
                "ps -o args | grep -c '[c]ontainerd -\\|[/]usr/bin/containerd$'",
            ],
        )?,
    );
    kube.cri.stop_container(&id, std::time::Duration::ZERO)?;
    facts.add("exit code", kube.ended(&id)?.exit_code);
    kube.remove(&pod)
}

pub fn cgroups(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.pod("parent");
    let mut config = pod.config();
    let parent = "/kubepods/burstable/podconformance";
    if let Some(linux) = config.linux.as_mut() {
        parent.clone_into(&mut linux.cgroup_parent);
    }
    let pod = kube.sandbox_with(pod, config)?;
    let id = kube.start(&pod, &container("main"), 0)?;
    let own = kube.node.sh("readlink /proc/self/ns/cgroup")?;
    facts.add(
        "the node's cgroup namespace",
        own == namespace(kube, &id, "cgroup")?,
    );
    let pids = kube.node.sh(&format!(
        "cat $(find /sys/fs/cgroup -path '*{parent}/{id}/cgroup.procs' | head -1) | wc -l"
    ))?;
    facts.add("processes in its group", pids);
    let sandbox = kube.node.sh(&format!(
        "cat $(find /sys/fs/cgroup -path '*{parent}/{}/cgroup.procs' | head -1) | wc -l",
        pod.id
    ))?;
    facts.add("processes in the sandbox's group", sandbox);
    facts.add("shims in the pod's groups", kube.node.sh(&format!(
        "for group in $(find /sys/fs/cgroup -path '*{parent}*' -name cgroup.procs); do for pid in $(cat $group); do tr '\\0' ' ' </proc/$pid/cmdline; echo; done; done | grep -c containerd-shim || true"
    ))?);
    kube.remove(&pod)?;
    let left = kube.node.sh(&format!(
        "find /sys/fs/cgroup -path '*{parent}/*' -type d | wc -l"
    ))?;
    facts.add("groups left", left);
    remove_parents(kube)
}

/// kubelet removes the parents of its pods' groups.
pub fn remove_parents(kube: &Kube) -> Result<()> {
    kube.node.sh(
        "find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} +
         test -z \"$(find /sys/fs/cgroup -type d -path '*/kubepods*')\"",
    )?;
    Ok(())
}

pub fn privileged(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let own = container("main").privileged();
    let pod = kube.pod("privileged").with(own.clone());
    let config = pod.config();
    let pod = kube.sandbox_with(pod, config)?;
    let id = kube.start(&pod, &own, 0)?;
    let plain = kube.start(&pod, &container("plain"), 0)?;
    let capabilities = |id: &str| kube.exec(id, &["sh", "-c", "grep CapEff /proc/self/status"]);
    facts.add("capabilities", capabilities(&id)?);
    facts.add("plain capabilities", capabilities(&plain)?);
    let mount = [
        "sh",
        "-c",
        "mkdir -p /tmp/m && mount -t tmpfs none /tmp/m && umount /tmp/m",
    ];
    facts.add(
        "mount",
        kube.cri
            .exec_sync(&id, &mount, std::time::Duration::from_secs(20))?
            .code,
    );
    facts.add(
        "plain mount",
        kube.cri
            .exec_sync(&plain, &mount, std::time::Duration::from_secs(20))?
            .code
            != 0,
    );
    facts.add(
        "sysfs",
        kube.exec(
            &id,
            &[
                "sh",
                "-c",
                "grep ' /sys ' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1",
            ],
        )?,
    );
    let devices = kube.exec(&id, &["sh", "-c", "ls /dev | wc -l"])?;
    let few = kube.exec(&plain, &["sh", "-c", "ls /dev | wc -l"])?;
    facts.add("devices", devices);
    facts.add("plain devices", few);
    kube.remove(&pod)
}

/// Of the 65536 ids that kubelet gives a pod.
const FIRST_ID: u32 = 655_360;

pub fn users(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let limit = kube.node.sh("cat /proc/sys/user/max_user_namespaces")?;
    if limit == "0" {
        return Err(Skip("this kernel has no user namespaces".to_owned()).into());
    }
    let map = vec![IdMapping {
        host_id: FIRST_ID,
        container_id: 0,
        length: 65536,
    }];
    let options = NamespaceOption {
        pid: NamespaceMode::Container.into(),
        userns_options: Some(UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: map.clone(),
            gids: map,
        }),
        ..NamespaceOption::default()
    };
    let pod = sandbox(kube, kube.pod("users"), options.clone())?;
    let id = with_namespaces(kube, &pod, "main", options.clone())?;
    let map = kube.exec(&id, &["cat", "/proc/self/uid_map"])?;
    facts.add("map", map.split_whitespace().collect::<Vec<_>>().join(" "));
    facts.add("user", kube.exec(&id, &["id", "-u"])?);
    kube.exec(
        &id,
        &["sh", "-c", "echo text >/tmp/file && chown 5:5 /tmp/file"],
    )?;
    facts.add(
        "owner inside",
        kube.exec(&id, &["stat", "-c", "%u", "/tmp/file"])?,
    );
    let two = with_namespaces(kube, &pod, "two", options)?;
    facts.add(
        "one user namespace",
        namespace(kube, &id, "user")? == namespace(kube, &two, "user")?,
    );
    facts.add(
        "not the node's",
        namespace(kube, &id, "user")? != kube.node.sh("readlink /proc/self/ns/user")?,
    );
    facts.add(
        "network",
        namespace(kube, &id, "net")? == namespace(kube, &two, "net")?,
    );
    kube.cri.stop_container(&two, std::time::Duration::ZERO)?;
    facts.add("exit code", kube.ended(&two)?.exit_code);
    kube.remove(&pod)
}
