//! A consistent layer of a volume, taken while the pod stands still for a moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mycedrive_engine::freezer;

use super::groups::{freezers, thaw_states};
use super::{Migrator, blocking};
use crate::error::{Error, Result};
use crate::state::Step;

impl Migrator {
    /// Copies the live upper of a volume while the pod stands still. Returns for how many
    /// milliseconds it did.
    pub(super) async fn checkpoint_volume(
        self: Arc<Self>,
        container: String,
        destination: String,
        out: PathBuf,
    ) -> Result<u64> {
        let _step = self.pod.migration.step.lock().await;
        let containers = self.running()?;
        let chosen = containers.iter().find(|one| one.name == container);
        let volume = chosen
            .into_iter()
            .flat_map(|one| one.volumes())
            .find(|volume| volume.destination == destination);
        let volume = volume.ok_or_else(|| {
            Error::NotFound(format!(
                "volume {destination} of a running container {container}"
            ))
        })?;
        if let Some(reason) = volume.plain_because {
            return Err(Error::Precondition(format!(
                "volume {destination} is no stack, so it has no layer to copy: {reason}"
            )));
        }
        let upper = mycedrive_volume::layers(Path::new(&volume.volume))?.pop();
        let upper = upper.ok_or_else(|| Error::NotFound("the upper".to_owned()))?;
        let freezers = freezers(&containers)?;
        for (index, container) in containers.iter().enumerate() {
            let _op = container.init.op.lock().await;
            if let Err(error) = container.init.step(Step::Freeze) {
                thaw_states(&containers[..index]);
                return Err(error);
            }
        }
        let begin = Instant::now();
        let copied = blocking(move || {
            let copied = freezer::freeze_all(&freezers)
                .map_err(Error::from)
                .and_then(|()| {
                    mycedrive_transfer::access::copy_tree(&upper, &out)
                        .map_err(|error| Error::Unavailable(error.to_string()))
                });
            freezer::thaw_all(&freezers)?;
            copied
        })
        .await;
        thaw_states(&containers);
        self.deliver_signals();
        copied?;
        Ok(begin.elapsed().as_millis() as u64)
    }
}
