//! One migration at the source: its state machine with the journal behind it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mycedrive_handover::journal::Journal;
use mycedrive_handover::source::{Action, Event, Source, State, Step};
use mycedrive_handover::{Policy, Refused};
use mycedrive_transfer::MemorySender;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::trees::Trees;
use crate::app::App;
use crate::config::LinkLost;
use crate::error::{Error, Result};
use crate::migrations::Handle;
use crate::progress::{Phase, Progress, Side, now_ns};
use crate::relay::Token;

/// What a restarted daemon must know about a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The migration.
    pub id: String,
    /// The pod's sandbox.
    pub sandbox: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub pod: String,
    /// Path of its network namespace.
    pub netns: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Name of the destination's node, from its certificate.
    pub peer: String,
    /// Where the destination answers.
    pub endpoint: String,
    /// Name of the pod that takes over.
    pub destination: String,
    /// The pod's uid.
    #[serde(default)]
    pub uid: String,
    /// The parked image, when it is one that moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<String>,
    /// Whether connections are kept.
    pub keep_connections: bool,
    /// Shown by a node to which the pod moves later.
    #[serde(default)]
    pub relay_token: Token,
    /// Bytes per second; 0: no limit.
    pub bandwidth: u64,
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
}

#[derive(Debug)]
struct Core {
    machine: Source,
    journal: Journal,
}

/// One migration.
#[derive(Debug)]
pub struct Migration {
    /// Fixed at Open.
    pub details: Details,
    /// What is shown of it.
    pub handle: Handle,
    /// Trees and their senders; held while a round is under way.
    pub trees: Arc<Mutex<Trees>>,
    /// What was sent of the memory; held while a round is under way.
    pub memory: Mutex<MemorySender>,
    /// Containers that were authorised.
    pub authorised: Mutex<BTreeSet<String>>,
    /// Digest of the final round, once it was sent.
    pub digest: Mutex<Option<[u8; 32]>>,
    /// Bytes on the wire so far.
    pub sent: Arc<AtomicU64>,
    /// When the destination asked for something last.
    touched: Mutex<Instant>,
    core: Mutex<Core>,
    state: watch::Sender<State>,
}

impl Migration {
    /// A migration that was just authorised: recorded when this returns.
    pub fn open(app: &App, details: Details, trees: Trees) -> Result<Arc<Self>> {
        let (machine, actions) = Source::open(policy(app));
        let folder = journal_folder(app);
        let (journal, _) =
            Journal::open::<Entry>(&folder, &details.id).map_err(Error::of_journal)?;
        let mut core = Core { machine, journal };
        let first = Some(details.clone());
        record(&mut core.journal, &actions, first)?;
        Ok(Self::assemble(app, details, trees, core))
    }

    /// A migration as its journal tells it, and what has to be done.
    pub fn recover(app: &App, name: &str) -> Result<Option<(Arc<Self>, Vec<Action>)>> {
        let folder = journal_folder(app);
        let (mut journal, entries) =
            Journal::open::<Entry>(&folder, name).map_err(Error::of_journal)?;
        let Some(details) = entries.iter().find_map(|entry| entry.details.clone()) else {
            return Ok(None);
        };
        let steps: Vec<Step> = entries.into_iter().map(|entry| entry.step).collect();
        let Some((machine, actions)) = Source::recover(&steps, policy(app)) else {
            return Ok(None);
        };
        record(&mut journal, &actions, None)?;
        let core = Core { machine, journal };
        let one = Self::assemble(app, details, Trees::default(), core);
        one.show(&one.state());
        let actions = without_records(actions);
        Ok(Some((one, actions)))
    }

    fn assemble(app: &App, details: Details, trees: Trees, core: Core) -> Arc<Self> {
        let mut progress = Progress::new(&details.id, Side::Source);
        progress.namespace.clone_from(&details.namespace);
        progress.pod.clone_from(&details.pod);
        progress.sandbox.clone_from(&details.sandbox);
        progress.peer.clone_from(&details.peer);
        progress.peer_endpoint.clone_from(&details.endpoint);
        let handle = app.migrations.enter(progress);
        let state = watch::Sender::new(core.machine.state().clone());
        Arc::new(Self {
            details,
            handle,
            trees: Arc::new(Mutex::new(trees)),
            memory: Mutex::default(),
            authorised: Mutex::default(),
            digest: Mutex::default(),
            sent: Arc::default(),
            touched: Mutex::new(Instant::now()),
            core: Mutex::new(core),
            state,
        })
    }

    /// Takes an event. What it leads to is durable when this returns, and only then takes
    /// effect; the actions that are left are for `perform`. Writes and syncs a small file, so
    /// it is called seldom and blocks shortly.
    pub fn apply(&self, event: Event) -> Result<Vec<Action>> {
        let mut core = lock(&self.core);
        let mut next = core.machine.clone();
        tracing::debug!(migration = %self.details.id, ?event, state = next.state().name(), "source");
        let actions = next.on(event).map_err(|Refused { event, state }| {
            let id = &self.details.id;
            Error::Refused(format!(
                "migration {id}: {event} is not possible: it is {state}"
            ))
        })?;
        record(&mut core.journal, &actions, None)?;
        core.machine = next;
        let state = core.machine.state().clone();
        drop(core);
        if self.state.send_if_modified(|shown| {
            let changed = *shown != state;
            shown.clone_from(&state);
            changed
        }) {
            self.show(&state);
        }
        Ok(without_records(actions))
    }

    /// The destination asks for something.
    pub fn touch(&self) {
        *lock(&self.touched) = Instant::now();
    }

    /// For how long the destination has asked for nothing.
    pub fn idle(&self) -> Duration {
        lock(&self.touched).elapsed()
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Follows where it is.
    pub fn follow(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The pod's name for messages: `namespace/name`.
    pub fn pod(&self) -> String {
        format!("{}/{}", self.details.namespace, self.details.pod)
    }

    fn show(&self, state: &State) {
        let (phase, message) = match state {
            State::Opened => (Phase::Copying, String::new()),
            State::Freezing | State::Frozen => (Phase::Freezing, String::new()),
            State::Offered => (
                Phase::Deciding,
                "waits for the destination's decision".to_owned(),
            ),
            State::Held => (
                Phase::Held,
                format!(
                    "the pod is frozen; {} at {} does not say whether it runs there: \
                     `mycedrive resolve {}` decides",
                    self.details.peer, self.details.endpoint, self.details.id
                ),
            ),
            State::Discarding => (Phase::Relaying, "discards its frozen copy".to_owned()),
            State::Done => (Phase::Completed, format!("runs at {}", self.details.peer)),
            State::RollingBack { reason } => (Phase::Deciding, format!("rolls back: {reason}")),
            State::RolledBack { reason } => (Phase::RolledBack, reason.clone()),
        };
        self.handle.phase(phase, message);
        // That one is noted with the moment at which it happened.
        if *state != State::Frozen {
            self.handle.event(state.name(), String::new());
        }
        if state.is_final() || *state == State::Held {
            self.handle.save();
        }
    }
}

/// Where journals of this side are.
pub fn journal_folder(app: &App) -> PathBuf {
    app.config.journal_dir.join("source")
}

fn policy(app: &App) -> Policy {
    match app.config.migration.link_lost {
        LinkLost::Hold => Policy::Hold,
        LinkLost::PreferSource => Policy::PreferSource,
        LinkLost::PreferDestination => Policy::PreferDestination,
    }
}

fn record(journal: &mut Journal, actions: &[Action], mut details: Option<Details>) -> Result<()> {
    for action in actions {
        if let Action::Record(step) = action {
            let entry = Entry {
                at_ns: now_ns(),
                step: step.clone(),
                details: details.take(),
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

/// A lock whose holder panicked is still usable: all changes are single assignments.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
