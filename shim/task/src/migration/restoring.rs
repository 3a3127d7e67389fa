//! Making the containers of a pod from their images, stopped, with what they share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mycedrive_engine::{Engine, EngineKind, PodEnds, Purpose, Release, ipc_first};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_volume::attach::Want;
use tokio::task::JoinSet;
use tracing::warn;

use super::choice::choose_for_image;
use super::groups::connections;
use super::logs::{Logs, Side};
use super::{Migrator, blocking, hit};
use crate::container::{Container, Launch, RestorePlan};
use crate::error::{Error, Result};
use crate::state::Step;
use crate::volumes;

/// What all restores of a migration have in common.
#[derive(Clone)]
struct Common {
    id: String,
    image_dir: PathBuf,
    keep: bool,
    /// Where the ends of connections between the containers are to be had.
    ends: Option<String>,
    /// Whether an earlier one has brought the pod's System V IPC objects.
    ipc_is_there: bool,
}

impl Migrator {
    /// Restores these containers. Answers with the names and first processes. After an error some may
    /// exist.
    pub(super) async fn restore_all(
        self: &Arc<Self>,
        id: &str,
        containers: &[Arc<Container>],
        image_dir: &Path,
        keep: bool,
    ) -> Result<Vec<(String, i32)>> {
        let images = containers.iter().map(|container| {
            let name = container.name.clone();
            (name, image_dir.join(&container.name))
        });
        let images: Vec<_> = images.collect();
        let netns = self.netns().map(Path::to_owned);
        let (ends, first) = blocking(move || {
            let ends = PodEnds::make(netns.as_deref(), &images)?;
            Ok((ends, ipc_first(&images)?))
        })
        .await?;
        let mut common = Common {
            id: id.to_owned(),
            image_dir: image_dir.to_owned(),
            keep,
            ends: ends.as_ref().map(|ends| ends.name().to_owned()),
            ipc_is_there: false,
        };
        let mut others = containers.to_vec();
        let mut pids = Vec::new();
        if let Some(first) = first.filter(|first| *first < others.len()) {
            let first = others.remove(first);
            pids = self.restore_group(&[first], &common).await?;
            common.ipc_is_there = true;
        }
        pids.extend(self.restore_group(&others, &common).await?);
        if let Some(ends) = ends {
            let all = pids.clone();
            blocking(move || Ok(ends.finish(&all)?)).await?;
        }
        Ok(pids)
    }

    /// Restores containers side by side. All of the restores have ended when this returns.
    async fn restore_group(
        self: &Arc<Self>,
        containers: &[Arc<Container>],
        common: &Common,
    ) -> Result<Vec<(String, i32)>> {
        let mut restores = JoinSet::new();
        for container in containers {
            let (migrator, container) = (self.clone(), container.clone());
            let common = common.clone();
            restores.spawn(async move {
                let pid = migrator.restore_one(&container, common).await?;
                Ok((container.name.clone(), pid))
            });
        }
        let mut pids = Vec::new();
        let mut result = Ok(());
        while let Some(restored) = restores.join_next().await {
            let restored = restored.unwrap_or_else(|error| {
                Err(Error::Unavailable(format!(
                    "a restore was cut short: {error}"
                )))
            });
            match restored {
                Ok(one) => pids.push(one),
                Err(error) if result.is_ok() => result = Err(error),
                Err(error) => warn!(migration = %common.id, %error, "restore"),
            }
            if result.is_ok() {
                result = hit(FaultPoint::ShimDestinationDuringRestore).await;
            }
        }
        result.map(|()| pids)
    }

    async fn restore_one(&self, container: &Arc<Container>, common: Common) -> Result<i32> {
        let _op = container.init.op.lock().await;
        container.init.allows(Step::Freeze)?;
        let image = common.image_dir.join(&container.name);
        if EngineKind::of_image(&image) != EngineKind::Criu {
            // Against what the source has announced.
            container.forget_restore().await;
        }
        if !container.has_begun_restore() {
            self.ready(container, &image).await?;
        }
        let engine = container.engine()?;
        let plan = plan_of(container, &*engine, common);
        let pid = container.launch(Launch::Restore(plan)).await?;
        container.init.step(Step::Freeze)?;
        Ok(pid)
    }

    /// Does what a restore needs of a container before the engine begins.
    async fn ready(&self, container: &Arc<Container>, image: &Path) -> Result<()> {
        let mounting = container.clone();
        blocking(move || mounting.mount_rootfs()).await?;
        if container.volumes().is_empty() {
            volumes::attach(&self.pod, container, Want::Received).await?;
        }
        choose_for_image(&self.pod, container, image).await
    }

    /// Begins to restore a container whose image is on its way, if that helps; makes it ready for a
    /// restore in any case.
    pub(super) async fn begin_restore_of(
        &self,
        id: &str,
        container: &Arc<Container>,
        image_dir: &Path,
        (keep, streams): (bool, &[String]),
    ) -> Result<bool> {
        let _op = container.init.op.lock().await;
        container.init.allows(Step::Freeze)?;
        if container.has_begun_restore() {
            return Ok(true);
        }
        let common = Common {
            id: id.to_owned(),
            image_dir: image_dir.to_owned(),
            keep,
            ends: None,
            ipc_is_there: false,
        };
        self.ready(container, &image_dir.join(&container.name))
            .await?;
        hit(FaultPoint::ShimDestinationDuringBegin).await?;
        let engine = container.engine()?;
        let plan = plan_of(container, &*engine, common);
        container.begin_restore(plan, streams).await
    }
}

fn plan_of<'a>(container: &Container, engine: &'a dyn Engine, common: Common) -> RestorePlan<'a> {
    RestorePlan {
        engine,
        image: common.image_dir.join(&container.name),
        work: Logs::of(&common.id, Side::Destination).of_container(&container.name),
        release: Release::Stopped,
        purpose: Purpose::Migration,
        connections: connections(common.keep),
        ends: common.ends,
        ipc_is_there: common.ipc_is_there,
    }
}
