//! The shim's side of a migration.
//!
//! - [`Situation`] is what a pod remembers: the part that it plays ([`state`]). The steps that
//!   the node daemon asks for are in [`source`] (freeze, resume, discard), [`dump`] and
//!   [`destination`] (adopt, restore, run, abort), which makes all containers in [`restoring`];
//!   [`service()`] offers them over ttrpc.
//! - [`start`] is what the Task API asks: whether a container waits, what became of it, where a
//!   held pod runs. [`local`] is checkpoint and restore on this node alone. [`signals`] is what
//!   becomes of a Kill while nothing of the pod may run; [`park`] of one that ends the pod.
//! - [`choice`]: which engine carries a container, as the pod or [`node_config`] says; [`preflight`]: whether the pod could leave now;
//!   [`groups`]: who stops containers together; [`volume`]: a layer of a volume of a pod that stands
//!   still for it.
//! - [`stopped`] is the proof that restored processes have not run; [`left`] is what remains of a
//!   frozen pod when its shim dies.
//! - [`logs`]: where the engines' logs go.
//! - [`describe`], [`confinement`], [`mounts`]: what runs here, for the daemons to compare.

mod choice;
mod confinement;
mod daemon;
mod describe;
mod destination;
mod dump;
mod for_cri;
mod groups;
pub mod left;
mod local;
mod logs;
pub mod mounts;
mod node_config;
pub mod park;
mod preflight;
mod restoring;
mod runner;
mod service;
mod signals;
mod source;
mod start;
mod state;
mod still;
mod stopped;
mod volume;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mycedrive_connection::PodNet;
use mycedrive_engine::{Engine, EngineKind, Runtime, Target};
use mycedrive_handover::fault::{self, FaultPoint};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::pod::Pod;

pub use choice::choose;
pub use local::{CheckpointRequest, check, checkpoint, restore};
pub use service::service;
pub use signals::kill;
pub use start::{
    Arrival, arrive, away, going, hold_created, is_destination, is_frozen, leave,
    refuse_when_frozen,
};
use state::Migration;

/// What a pod remembers of its migrations.
pub struct Situation {
    criu: Arc<dyn Engine>,
    dmtcp: Arc<dyn Engine>,
    /// Held over each step, so that they do not overlap.
    step: tokio::sync::Mutex<()>,
    state: Mutex<Migration>,
    /// A freeze is under way: no container starts. Set before a freeze looks at the containers.
    freezing: AtomicBool,
    /// The daemon parks the pod.
    parking: AtomicBool,
    /// Ids of the containers whose dumps were begun; see [`dump`].
    begun: Mutex<HashSet<String>>,
    /// Signals for containers that stand still, by container id; see [`signals`].
    signals: Mutex<HashMap<String, u32>>,
}

impl Default for Situation {
    fn default() -> Self {
        let dmtcp = node_config::dmtcp_prefix(&node_config::text());
        let engine = |kind| mycedrive_engine::engine(kind, Arc::new(runner::Reaped), dmtcp.clone());
        Self {
            criu: engine(EngineKind::Criu),
            dmtcp: engine(EngineKind::Dmtcp),
            step: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
            freezing: AtomicBool::new(false),
            parking: AtomicBool::new(false),
            begun: Mutex::default(),
            signals: Mutex::default(),
        }
    }
}

impl Situation {
    /// One of the pod's engines.
    pub fn engine(&self, kind: EngineKind) -> Arc<dyn Engine> {
        match kind {
            EngineKind::Criu => self.criu.clone(),
            EngineKind::Dmtcp => self.dmtcp.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Migration> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signals(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what is noted of a pod that has ended.
pub fn forget_notes(sandbox_id: &str) {
    left::remove(sandbox_id);
    if let Err(error) = stopped::remove(sandbox_id) {
        tracing::warn!(%error, "a note stays");
    }
}

/// Does a pod's migrations.
struct Migrator {
    pod: Arc<Pod>,
}

impl Migrator {
    fn of(pod: &Arc<Pod>) -> Arc<Self> {
        Arc::new(Self { pod: pod.clone() })
    }

    fn state(&self) -> MutexGuard<'_, Migration> {
        self.pod.migration.state()
    }

    /// Id of the sandbox.
    fn sandbox(&self) -> &str {
        self.pod.facts().map_or("", |facts| &facts.sandbox_id)
    }

    /// The containers that a migration moves.
    fn apps(&self) -> Vec<Arc<Container>> {
        let mut apps = self.pod.containers();
        apps.retain(|container| !container.is_sandbox);
        apps
    }

    /// Path of the pod's network namespace; `None` when it is the host's, or one that runc made
    /// and nobody has a path to.
    fn netns(&self) -> Option<&Path> {
        self.pod.facts()?.netns.as_deref()
    }

    /// As [`Self::network`]; does nothing in a pod without a network namespace that can be named.
    /// Such a pod never moves with its connections.
    async fn own_network(
        &self,
        work: impl FnOnce(&PodNet) -> mycedrive_connection::Result<()> + Send + 'static,
    ) -> Result<()> {
        match self.netns() {
            Some(_) => self.network(work).await,
            None => Ok(()),
        }
    }

    /// Works inside the pod's network namespace, on a thread that may block.
    async fn network<T: Send + 'static>(
        &self,
        work: impl FnOnce(&PodNet) -> mycedrive_connection::Result<T> + Send + 'static,
    ) -> Result<T> {
        let netns = self.netns().map(Path::to_owned).ok_or_else(|| {
            Error::Precondition(
                "the pod has no network namespace of its own, so its addresses cannot move"
                    .to_owned(),
            )
        })?;
        let port = self.loopback_port();
        blocking(move || Ok(work(&open(&netns, port)?)?)).await
    }

    /// DMTCP's coordinator goes on talking to the processes while the network is locked.
    fn loopback_port(&self) -> Option<u16> {
        self.pod.migration.dmtcp.loopback_port()
    }
}

/// A pod's network, in whose lock a port on the loopback interface is left open.
fn open(netns: &Path, port: Option<u16>) -> mycedrive_connection::Result<PodNet> {
    let net = PodNet::open(netns)?;
    Ok(match port {
        Some(port) => net.with_loopback_port(port),
        None => net,
    })
}

/// A container as the engine needs to see it.
pub fn target(container: &Container) -> Target {
    Target {
        id: container.id.clone(),
        name: container.name.clone(),
        bundle: container.bundle.clone(),
        runtime: Runtime {
            binary: container.runc.binary().to_owned(),
            root: container.runc.root().to_owned(),
            systemd_cgroup: container.options.systemd_cgroup,
            no_pivot: container.options.no_pivot_root,
        },
        terminal: container.init.stdio.terminal,
    }
}

/// Runs `work` on a thread that may block: this thread also reaps and serves.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Unavailable(format!(
            "a helper thread ended: {error}"
        ))),
    }
}

/// Runs `work` to its end even when the one who asked goes away.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Unavailable(format!("a helper task ended: {error}"))),
    }
}

/// A place where tests break things.
async fn hit(point: FaultPoint) -> Result<()> {
    if fault::directory().is_none() {
        return Ok(());
    }
    blocking(move || Ok(fault::hit(point)?)).await
}

/// Refuses names that would lead out of the directory they are joined to.
fn plain_name(name: &str) -> Result<&str> {
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if plain {
        Ok(name)
    } else {
        Err(Error::Invalid(format!(
            "{name:?} is not usable as a name: letters, digits, '-', '_' and '.' are"
        )))
    }
}
