//! The source is an archive: what was a pod elsewhere or earlier is restored from a file.
//!
//! There is nobody to agree with, so there are no rounds, no offer and no old connections; the
//! archive stays as it is, and another pod can be restored from it. The decision is recorded all
//! the same: after a crash of the daemon the pod either runs or was undone.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mycedrive_handover::destination::Event;
use mycedrive_proto::migration::Manifest;
use tokio::time::sleep;

use super::drive::Task;
use super::meeting::{Meeting, Stage};
use super::places::Places;
use super::source;
use crate::app::Shared;
use crate::archive::store::Store;
use crate::archive::{Archive, ArchiveError, Header};
use crate::error::{Error, Result};
use crate::progress::Phase;
use crate::source::ROOTFS;
use crate::{confinement, files};

/// How often a missing archive is looked for.
const LOOK: Duration = Duration::from_millis(300);

/// Why this container does not fit what the archive holds. Nothing was made of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Misfit {
    /// Another kind of machine.
    #[error("it was made on {made_on}, this node is {here}")]
    Architecture { made_on: String, here: &'static str },
    /// A task of another id.
    #[error("it holds {held}; a task that is restored from it must have this id")]
    Task { held: String },
    /// Another image.
    #[error("container {container} was made from image {archive}, here from {here}")]
    Image {
        container: String,
        archive: String,
        here: String,
    },
    /// Other rights.
    #[error("container {container} is not confined as it was: {differences}")]
    Confinement {
        container: String,
        differences: String,
    },
    /// A tree that has no place, or one that is not the pod's own.
    #[error(
        "container {container}: the archive has a volume for {mount}, which is no writable volume \
         of this pod that moves"
    )]
    Mount { container: String, mount: String },
}

/// Waits for an archive to be put on this node. `Some`: it is not there yet, and what to do.
pub async fn awaited(
    app: &Shared,
    namespace: &str,
    name: &str,
    limit: Duration,
) -> Result<Option<String>> {
    let path = Store::of(&app.config, namespace)?.path(name)?;
    let until = Instant::now() + limit;
    while path.symlink_metadata().is_err() {
        if Instant::now() + LOOK >= until {
            return Ok(Some(format!(
                "waits for the archive {}: `mycedrive restore FILE` puts it there",
                path.display()
            )));
        }
        sleep(LOOK).await;
    }
    Ok(None)
}

impl Task {
    /// Everything before the decision: the pod is restored here from an archive, stopped.
    pub(super) async fn unpack(&mut self, name: &str) -> Result<()> {
        files::make_private_dir(&self.staging)?;
        let store = Store::of(&self.app.config, &self.migration.details.namespace)?;
        let path = store.path(name)?;
        let archive = store
            .open(name)?
            .ok_or_else(|| Error::Refused(format!("{} is gone", path.display())))?;
        let header = archive.header().clone();
        let manifest = header.manifest();
        self.machine(&header)?;
        source::check(&self.app, &manifest, &self.staging).await?;
        self.accept(&manifest);
        self.migration.apply(Event::CopyStarted)?;
        self.everybody().await?;
        self.permitted(&header).await?;

        let here = self.migration.meeting.borrow().here().clone();
        self.places.find(&manifest, &here, &self.staging)?;
        self.adopt().await?;
        self.migration
            .meeting
            .send_modify(|meeting| meeting.advance(Stage::Freezing));
        self.migration.apply(Event::FreezeStarted)?;
        let places = self.read(archive, path, &manifest).await?;
        self.migration.apply(Event::Verified)?;
        self.restore(&manifest, places).await
    }

    fn machine(&self, header: &Header) -> Result<()> {
        let here = std::env::consts::ARCH;
        if header.architecture != here {
            let made_on = header.architecture.clone();
            return Err(Misfit::Architecture { made_on, here }.into());
        }
        // A task's name is its id, and the images are named by it.
        let task = self.migration.details.namespace.is_empty();
        let here = self.here();
        let named = |name: &String| here.iter().any(|container| container.name == *name);
        match header.containers.iter().find(|one| !named(&one.name)) {
            Some(one) if task => Err(Misfit::Task {
                held: one.name.clone(),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Waits for all containers: kubelet starts them one after another.
    async fn everybody(&self) -> Result<()> {
        let mut meeting = self.migration.meeting.subscribe();
        let missing = meeting.borrow_and_update().missing();
        if !missing.is_empty() {
            let text = format!("waits for container {} to start here", missing.join(", "));
            self.migration.handle.phase(Phase::Ready, text);
            self.migration
                .meeting
                .send_modify(|meeting| meeting.advance(Stage::Ready));
        }
        let complete = meeting.wait_for(Meeting::complete).await;
        complete
            .map(drop)
            .map_err(|_| Error::Failed("the restore was dropped".to_owned()))
    }

    /// The pod here is what decides: the archive has to fit it, not the other way round.
    async fn permitted(&self, header: &Header) -> Result<()> {
        let here = self.here();
        let namespace = &self.migration.details.containerd_namespace;
        for held in header
            .containers
            .iter()
            .filter(|one| one.exit_code.is_none())
        {
            let Some(container) = here.iter().find(|one| one.name == held.name) else {
                continue;
            };
            let name = || held.name.clone();
            let digest = self.app.digests.of_container(namespace, &container.id);
            let digest = digest.await?;
            if digest != held.image_digest {
                return Err(Misfit::Image {
                    container: name(),
                    archive: held.image_digest.clone(),
                    here: digest,
                }
                .into());
            }
            let ours = confinement::canonical(&container.confinement);
            let differences = confinement::differences(&held.confinement, &ours);
            if !differences.is_empty() {
                return Err(Misfit::Confinement {
                    container: name(),
                    differences: differences.join("; "),
                }
                .into());
            }
            for tree in held.trees.iter().filter(|tree| *tree != ROOTFS) {
                let moves = |mount: &&mycedrive_proto::shim::Mount| {
                    mount.destination == *tree && mount.moves && mount.writable
                };
                if container.mounts.iter().find(moves).is_none() {
                    let mount = tree.clone();
                    let container = name();
                    return Err(Misfit::Mount { container, mount }.into());
                }
            }
        }
        Ok(())
    }

    /// Takes trees and images to their places; every digest was right when this returns.
    async fn read(
        &mut self,
        mut archive: Archive<File>,
        path: PathBuf,
        manifest: &Manifest,
    ) -> Result<Places> {
        let images = self.app.config.images_of(&self.migration.details.id);
        files::make_private_dir(&self.app.config.image_dir)?;
        files::make_private_dir(&images)?;
        let mut places = std::mem::take(&mut self.places);
        let began = Instant::now();
        let read = tokio::task::spawn_blocking(move || {
            let bytes = places
                .receive(archive.stream(), Some(&images), None)
                .map_err(|error| Error::Failed(format!("archive {}: {error}", path.display())))?;
            let problem = |problem: ArchiveError| Error::Archive { path, problem };
            archive.finish().map_err(problem)?;
            Ok::<_, Error>((places, bytes))
        });
        let (places, bytes) = read
            .await
            .map_err(|error| Error::Failed(error.to_string()))??;
        let text = format!(
            "{} of {} containers in {} ms",
            crate::units::show_bytes(bytes),
            manifest.containers.len(),
            began.elapsed().as_millis()
        );
        self.migration.handle.event("unpacked", text);
        Ok(places)
    }
}

impl From<Misfit> for Error {
    fn from(misfit: Misfit) -> Self {
        Self::Refused(format!("the archive does not fit here: {misfit}"))
    }
}
