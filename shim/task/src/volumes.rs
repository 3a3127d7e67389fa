//! A container's volumes: mounted as stacks where that can be (crate `mycedrive-volume`), and
//! folded back after the last container that uses them.

use std::path::Path;
use std::sync::Arc;

use mycedrive_proto::shim::Mount;
use mycedrive_volume::attach::{Attached, Attachments, User, Want};
use tracing::{info, warn};

use crate::container::Container;
use crate::error::Result;
use crate::migration::{blocking, mounts};
use crate::pod::Pod;
use crate::spec::Spec;

/// `remove` or `keep` (the default): what becomes of this node's copies of the volumes of a pod
/// that has moved.
const SOURCE_VOLUMES: &str = "mycedrive.io/source-volumes";

/// How one volume of a container is mounted.
#[derive(Clone, Debug)]
#[allow(clippy::struct_field_names)]
pub struct Volume {
    /// Where the container sees it.
    pub destination: String,
    /// Its directory on this node.
    pub volume: String,
    /// Why it is no stack, if it is none.
    pub plain_because: Option<String>,
}

/// Mounts the stacks of a container's volumes and lets its spec mount them instead of the
/// volumes. The container does not exist yet. After an error nothing is mounted for it.
pub async fn attach(pod: &Pod, container: &Arc<Container>, want: Want) -> Result<()> {
    if container.is_sandbox {
        return Ok(());
    }
    let user = user(pod, container);
    let attached = container.clone();
    let result = blocking(move || attach_all(&attached, &user, want)).await;
    if result.is_err() {
        detach(pod, container, After::End).await;
    }
    result
}

/// What becomes of a stack that nobody uses any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The container has ended: it is folded back.
    End,
    /// A restore was undone, nothing ran: its layers stay received.
    Undo,
}

/// A container does not use its volumes any more; nothing of it runs. A volume that cannot be
/// folded back now is left to the node daemon.
pub async fn detach(pod: &Pod, container: &Arc<Container>, after: After) {
    let volumes = container.take_volumes();
    if volumes.is_empty() {
        return;
    }
    let user = user(pod, container);
    let work = move || {
        let all = Attachments::of_node();
        for one in volumes.iter().filter(|one| one.plain_because.is_none()) {
            let volume = Path::new(&one.volume);
            let done = match after {
                After::End => all.detach(volume, &user),
                After::Undo => all.give_back(volume, &user),
            };
            match done {
                Ok(folded) => info!(volume = one.volume, folded, "volume not used any more"),
                Err(error) => warn!(volume = one.volume, %error, "a volume stays a stack"),
            }
        }
        Ok(())
    };
    if let Err(error) = blocking(work).await {
        warn!(id = %container.id, %error, "volumes stay stacks");
    }
}

/// The pod runs on another node and its annotation says that this one's copies of its volumes
/// are to go ([`SOURCE_VOLUMES`]); no container uses them any more.
pub async fn remove_copies(pod: &Pod, containers: &[Arc<Container>]) {
    let wanted = pod
        .facts()
        .and_then(|facts| facts.annotations.get(SOURCE_VOLUMES))
        .is_some_and(|value| value == "remove");
    if !wanted {
        return;
    }
    let mut volumes: Vec<String> = Vec::new();
    for container in containers {
        let moved = mounts::of(&container.spec).into_iter();
        let moved = moved.filter(|mount| mount.moves && mount.destination != "/dev/shm");
        volumes.extend(moved.map(|mount| mount.volume));
        detach(pod, container, After::End).await;
    }
    volumes.sort();
    volumes.dedup();
    let work = move || {
        for volume in volumes {
            match Attachments::of_node().remove_content(Path::new(&volume)) {
                Ok(()) => info!(volume, "the copy of a volume that has moved is removed"),
                Err(error) => warn!(volume, %error, "the copy of a volume stays"),
            }
        }
        Ok(())
    };
    if let Err(error) = blocking(work).await {
        warn!(%error, "copies of volumes stay");
    }
}

fn attach_all(container: &Container, user: &User, want: Want) -> Result<()> {
    let mut spec = Spec::load(&container.bundle)?;
    for mount in mounts::of(&container.spec) {
        if !mount.moves {
            continue;
        }
        let (source, plain_because) = match mounts::not_a_stack(&container.spec, &mount) {
            Some(reason) if mount.destination == "/dev/shm" => (None, Some(reason)),
            reason => attach_one(user, &mount, want, reason)?,
        };
        container.add_volume(Volume {
            destination: mount.destination.clone(),
            volume: mount.volume.clone(),
            plain_because,
        });
        let source = source.unwrap_or_else(|| mount.source.clone().into());
        spec.set_mount_source(&mount.destination, &source);
    }
    spec.save(&container.bundle)
}

fn attach_one(
    user: &User,
    mount: &Mount,
    want: Want,
    reason: Option<String>,
) -> Result<(Option<std::path::PathBuf>, Option<String>)> {
    let all = Attachments::of_node();
    let volume = Path::new(&mount.volume);
    if let Some(reason) = reason {
        all.make_plain(volume)?;
        return Ok((None, Some(reason)));
    }
    Ok(match all.attach(volume, user, want)? {
        Attached::Stack(path) if mount.beneath.is_empty() => (Some(path), None),
        Attached::Stack(_) => (
            Some(all.directory(volume, Path::new(&mount.beneath))?),
            None,
        ),
        Attached::Plain(reason) => {
            info!(mount.volume, reason, "mounted as it is");
            (None, Some(reason))
        }
    })
}

fn user(pod: &Pod, container: &Container) -> User {
    let facts = pod.facts();
    User {
        sandbox: facts.map_or_else(|| container.id.clone(), |facts| facts.sandbox_id.clone()),
        container: container.id.clone(),
    }
}
