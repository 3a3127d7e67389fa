//! One migration at the destination: its state machine with the journal behind it, and the
//! rendezvous of its containers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mycedrive_handover::destination::{Action, Destination, Event, State, Step};
use mycedrive_handover::journal::Journal;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::annotations::Wish;
use super::meeting::Meeting;
use super::route::Route;
use crate::app::App;
use crate::error::{Error, Result};
use crate::migrations::Handle;
use crate::progress::{Phase, Progress, Side, now_ns};
use crate::source::lock;

/// What a restarted daemon must know about a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The migration.
    pub id: String,
    /// This pod's sandbox.
    pub sandbox: String,
    /// containerd's namespace.
    pub containerd_namespace: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// This pod's name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Path of its network namespace.
    pub netns: String,
    /// `host:port` of the source node.
    pub endpoint: String,
    /// Name of the source pod.
    pub source_pod: String,
    /// Whether connections are kept.
    pub keep_connections: bool,
}

/// A record of the journal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When, nanoseconds since 1970.
    pub at_ns: u64,
    /// What.
    pub step: Step,
    /// With the first record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// The old addresses, with `run`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Ids of the containers that were restored, with `run`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
}

#[derive(Debug)]
struct Core {
    machine: Destination,
    journal: Journal,
}

/// One migration.
#[derive(Debug)]
pub struct Migration {
    /// Fixed at the first arrival.
    pub details: Details,
    /// What is shown of it.
    pub handle: Handle,
    /// The rendezvous.
    pub meeting: watch::Sender<Meeting>,
    /// Old addresses and where their packets come from, once they are known: first those of the
    /// source pod. `None` is one that has ended.
    pub routes: Mutex<Vec<Option<Route>>>,
    /// Ids of the containers that were restored.
    pub restored: Mutex<Vec<String>>,
    /// The first processes of those containers.
    pub pids: Mutex<Vec<i32>>,
    /// Bytes on the wire so far.
    pub received: Arc<AtomicU64>,
    /// The source may know of this migration.
    pub contacted: std::sync::atomic::AtomicBool,
    /// The source has an image without processes: there are no connections to keep.
    pub parked: std::sync::atomic::AtomicBool,
    /// The source was asked to freeze.
    pub froze: std::sync::atomic::AtomicBool,
    /// Cancelled when this pod goes.
    pub pod_gone: CancellationToken,
    /// Cancelled when the pod runs on another node, which has taken the old connections.
    pub moved_on: CancellationToken,
    cancelled: watch::Sender<Option<String>>,
    core: Mutex<Core>,
}

impl Migration {
    /// A new migration: recorded when this returns.
    pub fn open(app: &App, details: Details) -> Result<Arc<Self>> {
        let (machine, actions) = Destination::open();
        let (mut journal, _) =
            Journal::open::<Entry>(&journal_folder(app), &details.id).map_err(Error::of_journal)?;
        record(&mut journal, &actions, Some(details.clone()), &[], &[])?;
        Ok(Self::assemble(app, details, Core { machine, journal }))
    }

    /// A migration as its journal tells it, and what has to be done. `None` when the journal
    /// names no pod: an answer to a source's question about an unknown migration.
    pub fn recover(app: &App, name: &str) -> Result<Option<(Arc<Self>, Vec<Action>)>> {
        let (mut journal, entries) =
            Journal::open::<Entry>(&journal_folder(app), name).map_err(Error::of_journal)?;
        let Some(details) = entries.iter().find_map(|entry| entry.details.clone()) else {
            return Ok(None);
        };
        let run = entries.iter().find(|entry| entry.step == Step::Run);
        let (routes, restored) = run
            .map(|entry| (entry.routes.clone(), entry.containers.clone()))
            .unwrap_or_default();
        let steps: Vec<Step> = entries.into_iter().map(|entry| entry.step).collect();
        let Some((machine, actions)) = Destination::recover(&steps) else {
            return Ok(None);
        };
        record(&mut journal, &actions, None, &[], &[])?;
        let one = Self::assemble(app, details, Core { machine, journal });
        one.contacted.store(true, Ordering::Relaxed);
        *lock(&one.routes) = routes.into_iter().map(Some).collect();
        *lock(&one.restored) = restored;
        one.show();
        Ok(Some((one, without_records(actions))))
    }

    fn assemble(app: &App, details: Details, core: Core) -> Arc<Self> {
        let mut progress = Progress::new(&details.id, Side::Destination);
        progress.namespace.clone_from(&details.namespace);
        progress.pod.clone_from(&details.pod);
        progress.sandbox.clone_from(&details.sandbox);
        progress.peer_endpoint.clone_from(&details.endpoint);
        Arc::new(Self {
            handle: app.migrations.enter(progress),
            details,
            meeting: watch::Sender::default(),
            routes: Mutex::default(),
            restored: Mutex::default(),
            pids: Mutex::default(),
            received: Arc::default(),
            contacted: false.into(),
            parked: false.into(),
            froze: false.into(),
            pod_gone: CancellationToken::new(),
            moved_on: CancellationToken::new(),
            cancelled: watch::Sender::default(),
            core: Mutex::new(core),
        })
    }

    /// Takes an event. What it leads to is durable when this returns, and only then takes
    /// effect; the actions that are left are the caller's. Writes and syncs a small file, so it
    /// is called seldom and blocks shortly.
    pub fn apply(&self, event: Event) -> Result<Vec<Action>> {
        let (routes, restored) = (self.routes(), self.restored());
        let mut core = lock(&self.core);
        let before = core.machine.state().clone();
        let mut next = core.machine.clone();
        tracing::debug!(migration = %self.details.id, ?event, state = before.name(), "destination");
        let actions = next.on(event);
        record(&mut core.journal, &actions, None, &routes, &restored)?;
        core.machine = next;
        let changed = *core.machine.state() != before;
        drop(core);
        if changed {
            self.show();
        }
        Ok(without_records(actions))
    }

    /// Whether old connections go on here.
    pub fn keeps_connections(&self) -> bool {
        self.details.keep_connections && !self.parked.load(Ordering::Relaxed)
    }

    /// Where it is.
    pub fn state(&self) -> State {
        let core = lock(&self.core);
        core.machine.state().clone()
    }

    /// The routes that have not ended.
    pub fn routes(&self) -> Vec<Route> {
        lock(&self.routes).iter().flatten().cloned().collect()
    }

    /// A route has ended.
    pub fn route_ended(&self, number: usize) {
        if let Some(route) = lock(&self.routes).get_mut(number) {
            *route = None;
        }
    }

    /// Ids of the containers that were restored.
    pub fn restored(&self) -> Vec<String> {
        lock(&self.restored).clone()
    }

    /// Asks the task to give up, when `RUN` is not recorded yet.
    pub fn cancel(&self, reason: &str) {
        self.cancelled.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    /// Waits until somebody asks to give up.
    pub async fn cancelled(&self) -> String {
        let mut cancelled = self.cancelled.subscribe();
        loop {
            if let Some(reason) = cancelled.borrow_and_update().clone() {
                return reason;
            }
            if cancelled.changed().await.is_err() {
                return "the migration was dropped".to_owned();
            }
        }
    }

    fn show(&self) {
        let state = self.state();
        let (phase, message) = match &state {
            State::Opened => (Phase::Opening, String::new()),
            State::Copying => (Phase::Copying, String::new()),
            State::Receiving => (Phase::Freezing, String::new()),
            State::Received { .. } | State::Run => (Phase::Restoring, String::new()),
            State::Running | State::Routed => (Phase::Relaying, String::new()),
            State::Done => (Phase::Completed, String::new()),
            State::Aborting { reason, .. } => (Phase::Deciding, format!("aborts: {reason}")),
            State::Aborted { reason } => (Phase::RolledBack, reason.clone()),
            State::Lost => (
                Phase::Held,
                format!(
                    "this pod was deleted, or its shim killed, before its processes were known \
                     to run; decide on the \
                     source node: `mycedrive resolve {}`",
                    self.details.id
                ),
            ),
        };
        self.handle.phase(phase, message);
        if state.is_final() {
            self.handle.event(state.name(), String::new());
            self.handle.save();
        }
    }
}

/// The durable answer to a question about a migration that this node does not know.
pub fn abort_unknown(app: &App, id: &str) -> Result<Vec<Action>> {
    let folder = journal_folder(app);
    let (mut journal, entries) = Journal::open::<Entry>(&folder, id).map_err(Error::of_journal)?;
    let (_, actions) = Destination::unknown();
    if entries.is_empty() {
        record(&mut journal, &actions, None, &[], &[])?;
    }
    Ok(without_records(actions))
}

/// What the annotations and the arrival make of a new migration.
pub fn details(id: &str, wish: &Wish, request: &mycedrive_proto::node::ArriveRequest) -> Details {
    Details {
        id: id.to_owned(),
        sandbox: request.sandbox_id.clone(),
        containerd_namespace: request.containerd_namespace.clone(),
        namespace: request.pod_namespace.clone(),
        pod: request.pod_name.clone(),
        uid: request.pod_uid.clone(),
        netns: request.netns.clone(),
        endpoint: wish.endpoint.clone(),
        source_pod: wish.pod.clone(),
        keep_connections: wish.keep_connections,
    }
}

/// Where journals of this side are.
pub fn journal_folder(app: &App) -> PathBuf {
    app.config.journal_dir.join("destination")
}

fn record(
    journal: &mut Journal,
    actions: &[Action],
    mut details: Option<Details>,
    routes: &[Route],
    restored: &[String],
) -> Result<()> {
    for action in actions {
        if let Action::Record(step) = action {
            let (routes, containers) = match step {
                Step::Run => (routes.to_vec(), restored.to_vec()),
                _ => (vec![], vec![]),
            };
            let entry = Entry {
                at_ns: now_ns(),
                step: step.clone(),
                details: details.take(),
                routes,
                containers,
            };
            journal.append(&entry).map_err(Error::of_journal)?;
        }
    }
    Ok(())
}

fn without_records(mut actions: Vec<Action>) -> Vec<Action> {
    actions.retain(|action| !matches!(action, Action::Record(_)));
    actions
}
