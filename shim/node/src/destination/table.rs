//! The migrations of which this node is the destination.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::migration::Migration;

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<String, Arc<Migration>>,
    /// The newest one of each sandbox, and how often one failed after the freeze.
    by_sandbox: HashMap<String, (Arc<Migration>, u32)>,
}

/// By id and by sandbox. Ended ones stay: a late question gets the same answer, and a container
/// that starts again does not migrate again.
#[derive(Debug, Default)]
pub struct Table {
    inner: Mutex<Inner>,
}

impl Table {
    /// The migration of that id.
    pub fn get(&self, id: &str) -> Option<Arc<Migration>> {
        self.lock().by_id.get(id).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Migration>> {
        self.lock().by_id.values().cloned().collect()
    }

    /// The newest migration of a pod, and how many failed after they had frozen the source.
    pub fn of_sandbox(&self, sandbox: &str) -> Option<(Arc<Migration>, u32)> {
        self.lock().by_sandbox.get(sandbox).cloned()
    }

    /// The newest migration of a pod, or the one that `make` makes because there is none that
    /// `fits`. Nothing else comes in between.
    pub fn enter<E>(
        &self,
        sandbox: &str,
        fits: impl FnOnce(&Arc<Migration>, u32) -> bool,
        make: impl FnOnce() -> Result<Arc<Migration>, E>,
    ) -> Result<(Arc<Migration>, bool), E> {
        let mut inner = self.lock();
        let mut failures = 0;
        if let Some((known, failed)) = inner.by_sandbox.get(sandbox) {
            if fits(known, *failed) {
                return Ok((known.clone(), false));
            }
            failures = *failed;
        }
        let made = make()?;
        let id = made.details.id.clone();
        inner.by_id.insert(id, made.clone());
        inner
            .by_sandbox
            .insert(sandbox.to_owned(), (made.clone(), failures));
        Ok((made, true))
    }

    /// Enters one that a journal told of. A migration that runs or ran here comes before those
    /// that failed.
    pub fn insert(&self, migration: Arc<Migration>, failed: bool) {
        let mut inner = self.lock();
        let sandbox = migration.details.sandbox.clone();
        if !failed || !inner.by_sandbox.contains_key(&sandbox) {
            inner.by_sandbox.insert(sandbox, (migration.clone(), 0));
        }
        inner.by_id.insert(migration.details.id.clone(), migration);
    }

    /// A migration of this pod failed after the freeze.
    pub fn count_failure(&self, sandbox: &str) {
        if let Some((_, failures)) = self.lock().by_sandbox.get_mut(sandbox) {
            *failures += 1;
        }
    }

    /// The pod is gone.
    pub fn forget_sandbox(&self, sandbox: &str) {
        self.lock().by_sandbox.remove(sandbox);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
