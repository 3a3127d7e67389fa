//! A pod stands still, behind its lock, and goes on.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mycedrive_connection::repair::Lock;
use mycedrive_engine::freezer::{self, Freezer};
use mycedrive_handover::fault::FaultPoint;
use tracing::warn;

use super::groups::{by_engine, connections, freezers, suspends};
use super::{Migrator, blocking, hit, open, target};
use crate::container::Container;
use crate::error::{Error, Result};

/// How long a freeze waits for execs (probes) to end. New ones are refused meanwhile.
const EXEC_PATIENCE: Duration = Duration::from_secs(2);

/// How long a program gets to accept connections and read datagrams before it is stopped. It runs
/// meanwhile.
const TAKING: Duration = Duration::from_millis(100);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(1);

impl Migrator {
    /// Freezes, then locks: a program that sends under the lock is told that it may not (EPERM).
    /// An engine that suspends has the network locked itself, before it reads sockets. After an error
    /// neither is in place.
    ///
    /// What the program has not taken by then does not move. So if connections are to be kept, new
    /// ones and datagrams wait outside before, and the program gets time to take those that are there.
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
            if keep {
                self.hold_newcomers(addresses.clone()).await?;
            }
            let lock = self.lock(addresses.clone(), keep);
            let Some(engine) = suspends(&suspended)? else {
                let at = freeze(&freezers).await?;
                blocking(move || Ok(lock()?)).await?;
                hit(FaultPoint::ShimSourceAfterLock).await?;
                return Ok(at);
            };
            let targets = suspended.iter().map(|c| (target(c), c.init.pid()));
            engine
                .suspend(targets.collect(), connections(keep), lock)
                .await?;
            let others = async {
                hit(FaultPoint::ShimSourceAfterLock).await?;
                freeze(&freezers).await
            };
            let frozen = others.await;
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

    /// What locks the network, when nothing of the pod runs any more. The peers of connections that
    /// the program has not taken are told: nobody will ever answer them.
    fn lock(&self, addresses: Vec<IpAddr>, keep: bool) -> Lock {
        let (netns, port) = (self.netns().map(Path::to_owned), self.loopback_port());
        Box::new(move || {
            let Some(netns) = netns else {
                return Ok(());
            };
            let net = open(&netns, port)?;
            if keep {
                let count = net.reset_untaken()?;
                if count > 0 {
                    warn!(
                        count,
                        "connections that the program did not accept in time end"
                    );
                }
            }
            net.lock_source(&addresses)
        })
    }

    /// New connections and datagrams wait outside; returns when the program has taken what is there,
    /// or could have.
    async fn hold_newcomers(&self, addresses: Vec<IpAddr>) -> Result<()> {
        self.own_network(move |net| {
            net.hold_newcomers(&addresses)?;
            let begin = Instant::now();
            while net.untaken()? > 0 && begin.elapsed() < TAKING {
                thread::sleep(LOOK);
            }
            Ok(())
        })
        .await
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
