//! From the freeze to the end: offer, decision, thaw or discard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mycedrive_handover::away::Away;
use mycedrive_handover::fault::FaultPoint;
use mycedrive_handover::source::{Action, Event, State};
use mycedrive_handover::{Side, Verdict};
use mycedrive_proto::migration::{ConcludeRequest, Decision, OfferRequest};
use mycedrive_proto::shim::Left;
use tokio::time::sleep;
use tonic::Status;
use tracing::Instrument as _;

use super::migration::{Migration, lock};
use super::refusal::Refusal;
use super::{left, open, park, route, watch};
use crate::app::Shared;
use crate::error::Result;
use crate::operator::Decide;
use crate::parked::Parked;
use crate::shims::{Resumed, Shim};
use crate::{fault, parked};

/// Longest pause between two questions or two attempts.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A shim that does not exist for this long has no pod any more.
const GONE: Duration = Duration::from_secs(10);

/// Offer: durable when this returns `Ok`.
pub async fn offer(
    app: &Shared,
    migration: &Arc<Migration>,
    request: OfferRequest,
) -> Result<(), Status> {
    fault::hit(FaultPoint::SourceBeforeOfferRecorded).await?;
    let matches = lock(&migration.digest).is_none_or(|digest| digest[..] == request.digest);
    let actions = migration.apply(Event::OfferReceived { matches })?;
    if actions.contains(&Action::AcceptOffer) {
        fault::hit(FaultPoint::SourceAfterOfferRecorded).await?;
        return Ok(());
    }
    let reason = if matches {
        format!(
            "migration {} is {}",
            migration.details.id,
            state_words(migration)
        )
    } else {
        "the digest of what arrived is not that of what was sent".to_owned()
    };
    failed(app, migration, reason.clone()).await;
    Err(Refusal::TakenBack(reason).into())
}

/// The destination's decision: durable here when this returns `Ok`.
pub async fn conclude(
    app: &Shared,
    migration: &Arc<Migration>,
    request: ConcludeRequest,
) -> Result<(), Status> {
    let verdict = match request.decision() {
        Decision::Running => Verdict::Running,
        Decision::Aborted => Verdict::Aborted {
            reason: request.reason,
        },
        Decision::Unspecified => return Err(Refusal::Malformed("the decision").into()),
    };
    fault::hit(FaultPoint::SourceBeforeConcludeRecorded).await?;
    let actions = migration.apply(Event::ConcludeReceived(verdict))?;
    let acknowledged = actions.contains(&Action::AcknowledgeConclude);
    perform(app, migration, actions);
    if acknowledged {
        return Ok(());
    }
    Err(Refusal::Overruled(state_words(migration)).into())
}

fn state_words(migration: &Migration) -> String {
    match migration.state() {
        State::RollingBack { reason } | State::RolledBack { reason } => {
            format!("rolled back: {reason}")
        }
        other => other.name().to_owned(),
    }
}

/// Something failed before the offer: the pod goes on here. Without effect after the offer.
pub async fn failed(app: &Shared, migration: &Arc<Migration>, reason: String) {
    let mut pause = Duration::from_millis(100);
    loop {
        match migration.apply(Event::Failed {
            reason: reason.clone(),
        }) {
            Ok(actions) => return perform(app, migration, actions),
            // The journal cannot be written, say on a full disk. Nothing was offered, so a
            // thaw without a record is safe; it is recorded as soon as possible.
            Err(error) => tracing::error!(%error, "cannot record the roll-back, trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Carries actions out; thaw and discard go on in the background until they are done.
pub fn perform(app: &Shared, migration: &Arc<Migration>, actions: Vec<Action>) {
    for action in actions {
        let then = match action {
            Action::Resume => Event::Resumed,
            Action::Discard => Event::Discarded,
            Action::Ask => {
                watch::watch_over(app, migration);
                continue;
            }
            _ => continue,
        };
        let (app, migration) = (app.clone(), migration.clone());
        let span = tracing::info_span!("source", migration = %migration.details.id);
        tokio::spawn(async move { until_done(&app, &migration, then).await }.instrument(span));
    }
    if migration.state().is_final() {
        clean(app, migration);
    }
}

/// Asks the shim to thaw or to discard until it did, or is gone with the pod.
async fn until_done(app: &Shared, migration: &Arc<Migration>, then: Event) {
    let thaw = then == Event::Resumed;
    let mut pause = Duration::from_millis(100);
    let mut missing_since = None;
    let began = Instant::now();
    loop {
        match step(app, migration, thaw).await {
            Ok(()) => break,
            Err(error) => tracing::warn!(%error, thaw, "the shim could not be told, trying again"),
        }
        if let Some(left) = left_of(app, migration) {
            if began.elapsed() > app.config.migration.freeze_limit {
                park::lose(app, migration, &left).await;
                break;
            }
        } else if gone(app, migration) {
            let since = *missing_since.get_or_insert_with(Instant::now);
            if since.elapsed() > GONE {
                tracing::warn!("the pod's shim is gone: nothing is left to thaw or to discard");
                break;
            }
        } else {
            missing_since = None;
        }
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let mut pause = Duration::from_millis(100);
    while let Err(error) = migration.apply(then.clone()) {
        tracing::error!(%error, "cannot record the end, trying again");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if let Some(parked) = Parked::read(app, &migration.details.id) {
        park::shown(app, &parked);
    }
    clean(app, migration);
}

async fn step(app: &Shared, migration: &Arc<Migration>, thaw: bool) -> Result<()> {
    let details = &migration.details;
    let limit = app.config.migration.step_timeout;
    if thaw {
        fault::hit(FaultPoint::SourceBeforeResume).await?;
        if details.parked.is_some() {
            // The image stays.
            return Ok(());
        }
        if let Some(left) = left_of(app, migration) {
            park::instead_of_thaw(app, migration, &left).await?;
            app.relays
                .remove(&details.id, mycedrive_connection::Tun::Source);
            return fault::hit(FaultPoint::SourceAfterResume).await;
        }
        let shim = app.shims.connect(&details.sandbox).await?;
        match thawed(app, migration, &shim).await {
            Ok(Resumed::Runs) => {}
            Ok(Resumed::OnlyImage { why, frozen_at_ns }) => {
                park::instead_of_resume(app, migration, &shim, &why, frozen_at_ns).await?;
                app.relays
                    .remove(&details.id, mycedrive_connection::Tun::Source);
                return fault::hit(FaultPoint::SourceAfterResume).await;
            }
            Err(error) => {
                // A freeze that never began, in a pod that came here by another migration.
                let pod = shim.describe().await?;
                if pod.migration_id == details.id {
                    return Err(error);
                }
                tracing::debug!(%error, "the pod is not frozen");
            }
        }
        route::give_back(app, migration).await;
        fault::hit(FaultPoint::SourceAfterResume).await
    } else {
        fault::hit(FaultPoint::SourceAfterCommitRecorded).await?;
        mark_moved(app, migration)?;
        if let Some(id) = &details.parked {
            if let Some(parked) = Parked::read(app, id) {
                parked.remove(app)?;
            }
            return fault::hit(FaultPoint::SourceAfterDiscard).await;
        }
        if let Some(left) = left_of(app, migration) {
            left::end(app, &left).await?;
            route::end_with(app, migration);
            return fault::hit(FaultPoint::SourceAfterDiscard).await;
        }
        let shim = app.shims.connect(&details.sandbox).await?;
        let destination = destination(migration);
        shim.discard(&details.id, &destination, limit).await?;
        if details.keep_connections {
            crate::destination::moved_on(app, &details.sandbox);
        }
        route::end_with(app, migration);
        fault::hit(FaultPoint::SourceAfterDiscard).await
    }
}

/// Undoes the freeze, unless a daemon before this one has parked the pod instead.
async fn thawed(app: &Shared, migration: &Migration, shim: &Shim) -> Result<Resumed> {
    let id = &migration.details.id;
    if let Some(parked) = Parked::read(app, id) {
        return Ok(Resumed::OnlyImage {
            why: parked.reason,
            frozen_at_ns: parked.frozen_at_ns,
        });
    }
    shim.resume(id, app.config.migration.step_timeout).await
}

/// Where the pod runs, for people.
fn destination(migration: &Migration) -> String {
    let details = &migration.details;
    format!("node {} as {}", details.peer, details.destination)
}

/// Nothing of the pod starts here again, also when kubelet makes it anew.
pub fn mark_moved(app: &Shared, migration: &Migration) -> Result<()> {
    let away = Away::Moved {
        migration: migration.details.id.clone(),
        destination: destination(migration),
    };
    parked::mark_away(app, &migration.details.uid, &away)
}

/// What the pod's shim left when it died frozen in this migration.
fn left_of(app: &Shared, migration: &Migration) -> Option<Left> {
    left::of(app, &migration.details.sandbox)
        .filter(|left| left.migration_id == migration.details.id)
}

fn gone(app: &Shared, migration: &Migration) -> bool {
    !app.shims.alive(&migration.details.sandbox)
}

fn clean(app: &Shared, migration: &Migration) {
    let folder = open::images(app, &migration.details.id);
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove images");
    }
    lock(&migration.trees).forget_senders();
}

/// A person decides a held migration.
pub fn resolve(app: &Shared, migration: &Arc<Migration>, decide: Decide) -> Result<String> {
    let (side, done) = match decide {
        Decide::RunHere => (Side::Source, "the pod goes on on this node"),
        Decide::RunThere => (
            Side::Destination,
            "the frozen copy on this node is discarded",
        ),
    };
    let actions = migration.apply(Event::Resolved(side))?;
    perform(app, migration, actions);
    Ok(format!("migration {}: {done}", migration.details.id))
}
