//! Pods of this node, as `mycedrive ps` shows them.

#[cfg(test)]
mod tests;

use std::path::Path;

use mycedrive_proto::shim::{Container, ContainerState, DescribeReply, Mount, Role};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::migrations::Migrations;
use crate::parked::Parked;
use crate::progress::{Phase, Side};
use crate::shims::{Shim, Shims};

/// A pod under the mycedrive runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodInfo {
    /// Kubernetes namespace; empty for a task that `ctr` made.
    pub namespace: String,
    /// Kubernetes name; empty for a task that `ctr` made.
    pub name: String,
    /// Kubernetes uid.
    pub uid: String,
    /// Sandbox id.
    pub sandbox: String,
    /// Addresses, the primary one first.
    pub addresses: Vec<String>,
    /// Containers without the sandbox.
    pub containers: Vec<ContainerInfo>,
    /// Whether it could migrate now.
    pub migratable: bool,
    /// Why not; each says what to do.
    pub obstacles: Vec<String>,
    /// The migration it is in; empty when in none.
    pub migration: String,
    /// `source`, `destination`, `parked`, or empty.
    pub role: String,
    /// The shim's process.
    pub shim_pid: i32,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Kubernetes name; the id for a task that `ctr` made.
    pub name: String,
    /// Container id.
    pub id: String,
    /// `running`, `held`, `waiting`, `parked`, ...
    pub state: String,
    /// Pid of its first process; 0 when there is none.
    pub pid: i32,
    /// Image.
    pub image: String,
    /// `criu`, `dmtcp` or `none`.
    pub engine: String,
    /// Why this one and not another; empty when there is nothing to say.
    pub engine_why: String,
    /// Volumes that move with the pod.
    #[serde(default)]
    pub volumes: Vec<VolumeInfo>,
}

/// A volume of a container that moves with the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Where the container sees it.
    pub destination: String,
    /// Its directory on this node.
    pub volume: String,
    /// Layers of the stack, the base and the upper counted; 0: it is a plain directory.
    pub layers: usize,
    /// Why it is a plain directory; empty when it is a stack, or not mounted now.
    pub plain_because: String,
    /// Bytes on disk of what does not change: base and sealed layers.
    pub lower_bytes: u64,
    /// Bytes on disk of the live upper, or of the directory.
    pub live_bytes: u64,
}

/// Asks every shim of the node. Stale sockets are left out.
pub async fn list(shims: &Shims, migrations: &Migrations) -> Vec<PodInfo> {
    let asked = shims
        .list()
        .await
        .into_iter()
        .map(|(shim, pod)| async move { info(&shim, &pod, migrations).await });
    let mut pods = futures::future::join_all(asked).await;
    pods.sort_by(|a, b| {
        (&a.namespace, &a.name, &a.sandbox).cmp(&(&b.namespace, &b.name, &b.sandbox))
    });
    pods
}

async fn info(shim: &Shim, pod: &DescribeReply, migrations: &Migrations) -> PodInfo {
    let (migration, role, entangled) = part(pod, migrations);
    let mut obstacles = lasting_obstacles(pod);
    obstacles.extend(entangled);
    if obstacles.is_empty() {
        match shim.preflight(false).await {
            Ok(found) => obstacles = found,
            Err(error) => obstacles.push(format!("preflight: {error}")),
        }
    }
    PodInfo {
        namespace: pod.pod_namespace.clone(),
        name: pod.pod_name.clone(),
        uid: pod.pod_uid.clone(),
        sandbox: pod.sandbox_id.clone(),
        addresses: pod.addresses.clone(),
        containers: pod
            .containers
            .iter()
            .filter(|container| !container.is_sandbox)
            .map(container_info)
            .collect(),
        migratable: obstacles.is_empty(),
        obstacles,
        migration,
        role: role.to_owned(),
        shim_pid: pod.shim_pid,
    }
}

/// A pod that is an image on this node.
pub fn parked(parked: &Parked) -> PodInfo {
    let container = |(name, digest): (&String, &String)| ContainerInfo {
        name: name.clone(),
        id: String::new(),
        state: "parked".to_owned(),
        pid: 0,
        image: digest.clone(),
        engine: String::new(),
        engine_why: String::new(),
        volumes: Vec::new(),
    };
    PodInfo {
        namespace: parked.namespace.clone(),
        name: parked.pod.clone(),
        uid: parked.uid.clone(),
        sandbox: parked.sandbox.clone(),
        addresses: Vec::new(),
        containers: parked.digests.iter().map(container).collect(),
        migratable: true,
        obstacles: Vec::new(),
        migration: parked.id.clone(),
        role: "parked".to_owned(),
        shim_pid: 0,
    }
}

/// The migration a pod is in, its part, and how that stands in the way of another one. A pod
/// that has arrived is free again.
fn part(pod: &DescribeReply, migrations: &Migrations) -> (String, &'static str, Option<String>) {
    let id = &pod.migration_id;
    let (role, side) = match pod.role.enum_value_or_default() {
        _ if id.is_empty() => return (String::new(), "", None),
        Role::ROLE_NONE => return (String::new(), "", None),
        Role::ROLE_SOURCE => ("source", Side::Source),
        Role::ROLE_DESTINATION => ("destination", Side::Destination),
    };
    let known = migrations.get(id, side).map(|handle| handle.snapshot());
    let phase = known.as_ref().map(|progress| progress.phase);
    let arrived = matches!(phase, Some(Phase::Relaying | Phase::Completed));
    if side == Side::Destination && arrived {
        return if phase == Some(Phase::Completed) {
            (String::new(), "", None)
        } else {
            (id.clone(), role, None)
        };
    }
    let held = pod.containers.iter().any(|container| {
        container.state.enum_value_or_default() == ContainerState::CONTAINER_STATE_HELD
    });
    let obstacle = if held {
        let peer = known.map_or_else(String::new, |progress| progress.peer);
        let place = if peer.is_empty() {
            "another node"
        } else {
            &peer
        };
        format!("it runs on {place} now: held here until it is deleted")
    } else {
        format!("in migration {id}")
    };
    (id.clone(), role, Some(obstacle))
}

/// What no waiting changes.
fn lasting_obstacles(pod: &DescribeReply) -> Vec<String> {
    if pod.pod_name.is_empty() {
        return vec![
            "not a Kubernetes pod: it checkpoints locally, it does not migrate".to_owned(),
        ];
    }
    let mut found = Vec::new();
    for container in pod.containers.iter().filter(|one| !one.is_sandbox) {
        for reason in &container.not_migratable {
            found.push(format!("{}: {reason}", container.name));
        }
    }
    found
}

fn container_info(container: &Container) -> ContainerInfo {
    ContainerInfo {
        name: container.name.clone(),
        id: container.id.clone(),
        state: state_words(container.state.enum_value_or_default()).to_owned(),
        pid: container.pid,
        image: container.image.clone(),
        engine: container.engine.clone(),
        engine_why: container.engine_why.clone(),
        volumes: container
            .mounts
            .iter()
            .filter(|mount| mount.moves && mount.destination != "/dev/shm")
            .map(volume_info)
            .collect(),
    }
}

fn volume_info(mount: &Mount) -> VolumeInfo {
    let size = |path: &str| machine::tree_size(Path::new(path));
    let (live, lower) = match mount.layers.split_last() {
        Some((upper, lower)) => (size(upper), lower.iter().map(|one| size(one)).sum()),
        None => (size(&mount.volume), 0),
    };
    VolumeInfo {
        destination: mount.destination.clone(),
        volume: mount.volume.clone(),
        layers: mount.layers.len(),
        plain_because: mount.plain_because.clone(),
        lower_bytes: lower,
        live_bytes: live,
    }
}

fn state_words(state: ContainerState) -> &'static str {
    match state {
        ContainerState::CONTAINER_STATE_UNKNOWN => "unknown",
        ContainerState::CONTAINER_STATE_CREATED => "created",
        ContainerState::CONTAINER_STATE_RUNNING => "running",
        ContainerState::CONTAINER_STATE_PAUSED => "paused",
        ContainerState::CONTAINER_STATE_EXITED => "exited",
        ContainerState::CONTAINER_STATE_WAITING => "waiting",
        ContainerState::CONTAINER_STATE_FROZEN => "frozen",
        ContainerState::CONTAINER_STATE_HELD => "held",
    }
}
