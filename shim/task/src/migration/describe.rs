//! What runs here.

use std::path::Path;

use mycedrive_proto::shim::{self, ContainerState, DescribeReply};
use protobuf::MessageField;

use super::state::Migration;
use super::{Migrator, confinement, mounts};
use crate::container::Container;
use crate::error::Result;
use crate::pod::Ended;
use crate::spec::annotation;
use crate::state::State;

impl Migrator {
    /// Answers Describe. Changes nothing.
    pub(super) async fn describe(&self) -> Result<DescribeReply> {
        let mut reply = DescribeReply {
            containerd_namespace: self.pod.containerd_namespace.clone(),
            shim_pid: std::process::id() as i32,
            ..DescribeReply::default()
        };
        if let Some(facts) = self.pod.facts() {
            reply.sandbox_id.clone_from(&facts.sandbox_id);
            reply.pod_namespace.clone_from(&facts.namespace);
            reply.pod_name.clone_from(&facts.name);
            reply.pod_uid.clone_from(&facts.uid);
            reply.annotations.extend(facts.annotations.clone());
        }
        for container in self.pod.containers() {
            reply.containers.push(self.message(&container));
        }
        reply.containers.extend(self.pod.ended().iter().map(ended));
        if let Some(netns) = self.netns() {
            reply.netns = netns.display().to_string();
            match self.network(mycedrive_connection::PodNet::addresses).await {
                Ok(addresses) => {
                    reply.addresses = addresses.iter().map(ToString::to_string).collect();
                }
                // The pod is being taken down.
                Err(error) => tracing::debug!(%error, "no addresses"),
            }
        }
        let state = self.state();
        reply.migration_id = state.id().unwrap_or_default().to_owned();
        reply.role = state.role().into();
        Ok(reply)
    }

    /// One container, as the daemon sees it.
    pub(super) fn message(&self, container: &Container) -> shim::Container {
        let state = container.init.state();
        let carrier = container.carrier();
        let mut obstacles: Vec<String> = not_migratable(container).into_iter().collect();
        match &carrier.engine {
            // The port is that of a coordinator whose processes have our plugin.
            Some(engine) if engine.suspends() && engine.loopback_port().is_none() => obstacles
                .push(
                    "it runs under DMTCP without libmycedrive_dmtcp.so, which is not installed \
                     beside the shim: it can be checkpointed on its node only"
                        .to_owned(),
                ),
            None if !container.is_sandbox && !carrier.why.is_empty() => {
                obstacles.push(format!("no engine: {}", carrier.why));
            }
            _ => {}
        }
        shim::Container {
            id: container.id.clone(),
            name: container.name.clone(),
            is_sandbox: container.is_sandbox,
            state: state_message(state, &self.state()).into(),
            pid: container.reported_pid() as i32,
            exit_code: match state {
                State::Exited(exit) => exit.code,
                _ => 0,
            },
            image: container.image_name().to_owned(),
            engine: carrier
                .engine
                .map_or("none", |engine| engine.kind().name())
                .to_owned(),
            engine_why: carrier.why,
            not_migratable: obstacles,
            rootfs_upper: container.rootfs_upper().unwrap_or_default().to_owned(),
            rootfs_lowers: container.rootfs_lowers(),
            mounts: mounts_of(container),
            confinement: MessageField::some(confinement::of(&container.spec)),
            bundle: container.bundle.display().to_string(),
            ..shim::Container::default()
        }
    }
}

/// A container's mounts, with what became of its volumes.
fn mounts_of(container: &Container) -> Vec<shim::Mount> {
    let mut all = mounts::of(&container.spec);
    for volume in container.volumes() {
        let mount = all
            .iter_mut()
            .find(|mount| mount.destination == volume.destination);
        let Some(mount) = mount else { continue };
        mount.plain_because = volume.plain_because.clone().unwrap_or_default();
        if volume.plain_because.is_none() {
            match mycedrive_volume::layers(Path::new(&volume.volume)) {
                Ok(layers) => {
                    mount.layers = layers.iter().map(|one| one.display().to_string()).collect();
                }
                Err(error) => tracing::warn!(%error, "layers cannot be listed"),
            }
        }
    }
    all
}

/// A container of which only the end is known.
fn ended(ended: &Ended) -> shim::Container {
    shim::Container {
        id: ended.id.clone(),
        name: ended.name.clone(),
        state: ContainerState::CONTAINER_STATE_EXITED.into(),
        exit_code: ended.exit_code,
        image: ended.image.clone(),
        engine: "none".to_owned(),
        confinement: MessageField::some(confinement::of(&ended.spec)),
        ..shim::Container::default()
    }
}

/// What already the spec rules out. The rest is Preflight's.
fn not_migratable(container: &Container) -> Option<String> {
    if container.is_sandbox {
        return None;
    }
    if container.spec.annotation(annotation::SANDBOX_ID).is_none() {
        return Some("it is not part of a pod; it can be checkpointed on this node".to_owned());
    }
    if !container.spec.has_namespace("network") {
        return Some("it uses the host's network; set hostNetwork: false".to_owned());
    }
    if !container.spec.has_own_pid_namespace() {
        return Some(
            "it shares a pid namespace; set hostPID and shareProcessNamespace to false".to_owned(),
        );
    }
    None
}

fn state_message(state: State, migration: &Migration) -> ContainerState {
    match state {
        State::Created => ContainerState::CONTAINER_STATE_CREATED,
        State::Running => ContainerState::CONTAINER_STATE_RUNNING,
        State::Paused => ContainerState::CONTAINER_STATE_PAUSED,
        State::Waiting => ContainerState::CONTAINER_STATE_WAITING,
        // Restored on a destination: it still waits for RUN.
        State::Frozen if matches!(migration, Migration::Destination(_)) => {
            ContainerState::CONTAINER_STATE_WAITING
        }
        State::Frozen => ContainerState::CONTAINER_STATE_FROZEN,
        State::Held => ContainerState::CONTAINER_STATE_HELD,
        State::Exited(_) => ContainerState::CONTAINER_STATE_EXITED,
        State::Deleted => ContainerState::CONTAINER_STATE_UNKNOWN,
    }
}
