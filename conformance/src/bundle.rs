//! The container of a script: its OCI spec and its root file system.

use anyhow::Result;
use mycedrive_integration::Node;
use prost_types::Any;
use serde_json::{Value, json};

use crate::api::proto::containerd::types::Mount;
use crate::script::{Program, Setup, Update};

/// Root file system that all containers share, in the node.
const ROOT: &str = "/srv/conformance/root";
/// Where each container's own layer is.
const LAYERS: &str = "/srv/conformance/layers";
const CAPABILITIES: [&str; 4] = ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
const TYPES: &str = "types.containerd.io/opencontainers/runtime-spec/1";

/// Makes the root file system from the busybox image, once for a node.
pub fn prepare(node: &Node) -> Result<()> {
    node.sh(&format!(
        "test -e {ROOT}/bin/sh && exit 0
         mkdir -p {ROOT}/bin {ROOT}/dev {ROOT}/proc {ROOT}/sys {ROOT}/tmp /run/image {LAYERS}
         ctr -n k8s.io images mount localhost/busybox:1 /run/image >/dev/null
         cp /run/image/usr/bin/busybox {ROOT}/bin/busybox
         ctr -n k8s.io images unmount --rm /run/image >/dev/null
         mkdir -p /etc/criu && grep -qs network-lock /etc/criu/runc.conf || echo 'network-lock nftables' >>/etc/criu/runc.conf
         for applet in sh cat tail echo; do ln -s busybox {ROOT}/bin/$applet; done"
    ))?;
    Ok(())
}

/// Makes the layer of a container; answers with the mounts of its root.
pub fn rootfs(node: &Node, namespace: &str, id: &str) -> Result<Vec<Mount>> {
    let layer = format!("{LAYERS}/{namespace}/{id}");
    for dir in ["upper", "work"] {
        std::fs::create_dir_all(node.path(&format!("{layer}/{dir}")))?;
    }
    Ok(vec![Mount {
        r#type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options: vec![
            format!("lowerdir={ROOT}"),
            format!("upperdir={layer}/upper"),
            format!("workdir={layer}/work"),
        ],
    }])
}

fn any(kind: &str, value: &Value) -> Any {
    Any {
        type_url: format!("{TYPES}/{kind}"),
        value: value.to_string().into_bytes(),
    }
}

fn process(program: Program, terminal: bool) -> Value {
    let capabilities = json!(CAPABILITIES);
    json!({
        "terminal": terminal,
        "user": { "uid": 0, "gid": 0 },
        "args": program.args(),
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        "noNewPrivileges": true,
    })
}

/// The OCI process of an exec.
pub fn exec(program: Program, terminal: bool) -> Any {
    any("Process", &process(program, terminal))
}

/// An exec's process that cannot be read.
pub fn garbage_exec() -> Any {
    Any {
        type_url: format!("{TYPES}/Process"),
        value: b"{ not JSON".to_vec(),
    }
}

/// The container's cgroup, below every hierarchy of the node.
pub fn cgroup(namespace: &str, id: &str) -> String {
    format!("/{namespace}/{id}")
}

/// The OCI spec of a container.
pub fn spec(setup: Setup, namespace: &str, id: &str) -> Any {
    let mount = |kind: &str, target: &str, options: &[&str]| json!({ "type": kind, "source": kind, "destination": target, "options": options });
    let mut namespaces = vec!["ipc", "uts", "mount", "network"];
    if setup.own_pids {
        namespaces.push("pid");
    }
    let namespaces: Vec<Value> = namespaces
        .into_iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    let value = json!({
        "ociVersion": "1.1.0",
        "root": { "path": "rootfs" },
        "hostname": "conformance",
        "process": process(setup.program, setup.terminal),
        "mounts": [
            mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ],
        "linux": {
            "cgroupsPath": cgroup(namespace, id),
            "namespaces": namespaces,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        },
    });
    any("Spec", &value)
}

/// The resources of an update.
pub fn resources(update: Update) -> Any {
    let value = match update {
        Update::Memory => json!({ "memory": { "limit": 64 << 20 } }),
        Update::Pids => json!({ "pids": { "limit": 50 } }),
        Update::Cpu => json!({ "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 } }),
        Update::Nothing => json!({}),
        Update::NoSuchCpu => json!({ "cpu": { "cpus": "4000-4001" } }),
        Update::WrongType => json!({ "memory": "much" }),
        Update::Garbage => {
            return Any {
                type_url: format!("{TYPES}/LinuxResources"),
                value: b"{ not JSON".to_vec(),
            };
        }
    };
    any("LinuxResources", &value)
}
