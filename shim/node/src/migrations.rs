//! The table of migrations: what each shows, live and after its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::files;
use crate::metrics::{Counters, Seen};
use crate::progress::{Event, Phase, Progress, Side, now_ns};

type Key = (String, Side);
type Table = BTreeMap<Key, watch::Sender<Progress>>;

/// Every migration that this node knows, by id and side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Migrations {
    table: Arc<Mutex<Table>>,
    counters: Arc<Counters>,
    dir: PathBuf,
}

impl Migrations {
    /// An empty table; logs and timelines of migrations are kept below `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            table: Arc::default(),
            counters: Arc::default(),
            dir,
        }
    }

    /// What was counted since the daemon started.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where the logs of a migration are kept. Not made by this.
    pub fn log_dir(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// Enters a migration, or finds the one that is there (a daemon asked twice).
    pub fn enter(&self, progress: Progress) -> Handle {
        let key = (progress.id.clone(), progress.side);
        let sender = self
            .lock()
            .entry(key)
            .or_insert_with(|| watch::Sender::new(progress))
            .clone();
        Handle {
            sender,
            counters: self.counters.clone(),
            dir: self.dir.clone(),
        }
    }

    /// The handle of one migration, on one side.
    pub fn get(&self, id: &str, side: Side) -> Option<Handle> {
        let sender = self.lock().get(&(id.to_owned(), side))?.clone();
        Some(Handle {
            sender,
            counters: self.counters.clone(),
            dir: self.dir.clone(),
        })
    }

    /// Follows a migration: by its id or a unique beginning of it. Where this node is both
    /// sides, the destination's is followed.
    pub fn follow(&self, id: &str) -> Result<watch::Receiver<Progress>> {
        let table = self.lock();
        let mut found: Vec<(&Key, &watch::Sender<Progress>)> = table
            .iter()
            .filter(|((known, _), _)| known == id || (id.len() >= 4 && known.starts_with(id)))
            .collect();
        if found.iter().any(|((known, _), _)| known == id) {
            found.retain(|((known, _), _)| known == id);
        }
        let ids: Vec<&String> = found.iter().map(|((known, _), _)| known).collect();
        if ids.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(Error::Refused(format!(
                "{id} is the beginning of more than one migration: give more of it"
            )));
        }
        found
            .pop()
            .map(|(_, sender)| sender.subscribe())
            .ok_or_else(|| Error::UnknownMigration(id.to_owned()))
    }

    /// All of them, newest first.
    pub fn list(&self) -> Vec<Progress> {
        let mut all: Vec<Progress> = self
            .lock()
            .values()
            .map(|sender| sender.borrow().clone())
            .collect();
        all.sort_by_key(|progress| std::cmp::Reverse(progress.started_ns));
        all
    }

    /// Loads the timelines of earlier runs of the daemon. Those that had not ended are shown
    /// as they were last seen until recovery takes them up. Unreadable ones are skipped.
    pub fn load(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            for side in [Side::Source, Side::Destination] {
                if let Some(progress) = read(&entry.path().join(file_name(side))) {
                    self.enter(progress);
                }
            }
        }
    }

    /// Forgets the oldest ended migrations beyond `keep`, with their logs. Returns how many.
    pub fn prune(&self, keep: usize) -> usize {
        let ended: Vec<Progress> = self
            .list()
            .into_iter()
            .filter(|progress| progress.phase.ended())
            .skip(keep)
            .collect();
        for progress in &ended {
            self.lock().remove(&(progress.id.clone(), progress.side));
            let dir = self.log_dir(&progress.id);
            if let Err(error) = std::fs::remove_dir_all(&dir)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(dir = %dir.display(), %error, "cannot remove old logs");
            }
        }
        ended.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &Path) -> Option<Progress> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn file_name(side: Side) -> &'static str {
    match side {
        Side::Source => "timeline-source.json",
        Side::Destination => "timeline.json",
    }
}

/// One migration's entry in the table. Cheap to clone; all clones change the same entry.
#[derive(Debug, Clone)]
pub struct Handle {
    sender: watch::Sender<Progress>,
    counters: Arc<Counters>,
    dir: PathBuf,
}

impl Handle {
    /// Changes what is shown.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        self.sender.send_modify(|progress| {
            let before = Seen::of(progress);
            change(progress);
            progress.updated_ns = now_ns();
            self.counters.changed(before, progress);
        });
    }

    /// Records that something happened, and logs it.
    pub fn event(&self, name: &str, detail: impl Into<String>) {
        self.event_at(name, detail, now_ns());
    }

    /// The same with the time at which it happened.
    pub fn event_at(&self, name: &str, detail: impl Into<String>, at_ns: u64) {
        let detail = detail.into();
        self.update(|progress| {
            tracing::info!(migration = %progress.id, side = ?progress.side, event = name, "{detail}");
            progress.events.push(Event {
                at_ns,
                name: name.to_owned(),
                detail,
            });
        });
    }

    /// Goes on to another phase, with words about it.
    pub fn phase(&self, phase: Phase, message: impl Into<String>) {
        let message = message.into();
        self.update(|progress| {
            progress.phase = phase;
            progress.message = message;
        });
    }

    /// A copy of what is shown now.
    pub fn snapshot(&self) -> Progress {
        self.sender.borrow().clone()
    }

    /// Follows the changes.
    pub fn subscribe(&self) -> watch::Receiver<Progress> {
        self.sender.subscribe()
    }

    /// Writes the timeline beside the migration's logs. A failure is logged, never fatal: the
    /// timeline decides nothing.
    pub fn save(&self) {
        let progress = self.snapshot();
        let file = self.dir.join(&progress.id).join(file_name(progress.side));
        let written = serde_json::to_vec_pretty(&progress)
            .map_err(|error| Error::Failed(error.to_string()))
            .and_then(|text| files::write_private(&file, &text));
        if let Err(error) = written {
            tracing::warn!(migration = %progress.id, %error, "cannot keep the timeline");
        }
    }
}
