//! The task of one migration, from the first arrival to the decision.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mycedrive_handover::destination::Event;
use mycedrive_handover::fault::FaultPoint;
use mycedrive_proto::migration::{Block, Manifest};
use mycedrive_proto::shim::Container;
use mycedrive_transfer::Budget;
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};
use tonic::Streaming;

use super::annotations::Wish;
use super::finish;
use super::meeting::Stage;
use super::migration::Migration;
use super::places::Places;
use super::source::{self, Source};
use crate::app::Shared;
use crate::blocks::{BlockReader, Ended, QUEUE, pump};
use crate::error::{Error, Result};
use crate::progress::{Phase, now_ns};
use crate::source::lock;
use crate::{fault, files, machine};

/// A round that brought less than this many bytes is worth no other one.
const SMALL: u64 = 1 << 20;
/// When the last container arrives and the newest round is older than this, another one comes
/// before the freeze.
const STALE: Duration = Duration::from_secs(2);
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
        memory: 0,
        opened_for: vec![],
        froze_at: None,
        frozen_at_ns: 0,
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
        carried = task.carry() => carried,
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

struct Task {
    app: Shared,
    migration: Arc<Migration>,
    wish: Wish,
    staging: PathBuf,
    places: Places,
    /// Bytes of memory that the source announced.
    memory: u64,
    /// Ids of the containers that the source has authorised.
    opened_for: Vec<String>,
    froze_at: Option<Instant>,
    frozen_at_ns: u64,
}

impl Task {
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
        self.adopt(&manifest).await?;
        let ended = self.freeze(&mut source).await?;
        fault::hit(FaultPoint::DestinationAfterVerify).await?;
        self.migration.apply(Event::Verified)?;
        let places = std::mem::take(&mut self.places);
        let offer = self.offer(&source, ended.digest);
        let restore = self.restore(&manifest, places);
        // Ends with the first failure: the pod stands still.
        tokio::try_join!(offer, restore).map(drop)
    }

    /// Opens the migration, or authorises the containers that came since.
    async fn open(&mut self, source: &mut Source) -> Result<Manifest> {
        let here = self.here();
        let manifest = source
            .open(&self.app, &self.migration, &self.wish, &here)
            .await?;
        self.opened_for = here.into_iter().map(|container| container.id).collect();
        Ok(manifest)
    }

    fn here(&self) -> Vec<Container> {
        let meeting = self.migration.meeting.borrow();
        let here = meeting.here().values();
        here.map(|arrival| arrival.container.clone()).collect()
    }

    fn accept(&mut self, manifest: &Manifest) {
        let (migration, bandwidth) = (&self.migration, self.wish.bandwidth);
        lock(&migration.addresses).clone_from(&manifest.addresses);
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
        self.places = Places::new(Budget {
            stream_bytes: all.max(1 << 30),
            ..Budget::default()
        });
        migration.meeting.send_modify(|meeting| {
            meeting.expect(manifest);
            meeting.advance(Stage::Copying);
        });
    }

    /// Rounds until all containers are here and another round would not shorten the freeze.
    async fn rounds(&mut self, source: &mut Source, manifest: &Manifest) -> Result<()> {
        self.migration.apply(Event::CopyStarted)?;
        let mut meeting = self.migration.meeting.subscribe();
        let mut last: Option<(u64, Instant)> = None;
        let mut round = 0;
        let mut took = Duration::ZERO;
        let limit = self.app.config.migration.max_rounds.max(1);
        loop {
            let now = meeting.borrow_and_update().clone();
            if now
                .here()
                .values()
                .any(|arrival| !self.opened_for.contains(&arrival.container.id))
            {
                self.open(source).await?;
            }
            self.places.find(manifest, now.here(), &self.staging)?;
            let news = !self.places.anew().is_empty();
            // The last changes take about as long as this round did.
            let short = took <= self.wish.max_downtime / 2;
            let done = last.is_some_and(|(bytes, _)| bytes < SMALL || short) || round >= limit;
            let stale = last.is_none_or(|(_, at)| at.elapsed() > STALE);
            if news || !done || (now.complete() && stale && round < limit) {
                round += 1;
                let begin = Instant::now();
                let bytes = self.round(source, round).await?;
                took = begin.elapsed();
                let before = last.map(|(bytes, _)| bytes);
                // Not shrinking: more rounds would not help.
                let stuck = before.is_some_and(|before| bytes * 5 > before * 4);
                last = Some((if stuck { 0 } else { bytes }, Instant::now()));
                continue;
            }
            if now.complete() {
                return Ok(());
            }
            self.wait_for(&now.missing());
            if meeting.changed().await.is_err() {
                return Err(Error::Failed("the migration was dropped".to_owned()));
            }
        }
    }

    fn wait_for(&self, missing: &[String]) {
        let text = format!("waits for container {} to start here", missing.join(", "));
        self.migration.handle.phase(Phase::Ready, text);
        self.migration.meeting.send_if_modified(|meeting| {
            let before = meeting.stage();
            meeting.advance(Stage::Ready);
            before != meeting.stage()
        });
    }

    /// One round; returns its bytes before compression.
    async fn round(&mut self, source: &mut Source, round: u32) -> Result<u64> {
        self.migration.handle.update(|progress| {
            progress.phase = Phase::Copying;
            progress.round = round;
            progress.round_done = 0;
        });
        let stream = source
            .copy(round, self.places.ids(), self.places.anew())
            .await?;
        let (bytes, ended) = self.receive(stream, None).await?;
        let text = format!(
            "{round}: {}, {} entries, {} ms",
            crate::units::show_bytes(bytes),
            ended.end.changed_entries,
            ended.end.milliseconds
        );
        self.migration.handle.event("round", text);
        fault::hit(FaultPoint::DestinationDuringCopy).await?;
        Ok(bytes)
    }

    async fn adopt(&self, manifest: &Manifest) -> Result<()> {
        let details = &self.migration.details;
        let shim = self.app.shims.connect(&details.sandbox).await?;
        shim.adopt(
            &details.id,
            &manifest.addresses,
            details.keep_connections,
            self.app.config.migration.step_timeout,
        )
        .await?;
        finish::attach(&self.app, &self.migration).await;
        fault::hit(FaultPoint::DestinationAfterAdopt).await
    }

    /// From here on the pod stands still.
    async fn freeze(&mut self, source: &mut Source) -> Result<Ended> {
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
        let received = async {
            let stream = source.freeze().await?;
            self.receive(stream, Some(images)).await
        };
        let (_, ended) = timeout(limit, received).await.map_err(|_| {
            let seconds = limit.as_secs();
            Error::Failed(format!("the final round took more than {seconds} s"))
        })??;
        let handle = &self.migration.handle;
        self.frozen_at_ns = ended.end.frozen_at_ns;
        handle.event_at("frozen", String::new(), ended.end.frozen_at_ns);
        let dump = format!("{} ms", ended.end.dump_milliseconds);
        handle.event("dumped", dump);
        let sent = format!(
            "{} in {} ms",
            crate::units::show_bytes(ended.end.raw_bytes),
            ended.end.milliseconds
        );
        handle.event("transferred", sent);
        Ok(ended)
    }

    /// Takes a stream to its places; shows how far it is meanwhile.
    async fn receive(
        &mut self,
        stream: Streaming<Block>,
        images: Option<PathBuf>,
    ) -> Result<(u64, Ended)> {
        let growing = images.clone();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut places = std::mem::take(&mut self.places);
        let writing = tokio::task::spawn_blocking(move || {
            let read = places.receive(BlockReader::new(receiver), images.as_deref());
            if images.is_some() {
                fault::hit_blocking(FaultPoint::DestinationDuringImages)?;
            }
            Ok::<_, Error>((places, read?))
        });
        let counted = self.migration.received.clone();
        let before = counted.load(Ordering::Relaxed);
        let pumping = pump(&self.migration.details.endpoint, stream, sender, &counted);
        let both = async { tokio::join!(pumping, writing) };
        tokio::pin!(both);
        let mut shown = interval(Duration::from_millis(500));
        let started = Instant::now();
        let (pumped, written) = loop {
            tokio::select! {
                ended = &mut both => break ended,
                _ = shown.tick() => {
                    let done = match &growing {
                        Some(images) => machine::tree_size(images),
                        None => counted.load(Ordering::Relaxed) - before,
                    };
                    let seconds = started.elapsed().as_secs_f64().max(0.001);
                    self.migration.handle.update(|progress| {
                        progress.round_done = done;
                        progress.rate = (done as f64 / seconds) as u64;
                    });
                }
            }
        };
        let wire = counted.load(Ordering::Relaxed) - before;
        let written = written.map_err(|error| Error::Failed(error.to_string()))?;
        let (ended, (places, raw)) = match (pumped, written) {
            (Ok(ended), Ok(done)) => (ended, done),
            // What the source says is why the stream could not be read.
            (Err(error @ (Error::Remote { .. } | Error::Peer(_))), _) | (Ok(_), Err(error)) => {
                return Err(error);
            }
            (Err(_), Err(error)) | (Err(error), Ok(_)) => return Err(error),
        };
        self.places = places;
        self.migration.handle.update(|progress| {
            progress.bytes_sent += wire;
            progress.bytes_raw += raw;
        });
        Ok((raw, ended))
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

    async fn restore(&self, manifest: &Manifest, mut places: Places) -> Result<()> {
        fault::hit(FaultPoint::DestinationBeforeRestore).await?;
        self.everyone().await?;
        let details = &self.migration.details;
        let (here, running) = {
            let meeting = self.migration.meeting.borrow();
            (meeting.here().clone(), meeting.running())
        };
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
        let text = format!("{} ms", restored.milliseconds);
        self.migration.handle.event("restored", text);
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
        self.migration.apply(Event::OfferAccepted)?;
        self.migration.apply(Event::Restored)?;
        Ok(())
    }

    fn time_run(&self, began: Instant) {
        let text = format!("decided after {} ms", began.elapsed().as_millis());
        self.migration.handle.event_at("decided", text, now_ns());
    }
}
