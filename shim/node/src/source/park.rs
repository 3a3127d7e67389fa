//! Makes a pod that stands still here an image that waits for another pod: because it is
//! terminated and asks for it, or because an image is all that is left of it: its shim died, or its
//! engine cannot let it go on.

use std::path::PathBuf;
use std::time::Duration;

use mycedrive_proto::shim::Left;
use tokio::time::sleep;

use super::migration::Migration;
use super::{decide, left, open};
use crate::app::Shared;
use crate::destination;
use crate::error::{Error, Result};
use crate::parked::{self, Parked};
use crate::progress::{Phase, Progress, Side};
use crate::shims::{Resumed, Shim};

const TERMINATED: &str = "it was terminated, and mycedrive.io/on-terminate says park";
const SHIM_DIED: &str = "its shim died while it was frozen";
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// A pod with `mycedrive.io/on-terminate: park` is being terminated. After an error it runs on.
pub async fn on_request(app: &Shared, sandbox: &str) -> Result<Parked> {
    // To its end, also when the shim that asked dies.
    let (app, sandbox) = (app.clone(), sandbox.to_owned());
    let task = tokio::spawn(async move { terminated(&app, &sandbox).await });
    task.await
        .map_err(|error| Error::Failed(error.to_string()))?
}

async fn terminated(app: &Shared, sandbox: &str) -> Result<Parked> {
    for other in app.source.open_of(sandbox) {
        decide::failed(app, &other, TERMINATED.to_owned()).await;
        if !other.state().is_final() {
            return Err(Error::Refused(format!(
                "the pod is in migration {}",
                other.details.id
            )));
        }
    }
    let shim = app.shims.connect(sandbox).await?;
    let pod = shim.describe().await?;
    let obstacles = shim.preflight(false).await?;
    if !obstacles.is_empty() {
        return Err(Error::Refused(obstacles.join("; ")));
    }
    let id = uuid::Uuid::new_v4().to_string();
    let mut progress = Progress::new(&id, Side::Source);
    progress.namespace.clone_from(&pod.pod_namespace);
    progress.pod.clone_from(&pod.pod_name);
    progress.sandbox.clone_from(&pod.sandbox_id);
    let handle = app.migrations.enter(progress);
    handle.phase(Phase::Freezing, TERMINATED);
    let limit = app.config.migration.step_timeout;
    let made = async {
        let images = parked::images_to_write(app, &id)?;
        let frozen = shim.freeze(&id, false, &images, limit).await?;
        handle.event_at("frozen", String::new(), frozen.frozen_at_ns);
        let dumped = shim.dump(&id, &images, limit).await?;
        handle.event("dumped", format!("{} ms", dumped.milliseconds));
        parked::keep(app, &id, &pod, frozen.frozen_at_ns, TERMINATED).await
    }
    .await;
    let error = match made {
        Ok(parked) => {
            discard(app, &shim, &parked).await?;
            shown(app, &parked);
            return Ok(parked);
        }
        Err(error) => error,
    };
    tracing::warn!(%error, "parking failed");
    // The image is not whole: the processes are the pod. Or its shim died.
    loop {
        if let Some(left) = left::of(app, sandbox) {
            return of_left(app, &left).await;
        }
        match shim.resume(&id, limit).await {
            Ok(Resumed::Runs) => break,
            Ok(Resumed::OnlyImage { why, frozen_at_ns }) => {
                match parked::keep(
                    app,
                    &id,
                    &pod,
                    frozen_at_ns,
                    &format!("{TERMINATED}; {why}"),
                )
                .await
                {
                    Ok(parked) => {
                        discard(app, &shim, &parked).await?;
                        shown(app, &parked);
                        return Ok(parked);
                    }
                    Err(error) => {
                        tracing::error!(%error, why, "a pod cannot go on, nor be parked yet");
                    }
                }
            }
            Err(_) if !app.shims.alive(sandbox) => break,
            Err(error) => tracing::warn!(%error, "a pod that was not parked is not thawed yet"),
        }
        sleep(PAUSE).await;
    }
    handle.phase(Phase::RolledBack, error.to_string());
    handle.save();
    Err(error)
}

/// The image is durable: the frozen processes vanish. Until they did.
async fn discard(app: &Shared, shim: &Shim, parked: &Parked) -> Result<()> {
    parked.mark_away(app)?;
    let limit = app.config.migration.step_timeout;
    while let Err(error) = shim.discard_parked(&parked.id, limit).await {
        if let Some(left) = left::of(app, &parked.sandbox) {
            return left::end(app, &left).await;
        }
        if !app.shims.alive(&parked.sandbox) {
            return Ok(());
        }
        tracing::warn!(%error, "the processes of a parked pod are still there");
        sleep(PAUSE).await;
    }
    Ok(())
}

/// A migration that would be rolled back, and whose pod nobody could look after here any more.
pub async fn instead_of_thaw(app: &Shared, migration: &Migration, left: &Left) -> Result<()> {
    let parked = of_left(app, left).await?;
    migration
        .handle
        .event("parked", format!("as {}", parked.id));
    Ok(())
}

/// A migration that would be rolled back, and whose processes cannot go on though they were dumped:
/// what was to be sent is parked.
pub async fn instead_of_resume(
    app: &Shared,
    migration: &Migration,
    shim: &Shim,
    why: &str,
    frozen_at_ns: u64,
) -> Result<()> {
    let id = &migration.details.id;
    let parked = if let Some(parked) = Parked::read(app, id) {
        parked
    } else {
        let pod = shim.describe().await?;
        let images = parked::images_to_write(app, id)?;
        copied(open::images(app, id), images).await?;
        let reason = format!("its move failed, and {why}");
        parked::keep(app, id, &pod, frozen_at_ns, &reason).await?
    };
    discard(app, shim, &parked).await?;
    migration
        .handle
        .event("parked", format!("as {}: {}", parked.id, parked.reason));
    Ok(())
}

/// Copies images that are whole.
async fn copied(from: PathBuf, to: PathBuf) -> Result<()> {
    tokio::task::spawn_blocking(move || destination::copy_tree(&from, &to))
        .await
        .map_err(|error| Error::Failed(error.to_string()))?
}

/// Parks what a dead shim left.
async fn of_left(app: &Shared, left: &Left) -> Result<Parked> {
    let id = &left.migration_id;
    let parked = if let Some(parked) = Parked::read(app, id) {
        parked
    } else {
        let images = parked::images_to_write(app, id)?;
        if left.image_dir.is_empty() {
            left::dump(app, left, &images).await?;
        } else {
            copied(PathBuf::from(&left.image_dir), images).await?;
        }
        parked::keep(app, id, &left.pod, left.frozen_at_ns, SHIM_DIED).await?
    };
    parked.mark_away(app)?;
    left::end(app, left).await?;
    shown(app, &parked);
    Ok(parked)
}

/// What a dead shim left cannot be dumped: the pod is lost, as under any runtime whose shim dies.
pub async fn lose(app: &Shared, migration: &Migration, left: &Left) {
    tracing::error!(
        migration = %migration.details.id,
        "the pod is lost: its shim died and its frozen processes cannot be dumped"
    );
    if let Err(error) = left::end(app, left).await {
        tracing::error!(%error, "frozen processes stay");
    }
    parked::unmark_away(app, &left.pod.pod_uid);
}

/// Shows that a pod is parked; also after the state machine has shown how its migration ended.
pub fn shown(app: &Shared, parked: &Parked) {
    let Some(handle) = app.migrations.get(&parked.id, Side::Source) else {
        return;
    };
    let text = format!(
        "parked on this node: {}; a pod with mycedrive.io/migrate-from takes it over, \
         `mycedrive drop {}` gives it up",
        parked.reason, parked.id
    );
    handle.phase(Phase::Parked, text);
    handle.save();
}

/// After a restart, when the journals were taken up: ends the processes of which there is an image,
/// parks what a dead shim left, and thaws pods whose parking did not come to its end.
pub async fn recover(app: &Shared) {
    parked::recover(app);
    for parked in Parked::all(app) {
        shown(app, &parked);
    }
    for left in left::all(app) {
        let ours = app.source.get(&left.migration_id);
        if ours.is_some_and(|migration| !migration.state().is_final()) {
            continue;
        }
        let app = app.clone();
        tokio::spawn(async move {
            if let Err(error) = of_left(&app, &left).await {
                tracing::error!(sandbox = %left.pod.sandbox_id, %error, "frozen processes of a dead shim stay");
            }
        });
    }
    for (shim, pod) in app.shims.list().await {
        let id = &pod.migration_id;
        if pod.role.enum_value_or_default() != mycedrive_proto::shim::Role::ROLE_SOURCE
            || app.source.get(id).is_some()
        {
            continue;
        }
        let limit = app.config.migration.step_timeout;
        let ended = match Parked::read(app, id) {
            Some(parked) => discard(app, &shim, &parked).await,
            // One that is held says no.
            None => shim.resume(id, limit).await.map(drop),
        };
        if let Err(error) = ended {
            tracing::debug!(migration = %id, %error, "left as it is");
        }
    }
}
