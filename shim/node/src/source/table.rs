//! The migrations of which this node is the source.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::migration::Migration;

/// By id. Final ones stay until the daemon ends: a late message gets the same answer.
#[derive(Debug, Default)]
pub struct Table {
    migrations: Mutex<HashMap<String, Arc<Migration>>>,
}

impl Table {
    /// The migration of that id.
    pub fn get(&self, id: &str) -> Option<Arc<Migration>> {
        self.lock().get(id).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Migration>> {
        self.lock().values().cloned().collect()
    }

    /// Those of a pod that have not come to an end.
    pub fn open_of(&self, sandbox: &str) -> Vec<Arc<Migration>> {
        self.lock()
            .values()
            .filter(|one| one.details.sandbox == sandbox && !one.state().is_final())
            .cloned()
            .collect()
    }

    /// Enters a migration.
    pub fn insert(&self, migration: Arc<Migration>) {
        self.lock().insert(migration.details.id.clone(), migration);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Migration>>> {
        self.migrations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
