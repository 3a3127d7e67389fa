//! The steps of a pod that leaves this node, but for the dump.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mycedrive_engine::freezer;
use mycedrive_handover::fault::FaultPoint;
use mycedrive_proto::shim::DescribeReply;
use tracing::{info, warn};

use super::dump::Begun;
use super::groups::{freezers, has_room, suspends, thaw_states, wait_empty};
use super::logs::{Logs, Side};
use super::state::{Check, Dumped, Migration, Resumed, Source, SourceStage};
use super::{Migrator, blocking, hit, left, plain_name};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::pod::Pod;
use crate::state::{State, Step};
use crate::volumes;

impl Migrator {
    /// Freezes all containers and locks the network. Returns when the last one stood still. What
    /// writes images below `images` starts before.
    pub(super) async fn freeze(
        self: Arc<Self>,
        id: String,
        keep: bool,
        images: Option<PathBuf>,
    ) -> Result<u64> {
        let _step = self.pod.migration.step.lock().await;
        let check = self.state().check_freeze(&id)?;
        if check == Check::Done {
            return Ok(match &*self.state() {
                Migration::Source(source) => source.frozen_at_ns,
                _ => 0,
            });
        }
        plain_name(&id)?;
        // Before the containers are looked at: one that starts meanwhile is refused, or seen.
        let _freezing = Freezing::begin(&self.pod);
        let containers = self.running()?;
        let addresses = if keep || self.netns().is_some() {
            self.network(mycedrive_connection::PodNet::addresses)
                .await?
        } else {
            Vec::new()
        };
        let described = self.describe().await?;
        if let Some(images) = images.clone() {
            has_room(&containers, images).await?;
        }
        let begun = match &images {
            Some(images) => self.begin_dumps(&id, images, &containers, keep).await?,
            None => Begun::none(&self.pod),
        };

        // From here on no exec starts. Those that run are let finish.
        for (index, container) in containers.iter().enumerate() {
            let _op = container.init.op.lock().await;
            if let Err(error) = container.init.step(Step::Freeze) {
                thaw_states(&containers[..index]);
                return Err(error);
            }
        }
        let result = self.stop(&containers, addresses.clone(), keep).await;
        let frozen_at_ns = match result {
            Ok(at) => at,
            Err(error) => {
                thaw_states(&containers);
                return Err(error);
            }
        };
        let noted = suspends(&containers).and_then(|engine| {
            if engine.is_some() {
                // Only this shim can have them dumped. From then on there is a note.
                return Ok(());
            }
            self.note_left(&id, keep, frozen_at_ns, described, &containers, None)
        });
        if let Err(error) = noted {
            warn!(migration = %id, %error, "the pod is lost if this shim dies while it is frozen");
        }
        self.state().leave(Source {
            id: id.clone(),
            stage: SourceStage::Frozen,
            keep_connections: keep,
            addresses,
            frozen_at_ns,
            dump: Dumped::default(),
            destination: String::new(),
            came: None,
            parked: false,
        });
        begun.keep();
        info!(migration = %id, containers = containers.len(), "frozen");
        hit(FaultPoint::ShimSourceAfterFreeze).await?;
        Ok(frozen_at_ns)
    }

    /// Notes what is to be done should this shim die now; see [`left`].
    pub(super) fn note_left(
        &self,
        id: &str,
        keep: bool,
        frozen_at_ns: u64,
        described: DescribeReply,
        containers: &[Arc<Container>],
        images: Option<&Path>,
    ) -> Result<()> {
        let all = self.pod.containers();
        let sandbox = all.iter().find(|container| container.is_sandbox);
        let mut note = left::note(id, keep, frozen_at_ns, described, containers, sandbox)?;
        if let Some(images) = images {
            note.image_dir = images.display().to_string();
        }
        left::write(self.sandbox(), &note)
    }

    /// Undoes the freeze: the pod goes on here. Unless its engine cannot let it go on, and there
    /// are images of it.
    pub(super) async fn resume(self: Arc<Self>, id: String) -> Result<Resumed> {
        let _step = self.pod.migration.step.lock().await;
        if self.state().check_resume(&id)? == Check::Done {
            return Ok(Resumed::Runs);
        }
        hit(FaultPoint::ShimSourceBeforeResume).await?;
        let (addresses, dumped, frozen_at_ns) = match &*self.state() {
            Migration::Source(source) => (
                source.addresses.clone(),
                source.stage == SourceStage::Dumped,
                source.frozen_at_ns,
            ),
            _ => (Vec::new(), false, 0),
        };
        let containers = self.frozen();
        if dumped
            && let Some(engine) = suspends(&containers)?
            && let Some(why) = engine.stranded().await
        {
            warn!(migration = %id, why, "not resumed: the images are the pod");
            return Ok(Resumed::OnlyImage { why, frozen_at_ns });
        }
        let freezers = freezers(&containers)?;
        self.forget_dumps();
        // Nobody but this shim may look after processes that run.
        left::remove(self.sandbox());
        // Before the network: only with them their sockets are there again, and a packet that comes
        // through must find one.
        if let Some(engine) = suspends(&containers)? {
            engine.resume().await?;
        }
        let unlocked = self.let_go(freezers, &addresses).await;
        thaw_states(&containers);
        unlocked?;
        self.state().stay();
        self.deliver_signals();
        Logs::of(&id, Side::Source).keep();
        info!(migration = %id, "resumed");
        hit(FaultPoint::ShimSourceAfterResume).await?;
        Ok(Resumed::Runs)
    }

    /// The pod runs elsewhere: the frozen processes vanish, the containers are held.
    pub(super) async fn discard(
        self: Arc<Self>,
        id: String,
        destination: String,
        parked: bool,
    ) -> Result<()> {
        let _step = self.pod.migration.step.lock().await;
        if self.state().check_discard(&id)? == Check::Done {
            return Ok(());
        }
        hit(FaultPoint::ShimSourceBeforeDiscard).await?;
        let containers = self.frozen();
        let freezers = freezers(&containers)?;
        // Nobody takes over those of a pod that is parked.
        if parked || !self.keeps_connections() {
            self.reset_connections().await;
        }
        for container in &containers {
            let _op = container.init.op.lock().await;
            container.forget_init();
            container.init.step(Step::Hold)?;
        }
        if let Some(engine) = suspends(&containers)? {
            engine.vanish();
        }
        // Frozen processes cannot fork, so killing once reaches all; and they cannot run
        // another instruction between the thaw and their end.
        let gone = blocking(move || {
            for freezer in &freezers {
                freezer.kill_all()?;
            }
            freezer::thaw_all(&freezers)?;
            Ok(wait_empty(&freezers))
        })
        .await?;
        if !gone {
            warn!(migration = %id, "killed processes are still there; they hang in the kernel");
        }
        left::remove(self.sandbox());
        hit(FaultPoint::ShimSourceDuringDiscard).await?;
        if let Migration::Source(source) = &mut *self.state() {
            source.stage = SourceStage::Held;
            source.destination.clone_from(&destination);
            source.parked = parked;
        }
        // Earlier pods send to the new one. What still comes here has to be answered if
        // connections were not kept: by resets, until nothing comes any more.
        if self.keeps_connections()
            && let Err(error) = self.drop_addresses().await
        {
            warn!(%error, "earlier addresses stay until the pod goes");
        }
        // Not waited for: a volume may be large. Those of a pod that is parked or in a file are still the
        // only ones.
        if !parked && !in_a_file(&destination) {
            let pod = self.pod.clone();
            tokio::spawn(async move { volumes::remove_copies(&pod, &containers).await });
        }
        self.end_signalled();
        Logs::of(&id, Side::Source).keep();
        info!(migration = %id, destination, "held");
        hit(FaultPoint::ShimSourceAfterDiscard).await
    }

    /// The containers that a freeze takes. Those that ended stay behind.
    pub(super) fn running(&self) -> Result<Vec<Arc<Container>>> {
        let mut running = Vec::new();
        for container in self.apps() {
            match container.init.state() {
                State::Running => running.push(container),
                State::Exited(_) | State::Deleted => {}
                other => {
                    return Err(Error::Precondition(format!(
                        "container {} is {}; only a pod whose containers run can move",
                        container.name,
                        other.name()
                    )));
                }
            }
        }
        if running.is_empty() {
            return Err(Error::Precondition(
                "no container of the pod runs; there is nothing to move".to_owned(),
            ));
        }
        Ok(running)
    }

    pub(super) fn frozen(&self) -> Vec<Arc<Container>> {
        let mut frozen = self.apps();
        frozen.retain(|container| {
            container.init.state() == State::Frozen && container.init.pid() != 0
        });
        frozen
    }

    fn keeps_connections(&self) -> bool {
        match &*self.state() {
            Migration::Source(source) => source.keep_connections,
            _ => true,
        }
    }

    /// Opens the network and ends all connections of the frozen processes, so that their peers
    /// learn of it at once. What a silent peer would not notice otherwise is not left to it.
    async fn reset_connections(&self) {
        let (addresses, adopted) = match &mut *self.state() {
            Migration::Source(source) => {
                let routes = source.came.iter().flat_map(|came| came.routes.values());
                (
                    source.addresses.clone(),
                    routes.flatten().copied().collect(),
                )
            }
            _ => (Vec::new(), Vec::new()),
        };
        let all = [addresses.clone(), adopted].concat();
        let reset = self.network(move |net| {
            net.unlock_source(&addresses)?;
            net.reset(&all)
        });
        match reset.await {
            Ok(count) => info!(count, "connections reset"),
            Err(error) => warn!(%error, "connections could not be reset"),
        }
    }
}

/// Whether the destination of a discard is an archive's path, not a node: the pod runs nowhere
/// yet, so nothing of its volumes may go.
fn in_a_file(destination: &str) -> bool {
    Path::new(destination).is_absolute()
}

/// As long as this lives no container of the pod starts.
struct Freezing<'a>(&'a AtomicBool);

impl<'a> Freezing<'a> {
    fn begin(pod: &'a Pod) -> Self {
        pod.migration.freezing.store(true, Ordering::SeqCst);
        Self(&pod.migration.freezing)
    }
}

impl Drop for Freezing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
