//! Parked pods: images without processes, that wait on this node for a pod which takes them over.
//!
//! A pod is parked when it is terminated with `mycedrive.io/on-terminate: park`, and when its shim
//! died while it was frozen and nothing else is left of it. A folder per parked pod, root only,
//! holds the memory images, copies of the trees that move, and what is needed to hand it over as
//! if it still ran here. The folder gets its name when everything in it is durable: from then on
//! the image is the pod, and the frozen processes may only be ended.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mycedrive_handover::away::{self, Away};
use mycedrive_proto::shim::{Container, ContainerState, DescribeReply};
use protobuf::Message as _;
use serde::{Deserialize, Serialize};

use crate::app::Shared;
use crate::error::{Error, Result};
use crate::progress::now_ns;
use crate::{destination, files, machine};

const FACTS: &str = "parked.json";
const DESCRIPTION: &str = "pod.pb";
const IMAGES: &str = "images";
/// Ending of a folder that is not whole.
const PARTIAL: &str = "partial";

/// A parked pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parked {
    /// Names it; also the id of the migration in which its processes were frozen.
    pub id: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its sandbox.
    pub sandbox: String,
    /// Why it was parked.
    pub reason: String,
    /// When, nanoseconds since 1970.
    pub parked_ns: u64,
    /// It is given up after this, nanoseconds since 1970.
    pub until_ns: u64,
    /// When its processes stood still, nanoseconds since 1970.
    pub frozen_at_ns: u64,
    /// Digests of its containers' images, by container name.
    pub digests: BTreeMap<String, String>,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Folder of all parked pods.
fn folder(app: &Shared) -> &Path {
    &app.config.park_dir
}

fn folder_of(app: &Shared, id: &str) -> PathBuf {
    folder(app).join(id)
}

fn partial_of(app: &Shared, id: &str) -> PathBuf {
    folder(app).join(format!("{id}.{PARTIAL}"))
}

/// Where the images of a pod are to be written that is about to be parked as `id`.
pub fn images_to_write(app: &Shared, id: &str) -> Result<PathBuf> {
    let partial = partial_of(app, id);
    remove_folder(&partial)?;
    let images = partial.join(IMAGES);
    files::make_private_dir(&images)?;
    Ok(images)
}

/// Makes a parked pod of what [`images_to_write`] got: durable, and the pod's only form, when this
/// returns. Its processes must stand still, and may only be ended afterwards.
pub async fn keep(
    app: &Shared,
    id: &str,
    pod: &DescribeReply,
    frozen_at_ns: u64,
    reason: &str,
) -> Result<Parked> {
    let mut digests = BTreeMap::new();
    for container in pod.containers.iter().filter(|one| !one.is_sandbox) {
        let digest = app
            .digests
            .of_container(&pod.containerd_namespace, &container.id)
            .await?;
        digests.insert(container.name.clone(), digest);
    }
    let time = app.config.migration.park_time;
    let mut parked = Parked {
        id: id.to_owned(),
        namespace: pod.pod_namespace.clone(),
        pod: pod.pod_name.clone(),
        uid: pod.pod_uid.clone(),
        sandbox: pod.sandbox_id.clone(),
        reason: reason.to_owned(),
        parked_ns: now_ns(),
        until_ns: now_ns().saturating_add(time.as_nanos() as u64),
        frozen_at_ns,
        digests,
        bytes: 0,
    };
    let (partial, whole, described) = (partial_of(app, id), folder_of(app, id), pod.clone());
    let parked = tokio::task::spawn_blocking(move || -> Result<Parked> {
        let description = with_copies(&described, &partial, &whole)?;
        let bytes = description
            .write_to_bytes()
            .map_err(|error| Error::Failed(format!("cannot describe a parked pod: {error}")))?;
        files::write_private(&partial.join(DESCRIPTION), &bytes)?;
        parked.bytes = machine::tree_size(&partial);
        let facts =
            serde_json::to_vec_pretty(&parked).map_err(|error| Error::Failed(error.to_string()))?;
        files::write_private(&partial.join(FACTS), &facts)?;
        sync(&partial)?;
        fs::rename(&partial, &whole).map_err(Error::io("cannot name", &whole))?;
        sync(&whole)?;
        Ok(parked)
    })
    .await
    .map_err(|error| Error::Failed(error.to_string()))??;
    tracing::warn!(
        id,
        pod = format!("{}/{}", parked.namespace, parked.pod),
        "parked"
    );
    Ok(parked)
}

/// The description with the trees that move copied into `partial`, and named as they will be in
/// `whole`.
fn with_copies(pod: &DescribeReply, partial: &Path, whole: &Path) -> Result<DescribeReply> {
    let mut pod = pod.clone();
    let mut copies: BTreeMap<String, String> = BTreeMap::new();
    let mut copy = |source: &str| -> Result<String> {
        if let Some(known) = copies.get(source) {
            return Ok(known.clone());
        }
        let name = format!("tree-{}", copies.len());
        let to = partial.join(&name);
        files::make_private_dir(&to)?;
        destination::copy_tree(Path::new(source), &to)?;
        let named = whole.join(&name).display().to_string();
        copies.insert(source.to_owned(), named.clone());
        Ok(named)
    };
    for container in pod.containers.iter_mut().filter(|one| was_running(one)) {
        container.state = ContainerState::CONTAINER_STATE_RUNNING.into();
        container.pid = 0;
        if !container.rootfs_upper.is_empty() {
            container.rootfs_upper = copy(&container.rootfs_upper)?;
        }
        for mount in container.mounts.iter_mut().filter(|mount| mount.moves) {
            if mount.layers.is_empty() {
                mount.volume = copy(&mount.volume)?;
                continue;
            }
            for layer in &mut mount.layers {
                *layer = copy(layer)?;
            }
        }
    }
    Ok(pod)
}

fn was_running(container: &Container) -> bool {
    !container.is_sandbox
        && matches!(
            container.state.enum_value_or_default(),
            ContainerState::CONTAINER_STATE_RUNNING | ContainerState::CONTAINER_STATE_FROZEN
        )
}

/// All that is in the file system of `path` is on its disk.
fn sync(path: &Path) -> Result<()> {
    files::sync_file_system(path).map_err(Error::io("cannot sync", path))
}

impl Parked {
    /// The parked pod of that id.
    pub fn read(app: &Shared, id: &str) -> Option<Self> {
        let text = fs::read(folder_of(app, id).join(FACTS)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// All of them, the newest first.
    pub fn all(app: &Shared) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder(app)) else {
            return Vec::new();
        };
        let mut all: Vec<Self> = entries
            .flatten()
            .filter_map(|entry| Self::read(app, entry.file_name().to_str()?))
            .collect();
        all.sort_by_key(|parked| std::cmp::Reverse(parked.parked_ns));
        all
    }

    /// The newest one of a pod's name.
    pub fn find(app: &Shared, namespace: &str, pod: &str) -> Option<Self> {
        let mut all = Self::all(app).into_iter();
        all.find(|parked| parked.namespace == namespace && parked.pod == pod)
    }

    /// The pod as if it still ran here; its trees are the copies.
    pub fn description(&self, app: &Shared) -> Result<DescribeReply> {
        let path = folder_of(app, &self.id).join(DESCRIPTION);
        let bytes = fs::read(&path).map_err(Error::io("cannot read", &path))?;
        DescribeReply::parse_from_bytes(&bytes).map_err(|error| {
            Error::Failed(format!("parked pod {}: {DESCRIPTION}: {error}", self.id))
        })
    }

    /// Folder of the memory images.
    pub fn images(&self, app: &Shared) -> PathBuf {
        folder_of(app, &self.id).join(IMAGES)
    }

    /// Removes the image: it was taken over, or given up.
    pub fn remove(&self, app: &Shared) -> Result<()> {
        let (whole, partial) = (folder_of(app, &self.id), partial_of(app, &self.id));
        // One step, so that nobody finds half of it.
        match fs::rename(&whole, &partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("cannot remove", &whole)(error));
            }
            _ => {}
        }
        remove_folder(&partial)
    }

    /// Its containers cannot start here any more.
    pub fn mark_away(&self, app: &Shared) -> Result<()> {
        let id = self.id.clone();
        mark_away(app, &self.uid, &Away::Parked { id })
    }
}

/// Nothing of the pod with this uid runs here any more, whatever kubelet does.
pub fn mark_away(app: &Shared, uid: &str, why: &Away) -> Result<()> {
    let run = &app.config.run_dir;
    away::write(run, uid, why).map_err(Error::io("cannot write in", away::folder(run)))
}

/// The pod may start here again.
pub fn unmark_away(app: &Shared, uid: &str) {
    away::remove(&app.config.run_dir, uid);
}

/// An operator gives a parked pod up.
pub fn give_up(app: &Shared, id: &str) -> Result<String> {
    let mut found: Vec<Parked> = Parked::all(app)
        .into_iter()
        .filter(|one| one.id == id || (id.len() >= 4 && one.id.starts_with(id)))
        .collect();
    let Some(parked) = found.pop().filter(|_| found.is_empty()) else {
        return Err(Error::Refused(format!(
            "no parked pod {id} on this node, or more than one: `mycedrive ps` lists them"
        )));
    };
    if let Some(migration) = taken_over_by(app, &parked.id) {
        return Err(Error::Refused(format!(
            "migration {migration} is taking the pod over: cancel or resolve that first"
        )));
    }
    parked.remove(app)?;
    unmark_away(app, &parked.uid);
    Ok(format!(
        "parked pod {}/{} ({}) is given up",
        parked.namespace, parked.pod, parked.id
    ))
}

/// The migration that is taking a parked pod over.
fn taken_over_by(app: &Shared, id: &str) -> Option<String> {
    app.source
        .all()
        .into_iter()
        .find(|one| one.details.parked.as_deref() == Some(id) && !one.state().is_final())
        .map(|one| one.details.id.clone())
}

/// Gives up those whose time is over.
pub fn expire(app: &Shared) {
    for parked in Parked::all(app) {
        if parked.until_ns < now_ns() && taken_over_by(app, &parked.id).is_none() {
            tracing::warn!(id = %parked.id, pod = %parked.pod, "a parked pod's time is over (migration.park_time)");
            match parked.remove(app) {
                Ok(()) => unmark_away(app, &parked.uid),
                Err(error) => tracing::warn!(%error, "cannot remove a parked pod"),
            }
        }
    }
}

/// At start: removes what is not whole, and says again which pods are parked.
pub fn recover(app: &Shared) {
    if let Ok(entries) = fs::read_dir(folder(app)) {
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == PARTIAL)
                && let Err(error) = remove_folder(&path)
            {
                tracing::warn!(%error, "an unfinished parked pod stays");
            }
        }
    }
    for parked in Parked::all(app) {
        if let Err(error) = parked.mark_away(app) {
            tracing::warn!(%error, id = %parked.id, "kubelet may start a parked pod from its image");
        }
    }
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}
