//! Watches over a pod that is offered or about to be: thaws it when no offer comes, asks the
//! destination when no decision comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mycedrive_handover::Verdict;
use mycedrive_handover::source::{Event, State};
use mycedrive_proto::migration::destination_client::DestinationClient;
use mycedrive_proto::migration::{AskRequest, Decision};
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

use super::decide::{LONGEST_PAUSE, failed, perform};
use super::migration::{Migration, lock};
use crate::app::Shared;
use crate::error::{Error, Result};

/// A question to the destination may take this long.
const QUESTION: Duration = Duration::from_secs(5);
/// How long after the last word of the destination the first question is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// A destination that asked for nothing for so long before the freeze is asked whether it is
/// still at it.
const EXPIRY: Duration = Duration::from_secs(240);

/// Watches over a frozen pod until its migration has come to an end: thaws it when no offer
/// comes, asks the destination when no decision comes.
pub fn watch_over(app: &Shared, migration: &Arc<Migration>) {
    let (app, migration) = (app.clone(), migration.clone());
    let span = tracing::info_span!("watch", migration = %migration.details.id);
    tokio::spawn(async move { watch(&app, &migration).await }.instrument(span));
}

async fn watch(app: &Shared, migration: &Arc<Migration>) {
    let began = Instant::now();
    let mut heard = Instant::now();
    let mut offered = None;
    let mut states = migration.follow();
    let mut pause = PATIENCE;
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = sleep(pause) => {}
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
                pause = PATIENCE;
                continue;
            }
        }
        let state = migration.state();
        let waiting = match state {
            State::Freezing | State::Frozen => false,
            State::Offered | State::Held => true,
            _ => return,
        };
        if !waiting {
            if began.elapsed() > app.config.migration.freeze_limit {
                let reason = "the pod was frozen for too long (migration.freeze_limit)";
                return failed(app, migration, reason.to_owned()).await;
            }
            // While the stream goes on, its end is what tells.
            if lock(&migration.digest).is_none() {
                heard = Instant::now();
                continue;
            }
        } else if offered.is_none() {
            offered = Some(Instant::now());
            heard = Instant::now();
        }
        let answer = ask(app, migration).await;
        let lost = match &answer {
            Ok(verdict) => {
                heard = Instant::now();
                tracing::info!(?verdict, "the destination answers");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the destination cannot be asked");
                heard.elapsed() > app.config.migration.link_lost_after
            }
        };
        let long =
            offered.is_some_and(|since| since.elapsed() > app.config.migration.link_lost_after);
        let event = match answer {
            Ok(Verdict::Undecided) if waiting && long => Event::Overdue { reachable: true },
            Ok(Verdict::Undecided) => continue,
            Ok(Verdict::Aborted { reason }) if !waiting => Event::Failed { reason },
            Ok(verdict) => Event::Answered(verdict),
            Err(_) if !lost => continue,
            Err(_) if waiting => Event::Overdue { reachable: false },
            Err(error) => Event::Failed {
                reason: format!("the destination fell silent before it had everything: {error}"),
            },
        };
        match migration.apply(event) {
            Ok(actions) => perform(app, migration, actions),
            Err(error) => tracing::error!(%error, "cannot record what the destination said"),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asks the destination for its decision.
pub async fn ask(app: &Shared, migration: &Migration) -> Result<Verdict> {
    let endpoint = &migration.details.endpoint;
    let asked = async {
        let channel = app.peers.dial(endpoint).await?;
        let request = AskRequest {
            migration_id: migration.details.id.clone(),
        };
        DestinationClient::new(channel)
            .ask(request)
            .await
            .map_err(Error::remote(endpoint, "to tell its decision"))
    };
    let reply = timeout(QUESTION, asked)
        .await
        .map_err(|_| Error::Failed(format!("node {endpoint} did not answer a question")))??
        .into_inner();
    Ok(match reply.decision() {
        Decision::Unspecified => Verdict::Undecided,
        Decision::Running => Verdict::Running,
        Decision::Aborted => Verdict::Aborted {
            reason: reply.reason,
        },
    })
}

/// Whether a migration that has not frozen the pod gave way to another one: its destination is
/// not at it any more.
pub async fn give_up_unfrozen(app: &Shared, migration: &Arc<Migration>) -> bool {
    if migration.state() != State::Opened {
        return false;
    }
    let reason = match ask(app, migration).await {
        Ok(Verdict::Aborted { reason }) => reason,
        Ok(_) => return false,
        Err(error) => format!("another destination asked, and the first is silent: {error}"),
    };
    failed(app, migration, reason).await;
    migration.state().is_final()
}

/// Gives up a migration that never came to the freeze and whose destination is gone.
pub fn expire(app: &Shared, migration: &Arc<Migration>) {
    let (app, migration) = (app.clone(), migration.clone());
    tokio::spawn(async move {
        while migration.state() == State::Opened {
            tokio::select! {
                () = app.stopping.cancelled() => return,
                () = sleep(EXPIRY / 4) => {}
            }
            if migration.idle() > EXPIRY && give_up_unfrozen(&app, &migration).await {
                return;
            }
        }
    });
}
