//! The steps of a pod that comes to this node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use mycedrive_connection::Route;
use mycedrive_engine::freezer::Freezer;
use mycedrive_handover::fault::FaultPoint;
use tracing::{debug, info, warn};

use super::groups::wait_empty;
use super::logs::{Logs, Side};
use super::state::{Check, Destination, DestinationStage, Migration};
use super::{Migrator, blocking, hit, plain_name, stopped};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::state::{State, Step};
use crate::volumes::{self, After};

impl Migrator {
    /// Locks the network, then takes the old addresses.
    pub(super) async fn adopt(
        self: Arc<Self>,
        id: String,
        routes: Vec<Vec<String>>,
        keep: bool,
    ) -> Result<()> {
        let _step = self.pod.migration.step.lock().await;
        if self.state().check_adopt(&id)? == Check::Done {
            return Ok(());
        }
        plain_name(&id)?;
        let routes = if keep {
            parse(&routes)?
        } else {
            BTreeMap::new()
        };
        hit(FaultPoint::ShimDestinationBeforeAdopt).await?;
        // Before anything is done, so that an abort undoes what was.
        *self.state() = Migration::Destination(Destination {
            id: id.clone(),
            stage: DestinationStage::Adopted,
            keep_connections: keep,
            routes: routes.clone(),
            pids: Vec::new(),
            milliseconds: 0,
        });
        if keep {
            // Fails where there is none.
            self.network(|_| Ok(())).await?;
        }
        self.own_network(move |net| {
            net.lock_destination()?;
            routes
                .iter()
                .try_for_each(|(route, addresses)| net.adopt(*route, addresses, None))
        })
        .await?;
        info!(migration = %id, "old addresses adopted");
        hit(FaultPoint::ShimDestinationAfterAdopt).await
    }

    /// Begins to restore a container of which the image is on its way, if that helps.
    pub(super) async fn begin_restore(
        self: Arc<Self>,
        id: String,
        image_dir: PathBuf,
        name: String,
        streams: Vec<String>,
    ) -> Result<()> {
        let _step = self.pod.migration.step.lock().await;
        if self.state().check_restore(&id)? == Check::Done {
            return Ok(());
        }
        let keep = match &*self.state() {
            Migration::Destination(to) => to.keep_connections,
            _ => false,
        };
        let container = self.waiting(plain_name(&name)?)?;
        let begun = self
            .begin_restore_of(&id, &container, &image_dir, (keep, &streams))
            .await?;
        debug!(migration = %id, container = %name, begun, "restore begun before its image is here");
        hit(FaultPoint::ShimDestinationAfterBegin).await
    }

    /// Restores the containers, stopped. After an error none of them exists.
    pub(super) async fn restore(
        self: Arc<Self>,
        id: String,
        image_dir: PathBuf,
        names: Vec<String>,
    ) -> Result<(Vec<(String, i32)>, u64)> {
        let _step = self.pod.migration.step.lock().await;
        let check = self.state().check_restore(&id)?;
        let keep = match &*self.state() {
            Migration::Destination(to) if check == Check::Done => {
                return Ok((to.pids.clone(), to.milliseconds));
            }
            Migration::Destination(to) => to.keep_connections,
            _ => false,
        };
        hit(FaultPoint::ShimDestinationBeforeRestore).await?;
        let begin = Instant::now();
        let mut containers = Vec::new();
        for name in &names {
            containers.push(self.waiting(plain_name(name)?)?);
        }
        let pids = match self.restore_all(&id, &containers, &image_dir, keep).await {
            Ok(pids) => pids,
            Err(error) => {
                self.undo(&containers).await;
                return Err(error);
            }
        };
        let milliseconds = begin.elapsed().as_millis() as u64;
        stopped::note(self.sandbox(), &id)?;
        if let Migration::Destination(to) = &mut *self.state() {
            to.stage = DestinationStage::Restored;
            to.pids.clone_from(&pids);
            to.milliseconds = milliseconds;
        }
        info!(migration = %id, milliseconds, "restored, not running yet");
        hit(FaultPoint::ShimDestinationAfterRestore).await?;
        Ok((pids, milliseconds))
    }

    /// Lets the processes go and opens the network. `RUN` is durable.
    pub(super) async fn run(self: Arc<Self>, id: String) -> Result<()> {
        let _step = self.pod.migration.step.lock().await;
        if self.state().check_run(&id)? == Check::Done {
            return Ok(());
        }
        hit(FaultPoint::ShimDestinationBeforeRun).await?;
        stopped::remove(self.sandbox())?;
        // First, as their sockets are there: what a program sends under the lock fails (EPERM) or
        // goes out late. Those that an engine suspended make theirs when they run.
        let late = self.apps().iter().any(|container| {
            container.restored().is_some()
                && container.engine().is_ok_and(|engine| engine.suspends())
        });
        if !late {
            self.own_network(mycedrive_connection::PodNet::unlock_destination)
                .await?;
        }
        for container in self.apps() {
            let Some(restored) = container.restored() else {
                continue;
            };
            if container.init.state() != State::Frozen {
                continue;
            }
            let _op = container.init.op.lock().await;
            // A container that was killed while it stood still has ended; that is for
            // kubelet to see, and the others run.
            let ran = container
                .engine()
                .and_then(|engine| Ok(engine.run(&restored)?));
            if let Err(error) = ran {
                warn!(migration = %id, container = %container.name, %error, "not running");
            }
            if container.init.step(Step::Thaw).is_ok() {
                container.watch_oom();
            }
        }
        hit(FaultPoint::ShimDestinationDuringRun).await?;
        if late {
            self.own_network(mycedrive_connection::PodNet::unlock_destination)
                .await?;
        }
        if let Migration::Destination(to) = &mut *self.state() {
            to.stage = DestinationStage::Running;
        }
        self.deliver_signals();
        Logs::of(&id, Side::Destination).keep();
        info!(migration = %id, "running");
        hit(FaultPoint::ShimDestinationAfterRun).await
    }

    /// Before `RUN`: kills what was restored and gives the old addresses back.
    pub(super) async fn abort(self: Arc<Self>, id: String, reason: String) -> Result<()> {
        let _step = self.pod.migration.step.lock().await;
        if self.state().check_abort(&id)? == Check::Done {
            return Ok(());
        }
        hit(FaultPoint::ShimDestinationBeforeUndo).await?;
        stopped::remove(self.sandbox())?;
        self.undo(&self.apps()).await;
        self.drop_addresses().await?;
        self.own_network(mycedrive_connection::PodNet::unlock_destination)
            .await?;
        *self.state() = Migration::None;
        self.end_signalled();
        Logs::of(&id, Side::Destination).keep();
        info!(migration = %id, reason, "aborted");
        hit(FaultPoint::ShimDestinationAfterUndo).await
    }

    /// The last connection to an old pod ended, or that pod is gone. With `keep_addresses` it only
    /// goes: its connections end.
    pub(super) async fn drop_route(
        self: Arc<Self>,
        id: String,
        number: usize,
        keep_addresses: bool,
    ) -> Result<()> {
        let _step = self.pod.migration.step.lock().await;
        let route = Route::new(number)?;
        if self.state().check_drop_route(&id, route)? == Check::Done {
            return Ok(());
        }
        if keep_addresses {
            let addresses = self.addresses_of(route).unwrap_or_default();
            return self
                .network(move |net| net.reset_connections(&addresses))
                .await;
        }
        self.drop_one(route).await?;
        info!(migration = %id, number, "old addresses dropped");
        Ok(())
    }

    /// Gives all adopted addresses back.
    pub(super) async fn drop_addresses(&self) -> Result<()> {
        let routes: Vec<Route> = match self.state().routes() {
            Some(routes) => routes.keys().copied().collect(),
            None => Vec::new(),
        };
        for route in routes {
            self.drop_one(route).await?;
        }
        Ok(())
    }

    async fn drop_one(&self, route: Route) -> Result<()> {
        if let Some(addresses) = self.addresses_of(route) {
            self.network(move |net| net.drop_route(route, &addresses))
                .await?;
        }
        if let Some(routes) = self.state().routes() {
            routes.remove(&route);
        }
        Ok(())
    }

    fn addresses_of(&self, route: Route) -> Option<Vec<IpAddr>> {
        let mut state = self.state();
        state.routes().and_then(|all| all.get(&route).cloned())
    }

    /// The container of this name that waits. kubelet makes a new one at each retry; those
    /// before have ended.
    fn waiting(&self, name: &str) -> Result<Arc<Container>> {
        self.apps()
            .into_iter()
            .find(|container| container.name == name && container.init.state() == State::Waiting)
            .ok_or_else(|| {
                Error::Precondition(format!(
                    "no container {name} waits in this pod to be restored; was it deleted?"
                ))
            })
    }

    /// Kills what was restored; the containers wait again. Goes on after errors.
    async fn undo(&self, containers: &[Arc<Container>]) {
        for container in containers {
            container.forget_restore().await;
            let pid = container.init.pid();
            let restored = container.init.state() == State::Frozen || pid != 0;
            if restored && let Err(error) = undo_one(container, pid).await {
                warn!(container = %container.name, %error, "a restore was not undone cleanly");
            }
            volumes::detach(&self.pod, container, After::Undo).await;
            let unmounting = container.clone();
            if container.init.state() == State::Waiting
                && let Err(error) = blocking(move || unmounting.unmount_rootfs()).await
            {
                warn!(container = %container.name, %error, "still mounted");
            }
        }
    }
}

async fn undo_one(container: &Arc<Container>, pid: i32) -> Result<()> {
    let _op = container.init.op.lock().await;
    let freezer = Freezer::of_process(pid);
    container.forget_init();
    if container.init.state() == State::Frozen {
        container.init.step(Step::Wait)?;
    }
    let freezer = freezer?;
    blocking(move || {
        freezer.kill_all()?;
        wait_empty(&[freezer]);
        Ok(())
    })
    .await?;
    container.delete_from_runc().await
}

/// The addresses of each route, each address once.
fn parse(routes: &[Vec<String>]) -> Result<BTreeMap<Route, Vec<IpAddr>>> {
    let mut parsed = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (number, addresses) in routes.iter().enumerate() {
        let mut of_route = Vec::new();
        for text in addresses {
            let usable = text.parse::<IpAddr>().ok().filter(|address| {
                !address.is_loopback() && !address.is_multicast() && !address.is_unspecified()
            });
            let address = usable.ok_or_else(|| {
                Error::Invalid(format!("{text:?} is not an IP address that a pod can have"))
            })?;
            if known.insert(address) {
                of_route.push(address);
            }
        }
        if !of_route.is_empty() {
            parsed.insert(Route::new(number)?, of_route);
        }
    }
    Ok(parsed)
}

#[cfg(test)]
#[path = "destination_tests.rs"]
mod tests;
