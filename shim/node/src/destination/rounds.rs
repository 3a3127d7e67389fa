//! Rounds of trees, and how any round's stream gets to its places.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mycedrive_handover::destination::Event;
use mycedrive_handover::fault::FaultPoint;
use mycedrive_proto::migration::{Block, Manifest};
use tokio::sync::mpsc;
use tokio::time::interval;
use tonic::Streaming;

use super::drive::Task;
use super::meeting::Stage;
use super::source::Source;
use crate::blocks::{BlockReader, Ended, QUEUE, pump};
use crate::error::{Error, Result};
use crate::progress::Phase;
use crate::{fault, machine};

/// A round that brought less than this many bytes is worth no other one.
const SMALL: u64 = 1 << 20;
/// When the last container arrives and the newest round is older than this, another one comes
/// before the freeze.
const STALE: Duration = Duration::from_secs(2);

impl Task {
    /// Rounds until all containers are here and another round would not shorten the freeze.
    pub(super) async fn rounds(&mut self, source: &mut Source, manifest: &Manifest) -> Result<()> {
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

    /// Takes a stream to its places; shows how far it is meanwhile.
    pub(super) async fn receive(
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
}
