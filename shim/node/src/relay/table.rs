//! The pumps of this node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pump::Pump;
use crate::progress::Side;

type Table = BTreeMap<(String, Side), Pump>;

/// Pumps by migration and side (both sides may be on one node). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Relays {
    table: Arc<Mutex<Table>>,
}

impl Relays {
    /// Enters a pump; one that was there is returned.
    pub fn insert(&self, migration: &str, side: Side, pump: Pump) -> Option<Pump> {
        self.lock().insert((migration.to_owned(), side), pump)
    }

    /// The pump of a migration.
    pub fn get(&self, migration: &str, side: Side) -> Option<Pump> {
        self.lock().get(&(migration.to_owned(), side)).cloned()
    }

    /// Takes a pump out.
    pub fn remove(&self, migration: &str, side: Side) -> Option<Pump> {
        self.lock().remove(&(migration.to_owned(), side))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
