//! Rounds of trees, and how any round's stream gets to its places.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mycedrive_handover::destination::Event;
use mycedrive_handover::fault::FaultPoint;
use mycedrive_proto::migration::{Block, Manifest};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep};
use tonic::{Code, Streaming};

use super::annotations::Wish;
use super::drive::Task;
use super::early::{self, Early};
use super::meeting::Stage;
use super::source::{self, Source};
use crate::blocks::{BlockReader, Ended, QUEUE, pump};
use crate::error::{Error, Result};
use crate::progress::Phase;
use crate::units::show_bytes;
use crate::{fault, machine};

/// When the last container arrives and the newest round is older than this, another one comes
/// before the freeze.
const STALE: Duration = Duration::from_secs(2);
/// A broken connection is made again for so long; then the migration is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the rounds so far say about another one.
#[derive(Debug, Default)]
struct Course {
    round: u32,
    /// Bytes of the newest round, and when it ended.
    last: Option<(u64, Instant)>,
    /// How long the newest one took: about as long as its changes would in the freeze.
    took: Duration,
    /// How many in a row were not smaller than the one before.
    alike: u32,
}

/// So many rounds in a row that do not shrink are the last: one may be as large as the one before
/// by chance, when a program writes in bursts.
const ENOUGH_ALIKE: u32 = 2;

impl Course {
    fn ended(&mut self, bytes: u64, took: Duration) {
        let before = self.last.map(|(bytes, _)| bytes);
        let shrank = before.is_none_or(|before| bytes * 10 <= before * 9);
        self.alike = if shrank { 0 } else { self.alike + 1 };
        self.last = Some((bytes, Instant::now()));
        self.took = took;
    }

    /// Another round, when every container is here (`complete`) or before; `news`: a tree has
    /// found its place.
    fn another(&self, wish: &Wish, most: u32, news: bool, complete: bool) -> bool {
        if let Some(number) = wish.rounds {
            return complete && self.round < number;
        }
        let short = self.last.is_some() && self.took <= wish.max_downtime / 2;
        let done = short || self.alike >= ENOUGH_ALIKE || self.round >= most;
        let stale = self.last.is_none_or(|(_, at)| at.elapsed() > STALE);
        news || !done || (complete && stale && self.round < most)
    }
}

impl Task {
    /// Rounds until all containers are here and another round would not shorten the freeze.
    pub(super) async fn rounds(&mut self, source: &mut Source, manifest: &Manifest) -> Result<()> {
        self.migration.apply(Event::CopyStarted)?;
        let mut meeting = self.migration.meeting.subscribe();
        let mut course = Course::default();
        let most = self.app.config.migration.max_rounds.max(1);
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
            let news = self.places.has_news();
            if course.another(&self.wish, most, news, now.complete()) {
                course.round += 1;
                let begin = Instant::now();
                let bytes = self.round_or_again(source, course.round).await?;
                course.ended(bytes, begin.elapsed());
                continue;
            }
            if now.complete() {
                let behind = self.disk.is_behind();
                self.disk.wait().await?;
                if behind {
                    // The newest round may be old by now.
                    continue;
                }
                self.short = course.last.is_some() && course.took < early::SHORT;
                return Ok(());
            }
            self.wait_for(&now.missing());
            if meeting.changed().await.is_err() {
                return Err(Error::Failed("the migration was dropped".to_owned()));
            }
        }
    }

    /// A round. When the connection breaks, it is made again and the round goes on from what has
    /// arrived: nothing stands still meanwhile.
    async fn round_or_again(&mut self, source: &mut Source, round: u32) -> Result<u64> {
        let mut since = None;
        loop {
            let error = match self.round(source, round).await {
                Ok(bytes) => return Ok(bytes),
                // Once: from then on it must send them.
                Err(Error::OtherImage(why)) if self.places.share_no_images() => {
                    tracing::warn!(why, "pages of the images are sent as well");
                    self.migration.handle.event("image-differs", why);
                    self.places.broken();
                    continue;
                }
                Err(error) if broken(&error) => error,
                Err(error) => return Err(error),
            };
            self.places.broken();
            let since: &mut Instant = since.get_or_insert_with(Instant::now);
            tracing::warn!(%error, "the connection broke in a round; it is made again");
            let text = format!("{round}: the connection broke: {error}");
            self.migration.handle.event("broken", text);
            loop {
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
                sleep(Duration::from_millis(500)).await;
                match Source::dial(&self.app, &self.migration).await {
                    Ok(again) => *source = again,
                    Err(error) => {
                        tracing::debug!(%error, "not yet");
                        continue;
                    }
                }
                // Whether the source still has this migration.
                match self.open(source).await {
                    Ok(_) => break,
                    Err(error) if broken(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            *since = Instant::now();
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
        let mut places = std::mem::take(&mut self.places);
        let (places, asked) = tokio::task::spawn_blocking(move || {
            let asked = places.ask();
            (places, asked)
        })
        .await
        .map_err(|error| Error::Failed(error.to_string()))?;
        self.places = places;
        let before = self.migration.received.load(Ordering::Relaxed);
        let mut asked = asked?;
        asked.memory = source::room_for_rounds(&self.app, self.memory);
        let stream = source.copy(round, asked).await?;
        let (bytes, ended) = self.receive(stream, None, None).await?;
        self.disk.put(self.places.take_written()?);
        let wire = self.migration.received.load(Ordering::Relaxed) - before;
        let end = &ended.end;
        let image = match end.memory_shared_bytes {
            0 => String::new(),
            bytes => format!(", {} from the image", show_bytes(bytes)),
        };
        let text = format!(
            "{round}: {}, {} sent, {} entries, {} of {} memory{image}, {} ms",
            show_bytes(bytes),
            show_bytes(wire),
            end.changed_entries,
            show_bytes(end.memory_sent_bytes),
            show_bytes(end.memory_bytes),
            end.milliseconds
        );
        self.migration.handle.event("round", text);
        let bandwidth = self.wish.bandwidth;
        self.migration.handle.update(|progress| {
            // As if the freeze came now and had as much to send.
            let milliseconds = wire.saturating_mul(1000).checked_div(bandwidth);
            progress.estimated_freeze_ms = milliseconds.or(Some(end.milliseconds));
        });
        fault::hit(FaultPoint::DestinationDuringCopy).await?;
        Ok(bytes)
    }

    /// Takes a stream to its places; shows how far it is meanwhile.
    pub(super) async fn receive(
        &mut self,
        stream: Streaming<Block>,
        images: Option<PathBuf>,
        early: Option<Early>,
    ) -> Result<(u64, Ended)> {
        let growing = images.clone();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut places = std::mem::take(&mut self.places);
        let writing = tokio::task::spawn_blocking(move || {
            let mut read = places.receive(BlockReader::new(receiver), images.as_deref(), early);
            if images.is_some()
                && let Err(error) = fault::hit_blocking(FaultPoint::DestinationDuringImages)
            {
                read = Err(error);
            }
            (places, read)
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
        let (places, written) = written.map_err(|error| Error::Failed(error.to_string()))?;
        self.places = places;
        let (ended, raw) = match (pumped, written) {
            (Ok(ended), Ok(done)) => (ended, done),
            // What the source says is why the stream could not be read.
            (Err(error @ (Error::Remote { .. } | Error::Peer(_))), _) | (Ok(_), Err(error)) => {
                return Err(error);
            }
            (Err(_), Err(error)) | (Err(error), Ok(_)) => return Err(error),
        };
        self.migration.handle.update(|progress| {
            progress.bytes_sent += wire;
            progress.bytes_raw += raw;
        });
        Ok((raw, ended))
    }
}

/// Whether the connection is to blame, and not what one of the nodes said.
fn broken(error: &Error) -> bool {
    matches!(
        error,
        Error::Peer(_)
            | Error::Remote {
                code: Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded,
                ..
            }
    )
}

#[cfg(test)]
#[path = "rounds_tests.rs"]
mod tests;
