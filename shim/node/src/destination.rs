//! The side that a pod arrives on: serves [`Destination`] to sources, and shims' questions.
//!
//! - `annotations`: what a pod asks for.
//! - `meeting`: the containers whose Start waits.
//! - `archived`: the source is an archive, see `crate::archive`.
//! - `drive`: one migration up to the decision; `rounds` copies, `places` says where to.
//! - `finish`: after the decision; `route` for the old connections.

mod annotations;
mod archived;
mod disk;
mod drive;
mod early;
mod engines;
mod finish;
mod meeting;
mod memory;
mod migration;
mod places;
mod rounds;
mod route;
mod source;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mycedrive_handover::destination::{Action, Event, State, Step};
use mycedrive_handover::{Verdict, journal};
use mycedrive_proto::migration::{
    AskReply, AskRequest, Decision, EarlierRoute, destination_server::Destination,
};
use mycedrive_proto::node::arrive_reply::Outcome as Code;
use mycedrive_proto::node::{ArriveReply, ArriveRequest, LeaveReply, LeaveRequest};
use tokio::time::timeout;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::app::Shared;
use crate::error::{Error, Result};
use crate::operator::Decide;
use annotations::Wish;
pub use annotations::restore_annotation;
use meeting::{Answer, Stage};
pub use migration::{Details, Migration};
pub use places::copy as copy_tree;
pub use source::fits;
pub use table::Table;

/// After so many failures behind the freeze a pod is refused without another attempt: each one
/// lets the source's clients wait.
const ATTEMPTS: u32 = 3;
/// How long journals of migrations that are over are kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a Start waits beyond its time when the decision is being taken.
/// The shim's own limit is three seconds above the one it tells.
const GRACE: Duration = Duration::from_secs(2);

/// The gRPC service.
#[derive(Debug, Clone)]
pub struct DestinationService {
    app: Shared,
}

impl DestinationService {
    /// A service on the daemon's context.
    pub fn new(app: Shared) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl Destination for DestinationService {
    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<AskReply>, Status> {
        let id = request.into_inner().migration_id;
        let actions = match self.app.destination.get(&id) {
            Some(migration) => migration.apply(Event::Asked)?,
            None => migration::abort_unknown(&self.app, &id)?,
        };
        let verdict = actions
            .into_iter()
            .find_map(|action| match action {
                Action::Reply(verdict) => Some(verdict),
                _ => None,
            })
            .unwrap_or(Verdict::Undecided);
        tracing::info!(migration = %id, ?verdict, "the source asked");
        let (decision, reason) = match verdict {
            Verdict::Undecided => (Decision::Unspecified, String::new()),
            Verdict::Running => (Decision::Running, String::new()),
            Verdict::Aborted { reason } => (Decision::Aborted, reason),
        };
        Ok(Response::new(AskReply {
            decision: decision.into(),
            reason,
        }))
    }
}

/// A container with the annotation starts: see `Node.Arrive` in node.proto.
pub async fn arrive(app: &Shared, request: ArriveRequest) -> Result<ArriveReply> {
    let wish = match annotations::parse(&request.annotations, &app.config.migration) {
        Ok(Some(wish)) => wish,
        Ok(None) => return Ok(reply(Code::OUTCOME_ORDINARY, "", "")),
        Err(error) => return Ok(reply(Code::OUTCOME_REFUSED, error.to_string(), "")),
    };
    if let Some(archive) = &wish.archive
        && app.destination.of_sandbox(&request.sandbox_id).is_none()
    {
        let limit = Duration::from_millis(request.timeout_ms.max(100));
        if let Some(text) = archived::awaited(app, &request.pod_namespace, archive, limit).await? {
            return Ok(reply(Code::OUTCOME_RETRY, text, ""));
        }
    }
    let before = app.destination.of_sandbox(&request.sandbox_id);
    if let Some((before, _)) = &before {
        finish::settled(before).await;
    }
    let (migration, new) = match enter(app, &request, &wish)? {
        Entered::Ordinary => return Ok(reply(Code::OUTCOME_ORDINARY, "", "")),
        Entered::Refused(reason) => return Ok(reply(Code::OUTCOME_REFUSED, reason, "")),
        Entered::Migration(migration, new) => (migration, new),
    };
    let container = request.container.clone().unwrap_or_default();
    let (name, id) = (container.name.clone(), container.id.clone());
    tracing::info!(migration = %migration.details.id, container = %name, new, "a container arrived");
    let before = before
        .filter(|_| new)
        .map(|(before, _)| before.meeting.borrow().clone());
    migration.meeting.send_modify(|meeting| {
        meeting.arrive(container);
        if let Some(before) = &before {
            meeting.take_over(before);
        }
    });
    if new {
        let span = tracing::info_span!("destination", migration = %migration.details.id);
        tokio::spawn(drive::drive(app.clone(), migration.clone(), wish).instrument(span));
    }
    let limit = Duration::from_millis(request.timeout_ms.max(100));
    Ok(wait(&migration, &name, &id, limit).await)
}

enum Entered {
    Ordinary,
    Refused(String),
    Migration(Arc<Migration>, bool),
}

/// The migration that this Start belongs to.
fn enter(app: &Shared, request: &ArriveRequest, wish: &Wish) -> Result<Entered> {
    if request.netns.is_empty() && wish.archive.is_none() {
        let reason = source::Obstacle::HostNetwork.to_string();
        return Ok(Entered::Refused(reason));
    }
    let sandbox = &request.sandbox_id;
    if let Some((known, failures)) = app.destination.of_sandbox(sandbox) {
        match known.state() {
            State::Running | State::Routed | State::Done => {
                // A Start that was asked again because this daemon was restarted, or a
                // container that crashed later and starts from its image.
                let id = request.container.id.as_str();
                return Ok(if known.restored().iter().any(|one| one == id) {
                    Entered::Migration(known, false)
                } else {
                    Entered::Ordinary
                });
            }
            State::Lost => {
                return Ok(Entered::Refused(known.handle.snapshot().message));
            }
            State::Aborting { reason, .. } => return Ok(Entered::Refused(reason)),
            State::Aborted { reason } if failures >= ATTEMPTS => {
                let text = format!(
                    "{reason} (failed {failures} times with the source frozen; delete this pod \
                     to try again)"
                );
                return Ok(Entered::Refused(text));
            }
            _ => {}
        }
    }
    let under_way = app
        .destination
        .all()
        .iter()
        .filter(|one| one.state().is_undecided())
        .count();
    let parallel = app.config.migration.max_parallel;
    let fits = |known: &Arc<Migration>, _| !known.state().is_final();
    let make = || {
        if under_way >= parallel as usize {
            return Err(Error::Refused(format!(
                "this node takes part in {parallel} migrations already (migration.max_parallel)"
            )));
        }
        let id = uuid::Uuid::new_v4().to_string();
        Migration::open(app, migration::details(&id, wish, request))
    };
    match app.destination.enter(sandbox, fits, make) {
        Ok((migration, new)) => Ok(Entered::Migration(migration, new)),
        Err(Error::Refused(reason)) => Ok(Entered::Refused(reason)),
        Err(error) => Err(error),
    }
}

/// Waits for this container's answer; near the end of its time kubelet has to try again.
async fn wait(migration: &Migration, name: &str, id: &str, limit: Duration) -> ArriveReply {
    let mut meeting = migration.meeting.subscribe();
    let mut until = Instant::now() + limit;
    let mut graced = false;
    loop {
        meeting.borrow_and_update();
        let mut answer = None;
        migration.meeting.send_if_modified(|meeting| {
            answer = meeting.answer(name);
            false
        });
        if let Some(answer) = answer {
            if answer == Answer::Running && !migration.restored().iter().any(|one| one == id) {
                return reply(Code::OUTCOME_ORDINARY, "", &migration.details.id);
            }
            return answered(migration, answer);
        }
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let _ = timeout(left, meeting.changed()).await;
            continue;
        }
        let mut again = false;
        migration.meeting.send_if_modified(|meeting| {
            // Frozen and nearly there: a little more time beats another freeze.
            again = if meeting.stage() >= Stage::Freezing && !graced {
                false
            } else {
                meeting.give_up(name, id)
            };
            again
        });
        if again {
            let line = migration.handle.snapshot().line();
            return reply(Code::OUTCOME_RETRY, line, &migration.details.id);
        }
        graced = true;
        until = Instant::now() + GRACE;
    }
}

fn answered(migration: &Migration, answer: Answer) -> ArriveReply {
    let id = &migration.details.id;
    match answer {
        Answer::Running => reply(Code::OUTCOME_RUNNING, "", id),
        Answer::Waiting => reply(
            Code::OUTCOME_WAITING,
            migration.handle.snapshot().line(),
            id,
        ),
        Answer::Exited(code) => ArriveReply {
            exit_code: code,
            ..reply(Code::OUTCOME_EXITED, "it had ended on the source", id)
        },
        Answer::Refused(reason) => reply(Code::OUTCOME_REFUSED, reason, id),
    }
}

fn reply(outcome: Code, message: impl Into<String>, migration: &str) -> ArriveReply {
    ArriveReply {
        outcome: outcome.into(),
        message: message.into(),
        migration_id: migration.to_owned(),
        ..ArriveReply::default()
    }
}

/// What the next node must know of the old connections of a pod that came here.
pub fn earlier_routes(app: &Shared, sandbox: &str) -> Vec<EarlierRoute> {
    match app.destination.of_sandbox(sandbox) {
        Some((one, _)) if matches!(one.state(), State::Running | State::Routed) => {
            one.routes().iter().map(route::Route::handed_on).collect()
        }
        _ => vec![],
    }
}

/// A pod that came here runs on another node, which takes its old connections.
pub fn moved_on(app: &Shared, sandbox: &str) {
    if let Some((migration, _)) = app.destination.of_sandbox(sandbox) {
        migration.moved_on.cancel();
    }
}

/// A container of a pod goes: see `Node.Leave` in node.proto. Also tells the source's side.
pub async fn leave(app: &Shared, request: LeaveRequest) -> Result<LeaveReply> {
    crate::source::leave(app, &request).await;
    if request.pod_going {
        return Ok(LeaveReply::default());
    }
    let Some((migration, _)) = app.destination.of_sandbox(&request.sandbox_id) else {
        return Ok(LeaveReply::default());
    };
    if request.pod_gone {
        tracing::info!(migration = %migration.details.id, "the destination pod goes");
        migration.pod_gone.cancel();
        migration.cancel("the destination pod was deleted");
        app.destination.forget_sandbox(&request.sandbox_id);
        return Ok(LeaveReply::default());
    }
    let mut left = None;
    migration.meeting.send_if_modified(|meeting| {
        let stage = meeting.stage();
        left = meeting
            .leave(&request.container_id)
            .map(|name| (name, stage));
        left.is_some()
    });
    if let Some((name, stage)) = left
        && stage >= Stage::Freezing
    {
        migration.cancel(&format!(
            "container {name} of the destination pod was stopped"
        ));
    }
    Ok(LeaveReply::default())
}

/// At start, before the servers answer: takes up what the journals say is unfinished. Long work
/// is spawned; an error stops the daemon.
#[allow(clippy::unused_async)] // As the daemon's other entry points.
pub async fn recover(app: &Shared) -> Result<()> {
    let folder = migration::journal_folder(app);
    for name in journal::list(&folder).map_err(Error::of_journal)? {
        let Some((migration, _)) = Migration::recover(app, &name)? else {
            continue;
        };
        let state = migration.state();
        let failed = matches!(state, State::Aborting { .. } | State::Aborted { .. });
        app.destination.insert(migration.clone(), failed);
        if state.is_final() {
            continue;
        }
        tracing::info!(migration = %name, state = state.name(), "taken up from the journal");
        let app = app.clone();
        let span = tracing::info_span!("destination", migration = %name);
        let task = async move {
            match state {
                State::Run => finish::run(&app, &migration, None, 0).await,
                State::Aborting { .. } => finish::aborted(&app, &migration).await,
                _ => finish::resume(&app, &migration).await,
            }
        };
        tokio::spawn(task.instrument(span));
    }
    prune(app)
}

/// Forgets old migrations whose pod is gone. While it lives its journal says that its containers
/// start from their image.
fn prune(app: &Shared) -> Result<()> {
    let living = app.shims.ids();
    let over = |entries: &[migration::Entry]| {
        let pod = entries.iter().find_map(|entry| entry.details.as_ref());
        let lives = pod.is_some_and(|pod| living.contains(&pod.sandbox));
        let last = entries.last().map(|entry| &entry.step);
        !lives && matches!(last, Some(Step::Done | Step::Aborted | Step::Lost))
    };
    let folder = migration::journal_folder(app);
    journal::prune(&folder, KEPT, over)
        .map(drop)
        .map_err(Error::of_journal)
}

/// An operator decides a held migration on the destination's side.
#[allow(clippy::unused_async)] // As the daemon's other entry points.
pub async fn resolve(app: &Shared, id: &str, _decide: Decide) -> Result<String> {
    let migration = app
        .destination
        .get(id)
        .ok_or_else(|| Error::UnknownMigration(id.to_owned()))?;
    Err(Error::Refused(format!(
        "migration {id} is {} here; it is decided on the source's node, {}",
        migration.state().name(),
        migration.details.endpoint
    )))
}

/// An operator cancels a migration before RUN.
pub async fn cancel(app: &Shared, id: &str, reason: &str) -> Result<String> {
    let migration = app
        .destination
        .get(id)
        .ok_or_else(|| Error::UnknownMigration(id.to_owned()))?;
    if !migration.state().is_undecided() {
        return Err(Error::Refused(format!(
            "migration {id} is {} and cannot be cancelled any more",
            migration.state().name()
        )));
    }
    migration.cancel(reason);
    let mut meeting = migration.meeting.subscribe();
    let ended = meeting.wait_for(|meeting| meeting.outcome().is_some());
    let _ = timeout(Duration::from_secs(30), ended).await;
    let phase = migration.handle.snapshot().phase;
    Ok(format!("migration {id}: {}", phase.words()))
}
