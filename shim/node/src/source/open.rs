//! Open: authorise a destination and describe the pod. Nothing of the pod is touched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mycedrive_engine::EngineKind;
use mycedrive_proto::PROTOCOL;
use mycedrive_proto::migration::{ContainerSpec, Manifest, OpenRequest, SourceContainer};
use mycedrive_proto::shim::{Container, ContainerState};
use tonic::Status;

use super::migration::{Details, Migration, lock};
use super::refusal::Refusal;
use super::subject::{Place, Subject};
use super::trees::{Described, Trees};
use super::watch;
use crate::app::Shared;
use crate::peers::PeerInfo;
use crate::relay::Token;
use crate::shims::app_containers;
use crate::{confinement, files, machine};

const MIB: u64 = 1 << 20;

/// Authorises, or says why not. Asked again, it authorises the containers that were added.
pub async fn open(app: &Shared, peer: &PeerInfo, request: OpenRequest) -> Result<Manifest, Status> {
    plausible(&request)?;
    let subject = Subject::find(app, &request.pod_namespace, &request.pod_name).await?;
    let named = format!("{}/{}", request.pod_namespace, request.pod_name);
    let containers = app_containers(&subject.pod);
    let known = app.source.get(&request.migration_id);
    if let Some(migration) = &known {
        belongs(migration, peer)?;
        migration.touch();
    } else {
        may_begin(app, &subject, &named, &request).await?;
    }
    for spec in &request.containers {
        authorise(app, &subject, &named, &containers, spec).await?;
    }
    let running: Vec<&Container> = containers
        .values()
        .copied()
        .filter(|one| runs(one))
        .collect();
    let memory = if let Some(parked) = subject.parked() {
        machine::tree_size(&parked.images(app))
    } else {
        let memory = running.iter().map(|one| machine::memory_of(one.pid)).sum();
        has_room(app, memory)?;
        memory
    };
    let migration = match known {
        Some(migration) => migration,
        None => begin(app, peer, &request, &subject, &running)?,
    };
    lock(&migration.authorised).extend(request.containers.iter().map(|one| one.name.clone()));
    let manifest = describe(app, &migration, &subject, &containers, memory).await?;
    Ok(manifest)
}

/// A call about a migration comes from the node that opened it.
pub fn belongs(migration: &Migration, peer: &PeerInfo) -> Result<(), Refusal> {
    if migration.details.peer == peer.name {
        return Ok(());
    }
    Err(Refusal::Stranger {
        migration: migration.details.id.clone(),
        owner: migration.details.peer.clone(),
        caller: peer.name.clone(),
    })
}

fn plausible(request: &OpenRequest) -> Result<(), Refusal> {
    if request.protocol != PROTOCOL {
        return Err(Refusal::Protocol {
            ours: PROTOCOL,
            theirs: request.protocol,
        });
    }
    let id = &request.migration_id;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if id.len() < 8 || id.len() > 64 || !id.bytes().all(allowed) {
        return Err(Refusal::Malformed("the migration's id"));
    }
    if crate::peers::split_endpoint(&request.destination_endpoint).is_none() {
        return Err(Refusal::Malformed("the destination's endpoint"));
    }
    if request.pod_namespace != request.destination_namespace {
        return Err(Refusal::Namespace {
            pod: request.pod_name.clone(),
            namespace: request.pod_namespace.clone(),
            destination: request.destination_namespace.clone(),
        });
    }
    Ok(())
}

/// A new migration of this pod may begin.
async fn may_begin(
    app: &Shared,
    subject: &Subject,
    named: &str,
    request: &OpenRequest,
) -> Result<(), Status> {
    let pod = &subject.pod;
    let under_way = app
        .source
        .all()
        .iter()
        .filter(|one| !one.state().is_final())
        .count();
    if under_way >= app.config.migration.max_parallel as usize {
        return Err(Refusal::Busy(app.config.migration.max_parallel).into());
    }
    for other in app.source.open_of(&pod.sandbox_id) {
        if !watch::give_up_unfrozen(app, &other).await {
            return Err(Refusal::Migrating {
                pod: named.to_owned(),
                migration: other.details.id.clone(),
                destination: other.details.peer.clone(),
            }
            .into());
        }
    }
    if pod.netns.is_empty() {
        return Err(Refusal::HostNetwork(named.to_owned()).into());
    }
    let mut obstacles = vec![];
    for (name, container) in app_containers(pod) {
        match container.state.enum_value_or_default() {
            ContainerState::CONTAINER_STATE_RUNNING => {
                let reasons = container.not_migratable.iter();
                obstacles.extend(reasons.map(|reason| format!("container {name}: {reason}")));
            }
            ContainerState::CONTAINER_STATE_EXITED => {}
            ContainerState::CONTAINER_STATE_HELD => {
                return Err(Refusal::Moved(named.to_owned()).into());
            }
            other => {
                let state = format!("{other:?}")
                    .trim_start_matches("CONTAINER_STATE_")
                    .to_ascii_lowercase();
                let container = name.to_owned();
                return Err(Refusal::State { container, state }.into());
            }
        }
    }
    if obstacles.is_empty()
        && let Place::Shim(shim) = &subject.place
    {
        obstacles = shim.preflight(false).await?;
    }
    if !obstacles.is_empty() {
        let text = format!("pod {named} cannot move now: {}", obstacles.join("; "));
        return Err(Refusal::Obstacles(text).into());
    }
    tracing::debug!(migration = %request.migration_id, pod = named, "may begin");
    Ok(())
}

async fn authorise(
    app: &Shared,
    subject: &Subject,
    named: &str,
    containers: &BTreeMap<&str, &Container>,
    spec: &ContainerSpec,
) -> Result<(), Status> {
    let name = spec.name.clone();
    let Some(container) = containers.get(name.as_str()) else {
        let names: Vec<&str> = containers.keys().copied().collect();
        return Err(Refusal::UnknownContainer {
            container: name,
            pod: named.to_owned(),
            names: names.join(", "),
        }
        .into());
    };
    let digest = subject.digest(app, container).await?;
    if digest != spec.image_digest {
        return Err(Refusal::Image {
            container: name,
            ours: digest,
            theirs: spec.image_digest.clone(),
        }
        .into());
    }
    if !runs(container) {
        return Ok(());
    }
    let ours = confinement::canonical(&container.confinement);
    let differences = confinement::differences(&ours, &spec.confinement);
    if !differences.is_empty() {
        return Err(Refusal::Confinement {
            container: name,
            differences: differences.join("; "),
        }
        .into());
    }
    for mount in container.mounts.iter().filter(|mount| mount.moves) {
        if !spec.mount_destinations.contains(&mount.destination) {
            return Err(Refusal::Mount {
                container: name,
                mount: mount.destination.clone(),
            }
            .into());
        }
    }
    Ok(())
}

fn has_room(app: &Shared, memory: u64) -> Result<(), Status> {
    let folder = &app.config.image_dir;
    files::make_private_dir(folder)?;
    let free = machine::free_space(folder)?;
    let needed = memory + memory / 8 + 16 * MIB;
    if free < needed {
        return Err(Refusal::Space {
            free: free / MIB,
            needed: needed / MIB,
            folder: folder.display().to_string(),
        }
        .into());
    }
    Ok(())
}

fn begin(
    app: &Shared,
    peer: &PeerInfo,
    request: &OpenRequest,
    subject: &Subject,
    running: &[&Container],
) -> Result<Arc<Migration>, Status> {
    let pod = &subject.pod;
    let limit = [request.bandwidth, app.config.migration.bandwidth]
        .into_iter()
        .filter(|rate| *rate > 0)
        .min();
    let details = Details {
        id: request.migration_id.clone(),
        sandbox: pod.sandbox_id.clone(),
        namespace: pod.pod_namespace.clone(),
        pod: pod.pod_name.clone(),
        netns: pod.netns.clone(),
        addresses: pod.addresses.clone(),
        peer: peer.name.clone(),
        endpoint: request.destination_endpoint.clone(),
        destination: format!(
            "{}/{}",
            request.destination_namespace, request.destination_name
        ),
        relay_token: Token::random(),
        uid: pod.pod_uid.clone(),
        parked: subject.parked().map(|parked| parked.id.clone()),
        // The image of a parked pod has none.
        keep_connections: request.keep_connections && subject.parked().is_none(),
        bandwidth: limit.unwrap_or(0),
    };
    let migration = Migration::open(app, details, Trees::of(running))?;
    app.source.insert(migration.clone());
    watch::expire(app, &migration);
    migration
        .handle
        .event("open", format!("asked by {}", migration.details.peer));
    Ok(migration)
}

async fn describe(
    app: &Shared,
    migration: &Arc<Migration>,
    subject: &Subject,
    containers: &BTreeMap<&str, &Container>,
    memory: u64,
) -> Result<Manifest, Status> {
    let trees = migration.trees.clone();
    let (described, tree_bytes) = tokio::task::spawn_blocking(move || {
        let mut trees = lock(&trees);
        let bytes = trees.measure();
        let names = trees.containers().keys();
        let described: BTreeMap<String, Described> = names
            .map(|name| (name.clone(), trees.describe(name)))
            .collect();
        (described, bytes)
    })
    .await
    .map_err(|error| Status::internal(error.to_string()))?;
    let mut listed = vec![];
    for (name, container) in containers {
        let digest = subject.digest(app, container).await?;
        let trees = described.get(*name).cloned().unwrap_or_default();
        listed.push(SourceContainer {
            name: (*name).to_owned(),
            exited: !runs(container),
            exit_code: container.exit_code,
            engine: container.engine.clone(),
            image_digest: digest,
            confinement: confinement::canonical(&container.confinement),
            trees: trees.names,
            layers: trees.layers,
            tree_bytes: trees.bytes,
            streams: streams(container),
        });
    }
    let details = &migration.details;
    let (relay_token, earlier) = if details.keep_connections {
        let earlier = crate::destination::earlier_routes(app, &subject.pod.sandbox_id);
        (details.relay_token.reveal(), earlier)
    } else {
        Default::default()
    };
    Ok(Manifest {
        protocol: PROTOCOL,
        node_name: app.config.node_name.clone(),
        containers: listed,
        addresses: subject.pod.addresses.clone(),
        kernel: machine::kernel(),
        cpu_features: machine::cpu_features(),
        criu_version: machine::criu_version().await,
        dmtcp_version: machine::dmtcp_version(&app.config).await,
        memory_bytes: memory,
        tree_bytes,
        relay_token,
        earlier,
        parked: subject.parked().is_some(),
    })
}

/// Whether a container's processes run (or are frozen for this migration).
fn runs(container: &Container) -> bool {
    matches!(
        container.state.enum_value_or_default(),
        ContainerState::CONTAINER_STATE_RUNNING | ContainerState::CONTAINER_STATE_FROZEN
    )
}

/// Where the images of the dump go on the source.
pub fn images(app: &Shared, id: &str) -> std::path::PathBuf {
    let mut folder = app.config.images_of(id).into_os_string();
    folder.push(".out");
    Path::new(&folder).to_owned()
}

/// What the standard streams of a container under CRIU lead to, as runc writes it into an image.
fn streams(container: &Container) -> Vec<String> {
    if container.engine != EngineKind::Criu.name() || !runs(container) {
        return Vec::new();
    }
    let of = |number| fs::read_link(format!("/proc/{}/fd/{number}", container.pid));
    let links: io::Result<Vec<_>> = (0..3).map(of).collect();
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    links.map_or_else(
        |_| Vec::new(),
        |links| links.into_iter().map(text).collect(),
    )
}
