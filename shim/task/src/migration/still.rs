//! A pod stands still, behind its lock, and goes on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mycedrive_engine::freezer::{self, Freezer};
use mycedrive_handover::fault::FaultPoint;
use tracing::warn;

use super::groups::{by_engine, connections, freezers, suspends};
use super::{Migrator, blocking, hit, target};
use crate::container::Container;
use crate::error::{Error, Result};

/// How long a freeze waits for execs (probes) to end. New ones are refused meanwhile.
const EXEC_PATIENCE: Duration = Duration::from_secs(2);

impl Migrator {
    /// Freezes, then locks: a program that sends under the lock is told that it may not (EPERM).
    /// What an engine suspends needs the lock before. After an error neither is in place.
    pub(super) async fn stop(
        &self,
        containers: &[Arc<Container>],
        addresses: Vec<IpAddr>,
        keep: bool,
    ) -> Result<u64> {
        let (suspended, frozen) = by_engine(containers)?;
        let freezers = freezers(&frozen)?;
        wait_for_execs(containers, EXEC_PATIENCE).await?;
        let stopped = async {
            hit(FaultPoint::ShimSourceBeforeLock).await?;
            let Some(engine) = suspends(&suspended)? else {
                let at = freeze(&freezers).await?;
                self.lock(&addresses).await?;
                return Ok(at);
            };
            self.lock(&addresses).await?;
            let targets = suspended.iter().map(|c| (target(c), c.init.pid()));
            engine.suspend(targets.collect(), connections(keep)).await?;
            let frozen = freeze(&freezers).await;
            if frozen.is_err() {
                engine.resume().await?;
            }
            frozen
        }
        .await;
        if stopped.is_err() {
            self.let_go(freezers, &addresses)
                .await
                .unwrap_or_else(|error| warn!(%error, "the freeze could not be undone"));
        }
        stopped
    }

    async fn lock(&self, addresses: &[IpAddr]) -> Result<()> {
        let addresses = addresses.to_vec();
        self.own_network(move |net| net.lock_source(&addresses))
            .await?;
        hit(FaultPoint::ShimSourceAfterLock).await
    }

    /// Unlocks and thaws, in this order; see [`Migrator::stop`].
    pub(super) async fn let_go(&self, freezers: Vec<Freezer>, addresses: &[IpAddr]) -> Result<()> {
        let addresses = addresses.to_vec();
        let unlocked = self
            .own_network(move |net| net.unlock_source(&addresses))
            .await;
        blocking(move || Ok(freezer::thaw_all(&freezers)?)).await?;
        unlocked
    }
}

/// Waits until no exec runs in any of these, not longer than `patience`.
pub(super) async fn wait_for_execs(
    containers: &[Arc<Container>],
    patience: Duration,
) -> Result<()> {
    let execs = async {
        for container in containers {
            let mut count = container.running_execs();
            let _ = count.wait_for(|count| *count == 0).await;
        }
    };
    tokio::time::timeout(patience, execs).await.map_err(|_| {
        Error::Precondition(
            "an exec session runs in the pod, which cannot move; end it and try again".to_owned(),
        )
    })
}

/// Freezes all and says when (nanoseconds of the wall clock).
async fn freeze(freezers: &[Freezer]) -> Result<u64> {
    let freezers = freezers.to_vec();
    blocking(move || {
        freezer::freeze_all(&freezers)?;
        Ok(now_ns())
    })
    .await
}

fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
