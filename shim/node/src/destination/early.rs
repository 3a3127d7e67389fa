//! What is done of a restore while the images are on their way: when all trees have come they are put
//! into their places, and the shim begins to restore.
//!
//! Only if the freeze is likely to be short: kubelet may give up waiting and make a container anew, and
//! then the trees are in the places of the one before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mycedrive_proto::migration::{Manifest, SourceContainer};
use tokio::sync::oneshot;

use super::meeting::Arrival;
use super::migration::Migration;
use super::places::Places;
use crate::app::Shared;

/// A round before the freeze that took longer than this says that the freeze may be long.
pub(super) const SHORT: Duration = Duration::from_secs(1);

/// To be used when the trees are here.
pub struct Early {
    manifest: Manifest,
    here: BTreeMap<String, Arrival>,
    staging: PathBuf,
    settled: oneshot::Sender<()>,
}

/// What the shim is asked then.
pub(super) struct Begin {
    app: Shared,
    migration: Arc<Migration>,
    container: SourceContainer,
    settled: oneshot::Receiver<()>,
}

/// Both, if it is of use: of a pod with one container that runs, and of which the source says what its
/// image will be like.
pub(super) fn of(
    app: &Shared,
    migration: &Arc<Migration>,
    manifest: &Manifest,
    staging: PathBuf,
) -> Option<(Early, Begin)> {
    let mut running = manifest.containers.iter().filter(|one| !one.exited);
    let container = running.next().filter(|one| !one.streams.is_empty())?;
    let meeting = migration.meeting.borrow();
    if running.next().is_some() || !meeting.complete() {
        return None;
    }
    let (tell, told) = oneshot::channel();
    let early = Early {
        manifest: manifest.clone(),
        here: meeting.here().clone(),
        staging,
        settled: tell,
    };
    let begin = Begin {
        app: app.clone(),
        migration: migration.clone(),
        container: container.clone(),
        settled: told,
    };
    Some((early, begin))
}

impl Early {
    /// All trees are here.
    pub fn settle(self, places: &mut Places) {
        if places.settle_early(&self.manifest, &self.here, &self.staging) {
            // Nobody waits for it if the freeze was given up.
            let _ = self.settled.send(());
        }
    }
}

impl Begin {
    /// Waits for the trees, then asks the shim. That it cannot costs time, and nothing else.
    pub(super) async fn begin(self) {
        if self.settled.await.is_err() {
            return;
        }
        let details = &self.migration.details;
        let images = self.app.config.images_of(&details.id);
        let limit = self.app.config.migration.step_timeout;
        let what = (self.container.name, self.container.streams);
        let begun = async {
            let shim = self.app.shims.connect(&details.sandbox).await?;
            shim.begin_restore(&details.id, &images, what, limit).await
        };
        if let Err(error) = begun.await {
            tracing::info!(migration = %details.id, %error, "the restore begins when its image is here");
        }
    }
}
