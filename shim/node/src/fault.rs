//! Fault points in async code.

use mycedrive_handover::fault::{self, FaultPoint};

use crate::error::{Error, Result};

/// Does what a test ordered for this point; nothing outside tests. A pause holds a thread of
/// the blocking pool, not a worker.
pub async fn hit(point: FaultPoint) -> Result<()> {
    if fault::directory().is_none() {
        return Ok(());
    }
    match tokio::task::spawn_blocking(move || fault::hit(point)).await {
        Ok(outcome) => outcome.map_err(|injected| Error::Failed(injected.to_string())),
        Err(error) => Err(Error::Failed(error.to_string())),
    }
}

/// The same on a thread that may block.
pub fn hit_blocking(point: FaultPoint) -> Result<()> {
    fault::hit(point).map_err(|injected| Error::Failed(injected.to_string()))
}
