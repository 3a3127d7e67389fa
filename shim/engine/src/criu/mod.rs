//! CRIU, through the OCI runtime's `checkpoint` and `restore` (runc-checkpoint(8),
//! runc-restore(8), criu(8)).
//!
//! What the runtime has no flag for goes into a CRIU configuration file. The runtime hands CRIU
//! the file that the annotation `org.criu.config` names, and it keeps the annotations that the
//! container was created with. So [`Criu::prepare`](crate::Engine::prepare) sets the annotation
//! once, to a file in the bundle, and each operation writes the file first (`config`).
//!
//! Unix sockets that connect two containers need a plugin (`ends`, `plugins`), which is loaded only
//! for them.
//!
//! A restore always ends with every process stopped (`leave-stopped`): their rights are compared
//! with the spec before they run, and a migration lets them run only after its decision.

mod checkpoint;
mod config;
mod descriptors;
mod early;
pub(crate) mod ends;
mod gate;
pub(crate) mod ipc;
pub(crate) mod log;
mod lsm;
mod network;
mod obstacles;
mod plugins;
mod preload;
pub(crate) mod restore;
mod running;
pub(crate) mod runtime;
mod stopped;
mod tar;
mod version;

pub use running::dump_runs;
pub use tar::run_if_called as tar_if_called;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::OnceCell;

use self::early::Early;
use self::gate::Waiting;

use crate::{
    Capabilities, Checkpoint, Engine, EngineError, EngineKind, Member, Restore, Restored, Runner,
    Target, spec,
};

/// The annotation by which runc learns of a CRIU configuration file.
pub const CONFIG_ANNOTATION: &str = "org.criu.config";

/// The engine.
pub struct Criu {
    runner: Arc<dyn Runner>,
    version: OnceCell<String>,
    /// Dumps that were begun, by container id.
    begun: Mutex<HashMap<String, Waiting>>,
    /// Restores that were begun, by container id.
    early: Mutex<HashMap<String, Early>>,
}

impl Criu {
    /// An engine whose commands `runner` runs. Looks at nothing yet.
    pub fn new(runner: Arc<dyn Runner>) -> Self {
        Self {
            runner,
            version: OnceCell::new(),
            begun: Mutex::default(),
            early: Mutex::default(),
        }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> MutexGuard<'_, HashMap<String, Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Engine for Criu {
    fn kind(&self) -> EngineKind {
        EngineKind::Criu
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        let version = self
            .version
            .get_or_try_init(|| version::installed(&*self.runner))
            .await?;
        Ok(Capabilities {
            kind: EngineKind::Criu,
            version: version.clone(),
        })
    }

    async fn prepare(&self, target: &Target, spec: &mut Value) -> Result<(), EngineError> {
        let file = config::path(&target.bundle);
        let ours = file.to_string_lossy();
        match spec::annotation(spec, CONFIG_ANNOTATION) {
            // A spec that was prepared before, as of a container that is created again.
            Some(path) if path == ours => {}
            Some(_) => {
                return Err(EngineError::ReservedAnnotation {
                    container: target.name.clone(),
                    annotation: CONFIG_ANNOTATION,
                });
            }
            None => spec::set_annotation(spec, CONFIG_ANNOTATION, &ours),
        }
        // CRIU refuses a configuration file that is not there.
        config::write(&target.bundle, &config::Config::default())
    }

    fn obstacles(&self, target: &Target, pid: i32) -> Result<Vec<String>, EngineError> {
        obstacles::find(target, pid)
    }

    fn shared_obstacles(
        &self,
        target: &Target,
        pod: &[Member],
    ) -> Result<Vec<String>, EngineError> {
        let mut found = ends::obstacles(target, pod)?;
        found.extend(ipc::obstacles(target, pod)?);
        Ok(found)
    }

    async fn begin(&self, checkpoint: &Checkpoint) -> Result<(), EngineError> {
        self.forget(&checkpoint.target);
        let waiting = checkpoint::begin(&*self.runner, checkpoint).await?;
        self.begun().insert(checkpoint.target.id.clone(), waiting);
        Ok(())
    }

    fn forget(&self, target: &Target) {
        self.begun().remove(&target.id);
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), EngineError> {
        let begun = self.begun().remove(&checkpoint.target.id);
        let begun = begun.filter(|waiting| waiting.is_for(&checkpoint.image_dir));
        checkpoint::checkpoint(&*self.runner, checkpoint, begun).await
    }

    async fn begin_restore(
        &self,
        restore: &Restore,
        streams: &[String],
    ) -> Result<bool, EngineError> {
        self.forget_restore(&restore.target).await;
        let early = restore::begin(&*self.runner, restore, streams)?;
        let begun = early.is_some();
        if let Some(early) = early {
            self.early().insert(restore.target.id.clone(), early);
        }
        Ok(begun)
    }

    async fn forget_restore(&self, target: &Target) {
        let early = self.early().remove(&target.id);
        if let Some(early) = early {
            early.give_up(&*self.runner).await;
        }
    }

    async fn restore(&self, restore: Restore) -> Result<Restored, EngineError> {
        let early = self.early().remove(&restore.target.id);
        restore::restore(&*self.runner, restore, early).await
    }

    fn run(&self, restored: &Restored) -> Result<(), EngineError> {
        restore::run(restored)
    }
}

#[cfg(test)]
mod tests;
