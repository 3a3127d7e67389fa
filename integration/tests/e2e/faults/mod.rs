//! What breaks in a migration, and what comes of it: completed, rolled back, held or parked; the
//! counter in Redis never goes back, and the pod never runs twice.

mod disk;
mod link;
mod matrix;
pub mod moment;
pub mod outcome;
mod park;
mod programs;
mod restarts;
mod table;
mod vfork;
mod waiting;

use crate::world::Scenario;

pub fn all() -> Vec<Scenario> {
    [
        matrix::all(),
        restarts::all(),
        vfork::all(),
        waiting::all(),
        link::all(),
        disk::all(),
        programs::all(),
        park::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
