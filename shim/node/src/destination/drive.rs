//! The task of one migration, from the first arrival to the decision.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mycedrive_handover::destination::Event;
use mycedrive_handover::fault::FaultPoint;
use mycedrive_proto::migration::Manifest;
use mycedrive_proto::shim::Container;
use mycedrive_transfer::Budget;
use tokio::time::{sleep, timeout};

use super::annotations::Wish;
use super::disk::Disk;
use super::early;
use super::finish;
use super::meeting::Stage;
use super::migration::Migration;
use super::places::Places;
use super::route;
use super::source::{self, Source};
use crate::app::Shared;
use crate::blocks::Ended;
use crate::error::{Error, Result};
use crate::progress::now_ns;
use crate::source::lock;
use crate::units::show_bytes;
use crate::{fault, files, machine};

/// How long an abort may take when the daemon stops.
const STOP_TIME: Duration = Duration::from_secs(3);
/// An offer whose answer was lost is repeated for so long.
const OFFER_TIME: Duration = Duration::from_secs(30);

/// Runs the migration; ends when there is nothing left to do for it.
pub async fn drive(app: Shared, migration: Arc<Migration>, wish: Wish) {
    let began = Instant::now();
    let mut task = Task {
        app: app.clone(),
        migration: migration.clone(),
        staging: staging(&app, &migration.details.id),
        wish,
        places: Places::default(),
        disk: Disk::default(),
        memory: 0,
        opened_for: vec![],
        froze_at: None,
        frozen_at_ns: 0,
        short: false,
    };
    // Up to the decision nothing is lost when this is dropped half way: the abort undoes it.
    let carried = tokio::select! {
        () = app.stopping.cancelled() => {
            // What is not done in time, the next start does.
            let text = "the destination's daemon was stopped".to_owned();
            let abort = finish::abort(&app, &migration, text);
            let _ = timeout(STOP_TIME, abort).await;
            return;
        }
        reason = migration.cancelled() => Err(Error::Failed(reason)),
        carried = task.arrive() => carried,
    };
    let decided = match carried {
        Ok(()) => task.decide().await,
        Err(error) => Err(error),
    };
    match decided {
        Ok(()) => {
            task.time_run(began);
            finish::run(&app, &migration, task.froze_at, task.frozen_at_ns).await;
        }
        Err(error) => finish::abort(&app, &migration, error.to_string()).await,
    }
}

/// Where root layers of a migration are received.
pub fn staging(app: &Shared, id: &str) -> PathBuf {
    app.config.state_dir.join("staging").join(id)
}

/// A migration that is under way.
pub(super) struct Task {
    pub(super) app: Shared,
    pub(super) migration: Arc<Migration>,
    pub(super) wish: Wish,
    pub(super) staging: PathBuf,
    pub(super) places: Places,
    /// Puts on the disk what the rounds bring.
    pub(super) disk: Disk,
    /// Bytes of memory that the source announced.
    pub(super) memory: u64,
    /// Ids of the containers that the source has authorised.
    pub(super) opened_for: Vec<String>,
    pub(super) froze_at: Option<Instant>,
    pub(super) frozen_at_ns: u64,
    /// Whether the freeze is likely to be short.
    pub(super) short: bool,
}

impl Task {
    async fn arrive(&mut self) -> Result<()> {
        match self.wish.archive.clone() {
            None => self.carry().await,
            Some(archive) => self.unpack(&archive).await,
        }
    }

    /// Everything before the decision: the pod is restored here, stopped, and the source has
    /// accepted the offer.
    async fn carry(&mut self) -> Result<()> {
        fault::hit(FaultPoint::DestinationAfterOpenRecorded).await?;
        files::make_private_dir(&self.staging)?;
        let mut source = Source::dial(&self.app, &self.migration).await?;
        self.migration.contacted.store(true, Ordering::Relaxed);
        let manifest = self.open(&mut source).await?;
        source::check(&self.app, &manifest, &self.staging).await?;
        self.accept(&manifest);
        fault::hit(FaultPoint::DestinationAfterOpen).await?;
        self.rounds(&mut source, &manifest).await?;
        fault::hit(FaultPoint::DestinationAfterCopy).await?;
        self.adopt().await?;
        let ended = self.freeze(&mut source, &manifest).await?;
        fault::hit(FaultPoint::DestinationAfterVerify).await?;
        self.migration.apply(Event::Verified)?;
        let places = std::mem::take(&mut self.places);
        let offer = self.offer(&source, ended.digest);
        let restore = self.restore(&manifest, places);
        // Ends with the first failure: the pod stands still.
        tokio::try_join!(offer, restore).map(drop)
    }

    /// Opens the migration, or authorises the containers that came since.
    pub(super) async fn open(&mut self, source: &mut Source) -> Result<Manifest> {
        let here = self.here();
        let manifest = source
            .open(&self.app, &self.migration, &self.wish, &here)
            .await?;
        self.opened_for = here.into_iter().map(|container| container.id).collect();
        Ok(manifest)
    }

    pub(super) fn here(&self) -> Vec<Container> {
        let meeting = self.migration.meeting.borrow();
        let here = meeting.here().values();
        here.map(|arrival| arrival.container.clone()).collect()
    }

    pub(super) fn accept(&mut self, manifest: &Manifest) {
        let (migration, bandwidth) = (&self.migration, self.wish.bandwidth);
        migration.parked.store(manifest.parked, Ordering::Relaxed);
        *lock(&migration.routes) = route::of(&migration.details, manifest);
        migration.handle.update(|progress| {
            progress.peer.clone_from(&manifest.node_name);
            progress.round_total = manifest.tree_bytes;
            progress.estimated_freeze_ms =
                (bandwidth > 0).then(|| manifest.memory_bytes.saturating_mul(1000) / bandwidth);
        });
        self.memory = manifest.memory_bytes;
        migration.handle.event(
            "open",
            format!(
                "{} containers, {} memory, {} files",
                manifest.containers.len(),
                crate::units::show_bytes(manifest.memory_bytes),
                crate::units::show_bytes(manifest.tree_bytes)
            ),
        );
        let all = 2 * (manifest.memory_bytes + manifest.tree_bytes) + (256 << 20);
        let memory = self.app.config.memory_of(&migration.details.id);
        let budget = Budget {
            stream_bytes: all.max(1 << 30),
            // The maker of an archive may never have been allowed to make any.
            devices: self.wish.archive.is_none(),
            ..Budget::default()
        };
        self.places = Places::new(budget, memory);
        migration.meeting.send_modify(|meeting| {
            meeting.expect(manifest);
            meeting.advance(Stage::Copying);
        });
    }

    pub(super) async fn adopt(&self) -> Result<()> {
        let details = &self.migration.details;
        let shim = self.app.shims.connect(&details.sandbox).await?;
        let routes = self.migration.routes();
        let addresses: Vec<_> = routes.into_iter().map(|route| route.addresses).collect();
        shim.adopt(
            &details.id,
            &addresses,
            self.migration.keeps_connections(),
            self.app.config.migration.step_timeout,
        )
        .await?;
        finish::attach(&self.app, &self.migration).await;
        fault::hit(FaultPoint::DestinationAfterAdopt).await
    }

    /// From here on the pod stands still.
    async fn freeze(&mut self, source: &mut Source, manifest: &Manifest) -> Result<Ended> {
        fault::hit(FaultPoint::DestinationBeforeFreeze).await?;
        let images = self.app.config.images_of(&self.migration.details.id);
        files::make_private_dir(&self.app.config.image_dir)?;
        self.migration.froze.store(true, Ordering::Relaxed);
        self.migration
            .meeting
            .send_modify(|meeting| meeting.advance(Stage::Freezing));
        self.migration.apply(Event::FreezeStarted)?;
        self.migration.handle.update(|progress| {
            progress.round = 0;
            progress.round_total = self.memory;
            progress.round_done = 0;
        });
        self.froze_at = Some(Instant::now());
        let limit = self.app.config.migration.freeze_limit;
        let before = self.migration.received.load(Ordering::Relaxed);
        let early = self
            .short
            .then(|| early::of(&self.app, &self.migration, manifest, self.staging.clone()));
        let (early, begin) = early.flatten().unzip();
        let received = async {
            let stream = source.freeze(self.places.memory_base()).await?;
            self.receive(stream, Some(images), early).await
        };
        let beginning = async {
            if let Some(begin) = begin {
                begin.begin().await;
            }
        };
        let both = Box::pin(async { tokio::join!(received, beginning).0 });
        let (_, ended) = timeout(limit, both).await.map_err(|_| {
            let seconds = limit.as_secs();
            Error::Failed(format!("the final round took more than {seconds} s"))
        })??;
        let handle = &self.migration.handle;
        self.frozen_at_ns = ended.end.frozen_at_ns;
        handle.event_at("frozen", String::new(), ended.end.frozen_at_ns);
        let dump = format!("{} ms", ended.end.dump_milliseconds);
        handle.event("dumped", dump);
        let wire = self.migration.received.load(Ordering::Relaxed) - before;
        let sent = format!(
            "{} in {} ms, {} on the wire",
            show_bytes(ended.end.raw_bytes),
            ended.end.milliseconds,
            show_bytes(wire)
        );
        handle.event("transferred", sent);
        Ok(ended)
    }

    async fn offer(&self, source: &Source, digest: [u8; 32]) -> Result<()> {
        fault::hit(FaultPoint::DestinationBeforeOffer).await?;
        let mut source = source.clone();
        let began = Instant::now();
        loop {
            match source.offer(digest).await {
                Ok(()) => break,
                // Whether it was accepted is not known: ask again over a new connection.
                Err(Error::Peer(error)) if began.elapsed() < OFFER_TIME => {
                    tracing::warn!(%error, "the offer's answer was lost, offering again");
                    sleep(Duration::from_millis(300)).await;
                    if let Ok(again) = Source::dial(&self.app, &self.migration).await {
                        source = again;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.migration.handle.event("offered", String::new());
        fault::hit(FaultPoint::DestinationAfterOffer).await
    }

    pub(super) async fn restore(&self, manifest: &Manifest, mut places: Places) -> Result<()> {
        fault::hit(FaultPoint::DestinationBeforeRestore).await?;
        self.everyone().await?;
        let details = &self.migration.details;
        let (here, running) = {
            let meeting = self.migration.meeting.borrow();
            (meeting.here().clone(), meeting.running())
        };
        // Before `RUN`: what the pod knows to be on its disk is on the disk here. Goes on beside
        // the restore.
        let mut disk = Disk::default();
        disk.put(places.take_written()?);
        let (manifest, staging, places_of) = (manifest.clone(), self.staging.clone(), here.clone());
        tokio::task::spawn_blocking(move || places.settle(&manifest, &places_of, &staging))
            .await
            .map_err(|error| Error::Failed(error.to_string()))??;
        let images = self.app.config.images_of(&details.id);
        let limit = self.app.config.migration.step_timeout;
        let shim = self.app.shims.connect(&details.sandbox).await?;
        let ids = running.iter().filter_map(|name| here.get(name));
        *lock(&self.migration.restored) = ids.map(|arrival| arrival.container.id.clone()).collect();
        let restored = shim.restore(&details.id, &images, &running, limit).await?;
        *lock(&self.migration.pids) = restored.pids.values().copied().collect();
        let text = format!("{} ms", restored.milliseconds);
        self.migration.handle.event("restored", text);
        let text = disk.wait().await?;
        self.migration.handle.event("on disk", text);
        fault::hit(FaultPoint::DestinationAfterRestore).await
    }

    /// Waits until every container is here: one may be on its way again.
    async fn everyone(&self) -> Result<()> {
        let mut meeting = self.migration.meeting.subscribe();
        let limit = self.app.config.migration.freeze_limit;
        let complete = meeting.wait_for(super::meeting::Meeting::complete);
        match timeout(limit, complete).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Failed(
                "a container of this pod was stopped while the source was frozen".to_owned(),
            )),
        }
    }

    /// The decision. After `Ok` this node is the pod.
    async fn decide(&self) -> Result<()> {
        let mut committed = false;
        self.migration
            .meeting
            .send_modify(|meeting| committed = meeting.commit());
        if !committed {
            let text = "a container's Start gave up just before the pod could run here";
            return Err(Error::Failed(text.to_owned()));
        }
        fault::hit(FaultPoint::DestinationBeforeRunRecorded).await?;
        self.all_there()?;
        self.migration.apply(Event::OfferAccepted)?;
        self.migration.apply(Event::Restored)?;
        Ok(())
    }

    /// The restored processes have not ended, as by a lack of memory here: as long as `RUN` is not
    /// recorded the source still has them.
    fn all_there(&self) -> Result<()> {
        let pids = lock(&self.migration.pids);
        match pids.iter().find(|pid| !machine::lives(**pid)) {
            None => Ok(()),
            Some(pid) => Err(Error::Failed(format!(
                "a restored container ended before it could run here (its first process was {pid})"
            ))),
        }
    }

    fn time_run(&self, began: Instant) {
        let text = format!("decided after {} ms", began.elapsed().as_millis());
        self.migration.handle.event_at("decided", text, now_ns());
    }
}
