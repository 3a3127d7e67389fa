//! The pumps of this node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mycedrive_connection::Tun;

use super::pump::Pump;

type Table = BTreeMap<(String, Tun), Pump>;

/// Pumps by the migration of their pod (as source or as destination) and device. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Relays {
    table: Arc<Mutex<Table>>,
}

impl Relays {
    /// Enters a pump; one that was there is returned.
    pub fn insert(&self, migration: &str, tun: Tun, pump: Pump) -> Option<Pump> {
        self.lock().insert((migration.to_owned(), tun), pump)
    }

    /// The pump of a migration.
    pub fn get(&self, migration: &str, tun: Tun) -> Option<Pump> {
        self.lock().get(&(migration.to_owned(), tun)).cloned()
    }

    /// Takes a pump out.
    pub fn remove(&self, migration: &str, tun: Tun) -> Option<Pump> {
        self.lock().remove(&(migration.to_owned(), tun))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
