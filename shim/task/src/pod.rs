//! A pod: all containers that this shim runs.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use containerd_shim::ExitSignal;
use tokio::sync::OnceCell;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::migration::Situation;
use crate::runc::Runc;
use crate::spec::{Spec, annotation};

/// What the pod's first container tells about the pod. For a task that `ctr` made the sandbox
/// id is the container's id and the Kubernetes names are empty.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    /// Id of the sandbox.
    pub sandbox_id: String,
    /// Whether CRI made it.
    pub is_kubernetes: bool,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod.
    pub uid: String,
    /// Path of its network namespace; None: the host's, or one that only runc knows.
    pub netns: Option<PathBuf>,
    /// Its `mycedrive.io/*` annotations.
    pub annotations: BTreeMap<String, String>,
}

impl PodFacts {
    /// From the spec of the container `id`.
    pub fn of(id: &str, spec: &Spec) -> Self {
        let text = |key| spec.annotation(key).unwrap_or_default().to_owned();
        let sandbox = spec.annotation(annotation::SANDBOX_ID);
        Self {
            sandbox_id: sandbox.unwrap_or(id).to_owned(),
            is_kubernetes: sandbox.is_some(),
            namespace: text(annotation::SANDBOX_NAMESPACE),
            name: text(annotation::SANDBOX_NAME),
            uid: text(annotation::SANDBOX_UID),
            netns: spec.namespace_path("network").map(PathBuf::from),
            annotations: spec.annotations(annotation::OURS),
        }
    }
}

/// A container that ended and was deleted, such as an init container: containerd deletes the task at
/// its end, kubelet keeps the container. A destination must not run it again.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// Name of its image.
    pub image: String,
    /// Its spec.
    pub spec: Spec,
    /// How it ended.
    pub exit_code: u32,
}

/// A pod.
pub struct Pod {
    /// containerd namespace.
    pub containerd_namespace: String,
    /// Where events go.
    pub events: Events,
    /// Ends the shim.
    pub exit: Arc<ExitSignal>,
    /// What the migration code keeps.
    pub migration: Situation,
    facts: OnceLock<PodFacts>,
    containers: Mutex<HashMap<String, Arc<Container>>>,
    ended: Mutex<BTreeMap<String, Ended>>,
    time_namespaces: OnceCell<bool>,
}

impl Pod {
    /// A pod without containers.
    pub fn new(containerd_namespace: String, events: Events, exit: Arc<ExitSignal>) -> Self {
        Self {
            containerd_namespace,
            events,
            exit,
            migration: Situation::default(),
            facts: OnceLock::new(),
            containers: Mutex::default(),
            ended: Mutex::default(),
            time_namespaces: OnceCell::new(),
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<Container>>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the pod; None before its first container.
    pub fn facts(&self) -> Option<&PodFacts> {
        self.facts.get()
    }

    /// Takes the facts from the first container; later ones change nothing.
    pub fn learn(&self, facts: PodFacts) {
        let _ = self.facts.set(facts);
    }

    /// A container by its id.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.map()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("container {id}")))
    }

    /// All containers, the sandbox first, then by name.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = self.map().values().cloned().collect();
        all.sort_by(|a, b| (!a.is_sandbox, &a.name, &a.id).cmp(&(!b.is_sandbox, &b.name, &b.id)));
        all
    }

    /// Whether no container is left.
    pub fn is_empty(&self) -> bool {
        self.map().is_empty()
    }

    /// Adds a container.
    pub fn add(&self, container: Arc<Container>) -> Result<()> {
        let mut map = self.map();
        if map.contains_key(&container.id) {
            return Err(Error::AlreadyExists(container.init.name.clone()));
        }
        map.insert(container.id.clone(), container);
        Ok(())
    }

    /// Remembers how a container ended, the last one of a name only.
    pub fn remember(&self, ended: Ended) {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(ended.name.clone(), ended);
    }

    /// Containers that ended, were deleted and have no successor of their name.
    pub fn ended(&self) -> Vec<Ended> {
        let mut ended = self
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for container in self.map().values() {
            ended.remove(&container.name);
        }
        ended.into_values().collect()
    }

    /// Removes a container.
    pub fn remove(&self, id: &str) {
        self.map().remove(id);
    }

    /// Whether the OCI runtime can give a container a time namespace (runc 1.2). Asked once.
    pub async fn has_time_namespaces(&self, runc: &Runc) -> bool {
        *self
            .time_namespaces
            .get_or_init(|| async { runc.has_namespace("time").await })
            .await
    }
}
