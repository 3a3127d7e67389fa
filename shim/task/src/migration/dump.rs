//! The images of a pod that stands still. What writes them starts before the freeze.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use mycedrive_engine::{Checkpoint, Engine, Purpose};
use mycedrive_handover::fault::FaultPoint;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::groups::{connections, members, suspends};
use super::logs::{Logs, Side};
use super::state::{Check, Dumped, Migration, SourceStage};
use super::{Migrator, hit, plain_name, target};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::pod::Pod;

/// Dumps that wait for the freeze. Dropped, they are given up.
pub(super) struct Begun<'a>(Option<&'a Pod>);

impl<'a> Begun<'a> {
    /// Of a pod of which nothing was begun.
    pub(super) const fn none(pod: &'a Pod) -> Self {
        Self(Some(pod))
    }

    /// The pod is frozen: the dump uses them.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(pod) = self.0 {
            forget(pod);
        }
    }
}

fn forget(pod: &Pod) {
    let mut begun = pod
        .migration
        .begun
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for container in pod.containers() {
        if begun.remove(&container.id)
            && let Ok(engine) = container.engine()
        {
            engine.forget(&target(&container));
        }
    }
}

impl Migrator {
    /// Starts what writes the images, for as many of the containers as that is possible. The
    /// others start in the freeze.
    pub(super) async fn begin_dumps(
        &self,
        id: &str,
        image_dir: &Path,
        containers: &[Arc<Container>],
        keep: bool,
    ) -> Result<Begun<'_>> {
        let guard = Begun::none(&self.pod);
        let mut starts = JoinSet::new();
        for container in containers {
            let (engine, checkpoint) = checkpoint_of(id, container, image_dir, keep)?;
            remove_directory(&checkpoint.image_dir)?;
            let container = container.id.clone();
            starts.spawn(async move { (container, engine.begin(&checkpoint).await) });
        }
        while let Some(started) = starts.join_next().await {
            match started {
                Ok((container, Ok(()))) => {
                    let begun = &self.pod.migration.begun;
                    let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
                    begun.insert(container);
                }
                Ok((container, Err(error))) => {
                    info!(migration = %id, container, %error, "its dump starts in the freeze");
                }
                Err(error) => debug!(migration = %id, %error, "a dump starts in the freeze"),
            }
        }
        Ok(guard)
    }

    /// Gives up what [`Self::begin_dumps`] started.
    pub(super) fn forget_dumps(&self) {
        forget(&self.pod);
    }

    /// Writes the images below `image_dir`. Everything stays frozen.
    pub(super) async fn dump(self: Arc<Self>, id: String, image_dir: PathBuf) -> Result<Dumped> {
        let _step = self.pod.migration.step.lock().await;
        let check = self.state().check_dump(&id)?;
        let (keep, frozen_at_ns) = match &*self.state() {
            Migration::Source(source) if check == Check::Done => return Ok(source.dump.clone()),
            Migration::Source(source) => (source.keep_connections, source.frozen_at_ns),
            _ => (false, 0),
        };
        hit(FaultPoint::ShimSourceBeforeDump).await?;
        let begin = Instant::now();
        let mut dumps = JoinSet::new();
        let mut names = Vec::new();
        let frozen = self.frozen();
        let pod = members(&frozen);
        for container in &frozen {
            let (engine, mut checkpoint) = checkpoint_of(&id, container, &image_dir, keep)?;
            checkpoint.pod.clone_from(&pod);
            let begun = {
                let begun = &self.pod.migration.begun;
                let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
                begun.remove(&container.id)
            };
            if !begun {
                remove_directory(&checkpoint.image_dir)?;
            }
            names.push(container.name.clone());
            dumps.spawn(async move { engine.checkpoint(checkpoint).await });
        }
        // All of them end before an error is returned: nothing may go on behind it.
        let mut result = Ok(());
        while let Some(dumped) = dumps.join_next().await {
            let dumped = dumped
                .map_err(|error| Error::Unavailable(format!("a dump was cut short: {error}")))
                .and_then(|dumped| Ok(dumped?));
            if result.is_ok() {
                result = dumped;
            }
        }
        result?;
        if suspends(&frozen)?.is_some() {
            let described = self.describe().await?;
            let images = Some(image_dir.as_path());
            let noted = self.note_left(&id, keep, frozen_at_ns, described, &frozen, images);
            if let Err(error) = noted {
                warn!(migration = %id, %error, "the pod is lost if this shim dies and it does not arrive");
            }
        }
        let dumped = Dumped {
            containers: names,
            milliseconds: begin.elapsed().as_millis() as u64,
        };
        if let Migration::Source(source) = &mut *self.state() {
            source.stage = SourceStage::Dumped;
            source.dump = dumped.clone();
        }
        info!(migration = %id, milliseconds = dumped.milliseconds, "dumped");
        hit(FaultPoint::ShimSourceAfterDump).await?;
        Ok(dumped)
    }
}

fn checkpoint_of(
    id: &str,
    container: &Container,
    image_dir: &Path,
    keep: bool,
) -> Result<(Arc<dyn Engine>, Checkpoint)> {
    let checkpoint = Checkpoint {
        target: target(container),
        pid: container.init.pid(),
        image_dir: image_dir.join(plain_name(&container.name)?),
        work_dir: Logs::of(id, Side::Source).of_container(&container.name),
        purpose: Purpose::Migration,
        connections: connections(keep),
        pod: Vec::new(),
    };
    Ok((container.engine()?, checkpoint))
}

fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::path("remove", path)(error))
        }
        _ => Ok(()),
    }
}
