//! After the decision: run and tell, or undo and tell; then the old connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mycedrive_handover::destination::{Action, Event, State};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_proto::migration::Decision;
use tokio::time::sleep;

use super::annotations::is_archive;
use super::drive::staging;
use super::meeting::Outcome;
use super::migration::Migration;
use super::route;
use super::source::{Heard, Source};
use crate::app::Shared;
use crate::error::Result;
use crate::fault;
use crate::progress::now_ns;

/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the answer "failed" waits for the shim to undo.
const UNDO_TIME: Duration = Duration::from_secs(15);
/// How long a new attempt waits for the end of the one before.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// A shim that nobody answers for so long is gone, and the pod with it.
const GONE: Duration = Duration::from_secs(10);

pub use route::attach;

/// `RUN` is durable: let the processes go, tell the source, carry old connections.
pub async fn run(
    app: &Shared,
    migration: &Arc<Migration>,
    froze_at: Option<Instant>,
    frozen_at_ns: u64,
) {
    if !let_go(app, migration).await {
        return;
    }
    let now = now_ns();
    let local = froze_at.map(|at| at.elapsed().as_millis() as u64);
    // The two nodes' clocks may differ; the time since the freeze was asked for is a bound.
    let measured = (frozen_at_ns > 0 && now > frozen_at_ns)
        .then(|| (now - frozen_at_ns) / 1_000_000)
        .filter(|ms| local.is_none_or(|bound| *ms <= bound));
    migration.handle.update(|progress| {
        progress.freeze_ms = measured.or(local);
    });
    migration.handle.event_at("run", String::new(), now);
    while let Err(error) = migration.apply(Event::Ran) {
        tracing::error!(%error, "cannot record that the pod runs, trying again");
        if !pause(app, Duration::from_millis(200)).await {
            return;
        }
    }
    told(migration);
    // Gigabytes of images take a while, and clients wait for the route.
    let cleaning = {
        let (app, migration) = (app.clone(), migration.clone());
        tokio::task::spawn_blocking(move || clean(&app, &migration))
    };
    resume(app, migration).await;
    if let Err(error) = cleaning.await {
        tracing::warn!(%error, "images may be left");
    }
}

/// Asks the shim until the processes run. False when they never will, or the daemon stops.
async fn let_go(app: &Shared, migration: &Arc<Migration>) -> bool {
    let mut wait = Duration::from_millis(20);
    let mut missing_since = None;
    loop {
        match run_once(app, migration).await {
            Ok(()) => return true,
            Err(error) => {
                tracing::error!(%error, "the pod is this node's, but does not run yet");
                let text = format!("cannot let the processes go, trying again: {error}");
                migration.handle.update(|progress| progress.message = text);
            }
        }
        // containerd kills what a dead shim leaves: nobody can say whether it had run.
        if route::shim_gone(app, &migration.details.sandbox) {
            let since = *missing_since.get_or_insert_with(Instant::now);
            if since.elapsed() > GONE {
                break;
            }
        } else {
            missing_since = None;
        }
        tokio::select! {
            () = app.stopping.cancelled() => return false,
            () = migration.pod_gone.cancelled() => break,
            () = sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_PAUSE);
    }
    if never_ran(app, migration) {
        let reason = "this pod's shim died before it let the processes go: not one of them ran";
        let reason = reason.to_owned();
        apply_until_done(app, migration, &Event::NeverRan { reason }).await;
        aborted(app, migration).await;
        return false;
    }
    let reason = "this pod was deleted, or its shim killed, before its processes were known to run";
    if let Err(error) = migration.apply(Event::PodGone) {
        tracing::error!(%error, "cannot record that the pod was lost");
    }
    end(migration, Outcome::Failed(reason.to_owned()));
    clean(app, migration);
    false
}

/// Whether the dead shim's note says that the processes of this migration are stopped: it removes
/// the note before it lets the first one go. The note is on a tmpfs; after a restart of the node
/// it is not there, and nobody knows.
fn never_ran(app: &Shared, migration: &Migration) -> bool {
    let sandbox = &migration.details.sandbox;
    let note = app.shims.dir().join(format!("{sandbox}.stopped"));
    !app.shims.alive(sandbox)
        && std::fs::read_to_string(note).is_ok_and(|id| id == migration.details.id)
}

async fn run_once(app: &Shared, migration: &Migration) -> Result<()> {
    fault::hit(FaultPoint::DestinationBeforeRun).await?;
    let shim = app.shims.connect(&migration.details.sandbox).await?;
    let limit = app.config.migration.step_timeout;
    shim.run(&migration.details.id, limit).await?;
    fault::hit(FaultPoint::DestinationAfterRun).await
}

fn told(migration: &Migration) {
    end(migration, Outcome::Running);
    migration.handle.save();
}

fn end(migration: &Migration, outcome: Outcome) {
    migration
        .meeting
        .send_modify(|meeting| meeting.end(outcome));
}

/// Goes on with a pod that runs here: tells the source, carries the old connections.
pub async fn resume(app: &Shared, migration: &Arc<Migration>) {
    end(migration, Outcome::Running);
    // Those of earlier pods do not wait for the source: it may be silent, or gone. They end with
    // this function.
    let mut earlier = route::carry_earlier(app, migration);
    if migration.state() == State::Running {
        let heard = tell(app, migration, Decision::Running, "").await;
        let event = match heard {
            None => return,
            Some(Heard::Acknowledged | Heard::Unknown) => Event::RunningAcknowledged,
            Some(Heard::Overruled) => {
                tracing::error!("a person decided at the source that the pod goes on there");
                Event::Overruled
            }
        };
        apply_until_done(app, migration, &event).await;
        if event == Event::Overruled {
            return undo(app, migration).await;
        }
        if fault::hit(FaultPoint::DestinationAfterConclude)
            .await
            .is_err()
        {
            return;
        }
    }
    if migration.state() == State::Routed {
        migration.handle.event("route", String::new());
        route::carry_own(app, migration).await;
        while earlier.join_next().await.is_some() {}
        if app.stopping.is_cancelled() {
            return;
        }
        apply_until_done(app, migration, &Event::RelayEnded).await;
    }
}

/// Waits a little for a migration that is being undone, so that a new one can begin.
pub async fn settled(migration: &Migration) {
    let until = Instant::now() + SETTLE_TIME;
    while matches!(migration.state(), State::Aborting { .. }) && Instant::now() < until {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing was decided yet and something failed: this node will never run the pod.
pub async fn abort(app: &Shared, migration: &Arc<Migration>, reason: String) {
    tracing::warn!(%reason, "the migration is given up");
    let event = Event::Failed {
        reason: reason.clone(),
    };
    let mut wait = Duration::from_millis(100);
    // Without a durable ABORT nothing may be undone or told: the source stays frozen.
    while let Err(error) = migration.apply(event.clone()) {
        tracing::error!(%error, "cannot record ABORT, trying again");
        if !pause(app, wait).await {
            return;
        }
        wait = (wait * 2).min(LONGEST_PAUSE);
    }
    migration.handle.event("abort", reason);
    if migration.froze.load(Ordering::Relaxed) {
        app.destination.count_failure(&migration.details.sandbox);
    }
    aborted(app, migration).await;
}

/// `ABORT` is durable: undo here and tell the source, both until done.
pub async fn aborted(app: &Shared, migration: &Arc<Migration>) {
    let State::Aborting { reason, .. } = migration.state() else {
        return;
    };
    if fault::hit(FaultPoint::DestinationAfterAbortRecorded)
        .await
        .is_err()
    {
        tracing::warn!("an injected error has no effect on an abort");
    }
    let telling = async {
        let heard = if migration.contacted.load(Ordering::Relaxed) {
            tell(app, migration, Decision::Aborted, &reason).await
        } else {
            Some(Heard::Unknown)
        };
        if heard.is_some() {
            apply_until_done(app, migration, &Event::AbortAcknowledged).await;
        }
    };
    let answering = async {
        let undone = tokio::time::timeout(UNDO_TIME, undo(app, migration)).await;
        end(migration, Outcome::Failed(reason.clone()));
        if undone.is_err() {
            undo(app, migration).await;
        }
    };
    tokio::join!(telling, answering);
    clean(app, migration);
    migration.handle.save();
}

/// Asks the shim to undo until it did, or is gone with the pod.
async fn undo(app: &Shared, migration: &Arc<Migration>) {
    route::detach(app, migration);
    let mut wait = Duration::from_millis(50);
    let mut missing_since = None;
    let reason = migration.handle.snapshot().message;
    loop {
        match undo_once(app, migration, &reason).await {
            Ok(()) => break,
            Err(error) => tracing::warn!(%error, "the shim could not undo, trying again"),
        }
        if route::shim_gone(app, &migration.details.sandbox) {
            let since = *missing_since.get_or_insert_with(Instant::now);
            if since.elapsed() > GONE || migration.pod_gone.is_cancelled() {
                break;
            }
        }
        if !pause(app, wait).await {
            return;
        }
        wait = (wait * 2).min(LONGEST_PAUSE);
    }
    clean(app, migration);
    apply_until_done(app, migration, &Event::Undone).await;
}

async fn undo_once(app: &Shared, migration: &Migration, reason: &str) -> Result<()> {
    let shim = app.shims.connect(&migration.details.sandbox).await?;
    let limit = app.config.migration.step_timeout;
    shim.abort(&migration.details.id, reason, limit).await?;
    fault::hit(FaultPoint::DestinationAfterUndo).await
}

/// Tells the source until it has heard. `None` when the daemon stops.
async fn tell(
    app: &Shared,
    migration: &Arc<Migration>,
    decision: Decision,
    reason: &str,
) -> Option<Heard> {
    if is_archive(&migration.details.endpoint) {
        // There is nobody to be told.
        return Some(Heard::Unknown);
    }
    let mut wait = Duration::from_millis(100);
    loop {
        match tell_once(app, migration, decision, reason).await {
            Ok(heard) => return Some(heard),
            Err(error) => tracing::warn!(%error, ?decision, "the source could not be told"),
        }
        // The source asked and was answered meanwhile.
        if migration.state().is_final() {
            return None;
        }
        if !pause(app, wait).await {
            return None;
        }
        wait = (wait * 2).min(LONGEST_PAUSE);
    }
}

async fn tell_once(
    app: &Shared,
    migration: &Arc<Migration>,
    decision: Decision,
    reason: &str,
) -> Result<Heard> {
    if decision == Decision::Running {
        fault::hit(FaultPoint::DestinationBeforeConclude).await?;
    }
    let mut source = Source::dial(app, migration).await?;
    source.conclude(decision, reason).await
}

async fn apply_until_done(app: &Shared, migration: &Arc<Migration>, event: &Event) -> Vec<Action> {
    let mut wait = Duration::from_millis(100);
    loop {
        match migration.apply(event.clone()) {
            Ok(actions) => return actions,
            Err(error) => tracing::error!(%error, "cannot write the journal, trying again"),
        }
        if !pause(app, wait).await {
            return vec![];
        }
        wait = (wait * 2).min(LONGEST_PAUSE);
    }
}

/// False when the daemon stops.
async fn pause(app: &Shared, time: Duration) -> bool {
    tokio::select! {
        () = app.stopping.cancelled() => false,
        () = sleep(time) => true,
    }
}

/// Removes what is only needed before the pod runs.
pub fn clean(app: &Shared, migration: &Migration) {
    let id = &migration.details.id;
    let sandbox = &migration.details.sandbox;
    if !app.shims.alive(sandbox) && migration.state().is_final() {
        let _ = std::fs::remove_file(app.shims.dir().join(format!("{sandbox}.stopped")));
    }
    let config = &app.config;
    let in_memory = [
        config.images_of(id),
        config.memory_of(id),
        config.gate_of(id),
    ];
    for folder in in_memory.into_iter().chain([staging(app, id)]) {
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove");
        }
    }
}
