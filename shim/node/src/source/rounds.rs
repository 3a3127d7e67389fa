//! Copy and Freeze: what the source sends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mycedrive_handover::fault::FaultPoint;
use mycedrive_handover::source::{Event, State};
use mycedrive_proto::migration::{Block, CopyRequest, FreezeRequest, RoundEnd};
use mycedrive_proto::shim::ContainerState;
use mycedrive_transfer::{
    FrameWriter, ImagesSummary, Known, Level, Limiter, MemorySummary, Options, RoundSummary,
    send_images,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument as _;

use super::memory::Memory;
use super::migration::{Migration, lock};
use super::refusal::Refusal;
use super::subject::{Place, Subject};
use super::{decide, memory, open, route, watch};
use crate::app::Shared;
use crate::blocks::{BlockWriter, QUEUE};
use crate::error::{Error, Result};
use crate::parked::Parked;
use crate::shims::app_containers;
use crate::{fault, files};

type Sender = mpsc::Sender<Result<Block, Status>>;
/// Blocks of a round.
pub type Blocks = ReceiverStream<Result<Block, Status>>;

/// One round of trees and memory while the pod runs.
pub async fn copy(
    app: &Shared,
    migration: &Arc<Migration>,
    request: CopyRequest,
) -> Result<Blocks, Status> {
    fault::hit(FaultPoint::SourceBeforeCopy).await?;
    if migration.state() != State::Opened {
        return Err(order(migration, "a round"));
    }
    migration
        .handle
        .update(|progress| progress.round = request.round);
    let memory = if request.memory {
        memory::of(app, migration, &request.images).await?
    } else {
        Memory::default()
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let migration = migration.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = copy_blocking(&migration, &sender, &request, &memory) {
            refuse(&sender, error);
        }
    });
    Ok(ReceiverStream::new(receiver))
}

fn copy_blocking(
    migration: &Migration,
    sender: &Sender,
    request: &CopyRequest,
    memory: &Memory,
) -> Result<()> {
    let started = Instant::now();
    let mut out = writer(migration, sender)?;
    let mut trees = lock(&migration.trees);
    let rounds = trees.live(&mut out, request)?;
    drop(trees);
    let mut sent = MemorySummary::default();
    if request.memory {
        let (round, base) = (request.round, request.memory_base);
        sent = lock(&migration.memory)
            .send_round(&mut out, round, base, &memory.processes, &memory.files)
            .map_err(failed)?;
    }
    fault::hit_blocking(FaultPoint::SourceDuringCopy)?;
    let (sink, counts) = out.finish().map_err(failed)?;
    let end = RoundEnd {
        raw_bytes: counts.raw_bytes,
        changed_entries: changed(&rounds),
        milliseconds: millis(started),
        memory_bytes: sent.bytes,
        memory_sent_bytes: sent.sent_bytes,
        memory_shared_bytes: sent.shared_bytes,
        ..RoundEnd::default()
    };
    sink.end(end)
        .map_err(|error| Error::Failed(error.to_string()))?;
    migration.handle.update(|progress| {
        progress.bytes_sent += counts.wire_bytes;
        progress.bytes_raw += counts.raw_bytes;
    });
    fault::hit_blocking(FaultPoint::SourceAfterCopy)
}

/// Freezes the pod and sends the final round. Whatever goes wrong from the freeze to the end of
/// the stream thaws the pod again.
pub async fn freeze(
    app: &Shared,
    migration: &Arc<Migration>,
    request: &FreezeRequest,
) -> Result<Blocks, Status> {
    fault::hit(FaultPoint::SourceBeforeFreezeRecorded).await?;
    all_authorised(app, migration).await?;
    migration
        .apply(Event::FreezeAsked)
        .map_err(|error| Status::from(Refusal::Order(error.to_string())))?;
    watch::watch_over(app, migration);
    let (sender, receiver) = mpsc::channel(QUEUE);
    let known = lock(&migration.memory).known(request.memory_base);
    let (app, migration) = (app.clone(), migration.clone());
    let span = tracing::info_span!("freeze", migration = %migration.details.id);
    tokio::spawn(
        async move {
            let sent = match Subject::of(&app, &migration).await {
                Ok(subject) => match subject.place {
                    Place::Shim(_) => freeze_and_send(&app, &migration, &sender, known).await,
                    Place::Parked(parked) => send_parked(&app, &migration, &sender, &parked).await,
                },
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                let reason = error.to_string();
                tracing::warn!(%reason, "the final round failed");
                let _ = sender.send(Err(error.into())).await;
                decide::failed(&app, &migration, reason).await;
            }
        }
        .instrument(span),
    );
    Ok(ReceiverStream::new(receiver))
}

/// Every running container was shown by the destination, and is the one that was opened.
async fn all_authorised(app: &Shared, migration: &Migration) -> Result<(), Status> {
    let pod = Subject::of(app, migration).await?.pod;
    let opened = lock(&migration.trees).containers().clone();
    let authorised = lock(&migration.authorised).clone();
    for (name, container) in app_containers(&pod) {
        let running =
            container.state.enum_value_or_default() == ContainerState::CONTAINER_STATE_RUNNING;
        if running && !authorised.contains(name) {
            return Err(Refusal::MissingContainer {
                container: name.to_owned(),
                pod: migration.pod(),
            }
            .into());
        }
        if running != opened.contains_key(name)
            || opened.get(name).is_some_and(|id| *id != container.id)
        {
            let text = format!(
                "container {name} of pod {} started or ended since the migration was opened",
                migration.pod()
            );
            return Err(Refusal::Order(text).into());
        }
    }
    Ok(())
}

async fn freeze_and_send(
    app: &Shared,
    migration: &Arc<Migration>,
    sender: &Sender,
    known: Known,
) -> Result<()> {
    let details = &migration.details;
    let limit = app.config.migration.step_timeout;
    let started = Instant::now();
    fault::hit(FaultPoint::SourceBeforeFreeze).await?;
    let shim = app.shims.connect(&details.sandbox).await?;
    let pids: BTreeMap<String, i32> = app_containers(&shim.describe().await?)
        .into_iter()
        .map(|(name, container)| (name.to_owned(), container.pid))
        .collect();
    let folder = open::images(app, &details.id);
    files::make_private_dir(&folder)?;
    route::prepare(app, migration).await;
    let frozen = shim
        .freeze(&details.id, details.keep_connections, &folder, limit)
        .await?;
    migration.apply(Event::Frozen)?;
    migration
        .handle
        .event_at("frozen", String::new(), frozen.frozen_at_ns);
    fault::hit(FaultPoint::SourceAfterFreeze).await?;

    let dump = Arc::new(Dump::default());
    let dumping = {
        let (dump, shim, folder, id) = (
            dump.clone(),
            shim.clone(),
            folder.clone(),
            details.id.clone(),
        );
        async move {
            let outcome = match fault::hit(FaultPoint::SourceBeforeDump).await {
                Ok(()) => shim.dump(&id, &folder, limit).await,
                Err(error) => Err(error),
            };
            dump.ended(outcome.map(|reply| reply.milliseconds));
        }
    };
    let sending = {
        let (migration, sender, dump, folder) = (
            migration.clone(),
            sender.clone(),
            dump.clone(),
            folder.clone(),
        );
        tokio::task::spawn_blocking(move || {
            let final_round = Final {
                migration: &migration,
                pids,
                folder,
                known,
                dump: &dump,
                started,
                frozen_at_ns: frozen.frozen_at_ns,
            };
            final_round.send(&sender)
        })
    };
    let ((), sent) = tokio::join!(dumping, sending);
    let digest = sent.map_err(|error| Error::Failed(error.to_string()))??;
    *lock(&migration.digest) = Some(digest);
    migration.handle.event("sent", String::new());
    fault::hit(FaultPoint::SourceAfterFinal).await
}

/// A parked pod stands still already: sends its trees and images.
async fn send_parked(
    app: &Shared,
    migration: &Arc<Migration>,
    sender: &Sender,
    parked: &Parked,
) -> Result<()> {
    migration.apply(Event::Frozen)?;
    let frozen_at_ns = parked.frozen_at_ns;
    migration
        .handle
        .event_at("frozen", String::new(), frozen_at_ns);
    let (migration_, sender, folder) = (migration.clone(), sender.clone(), parked.images(app));
    let sending = tokio::task::spawn_blocking(move || {
        let dump = Dump::default();
        dump.ended(Ok(0));
        let final_round = Final {
            migration: &migration_,
            pids: BTreeMap::new(),
            folder,
            known: Known::default(),
            dump: &dump,
            started: Instant::now(),
            frozen_at_ns,
        };
        final_round.send(&sender)
    });
    let digest = sending
        .await
        .map_err(|error| Error::Failed(error.to_string()))??;
    *lock(&migration.digest) = Some(digest);
    migration.handle.event("sent", String::new());
    fault::hit(FaultPoint::SourceAfterFinal).await
}

/// The dump that goes on while its images are sent.
#[derive(Debug, Default)]
struct Dump {
    done: AtomicBool,
    outcome: Mutex<Option<Result<u64>>>,
}

impl Dump {
    fn ended(&self, outcome: Result<u64>) {
        *lock(&self.outcome) = Some(outcome);
        self.done.store(true, Ordering::Release);
    }

    fn take(&self) -> Result<u64> {
        lock(&self.outcome)
            .take()
            .unwrap_or_else(|| Err(Error::Failed("the dump did not end".to_owned())))
    }
}

struct Final<'a> {
    migration: &'a Migration,
    pids: BTreeMap<String, i32>,
    folder: PathBuf,
    /// What the destination has of the memory.
    known: Known,
    dump: &'a Dump,
    started: Instant,
    frozen_at_ns: u64,
}

impl Final<'_> {
    /// Trees first, while the dump is being written; then the images as they appear.
    fn send(&self, sender: &Sender) -> Result<[u8; 32]> {
        let mut out = writer(self.migration, sender)?;
        let sent = self.trees_and_images(&mut out);
        if sent.is_err() {
            // The dump writes into a folder that is about to be removed: let it end first.
            self.wait_for_dump();
        }
        let (rounds, images) = sent?;
        let dump_milliseconds = self.dump.take()?;
        self.migration
            .handle
            .event("dumped", format!("{dump_milliseconds} ms"));
        fault::hit_blocking(FaultPoint::SourceAfterDump)?;
        fault::hit_blocking(FaultPoint::SourceBeforeFinalEnd)?;
        let (sink, counts) = out.finish().map_err(failed)?;
        let end = RoundEnd {
            raw_bytes: counts.raw_bytes,
            changed_entries: changed(&rounds),
            milliseconds: millis(self.started),
            frozen_at_ns: self.frozen_at_ns,
            dump_milliseconds,
            memory_bytes: images.bytes + images.known_bytes,
            memory_sent_bytes: images.bytes - images.zero_bytes,
            ..RoundEnd::default()
        };
        self.migration.handle.update(|progress| {
            progress.bytes_sent += counts.wire_bytes;
            progress.bytes_raw += counts.raw_bytes;
        });
        sink.end(end)
            .map_err(|error| Error::Failed(error.to_string()))
    }

    fn trees_and_images(
        &self,
        out: &mut FrameWriter<BlockWriter>,
    ) -> Result<(Vec<RoundSummary>, ImagesSummary)> {
        fault::hit_blocking(FaultPoint::SourceBeforeFinalTrees)?;
        let rounds = lock(&self.migration.trees).last(out, &self.pids)?;
        out.flush().map_err(failed)?;
        fault::hit_blocking(FaultPoint::SourceDuringImages)?;
        let done = || self.dump.done.load(Ordering::Acquire);
        let images = send_images(out, &self.folder, &self.known, done).map_err(failed)?;
        Ok((rounds, images))
    }

    fn wait_for_dump(&self) {
        while !self.dump.done.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn writer(migration: &Migration, sender: &Sender) -> Result<FrameWriter<BlockWriter>> {
    let rate = migration.details.bandwidth;
    let options = Options {
        level: if rate == 0 {
            Level::default()
        } else {
            Level::for_link(rate)
        },
        follow: true,
        limiter: (rate > 0).then(|| Limiter::new(rate)),
    };
    let sink = BlockWriter::new(sender.clone(), migration.sent.clone());
    FrameWriter::new(sink, &options).map_err(failed)
}

fn refuse(sender: &Sender, error: Error) {
    tracing::warn!(%error, "a round failed");
    let _ = sender.blocking_send(Err(error.into()));
}

fn order(migration: &Migration, what: &str) -> Status {
    let state = migration.state();
    Refusal::Order(format!(
        "migration {}: {what} is not possible: it is {}",
        migration.details.id,
        state.name()
    ))
    .into()
}

fn changed(rounds: &[RoundSummary]) -> u64 {
    rounds
        .iter()
        .map(|round| round.changed + round.removed + round.moved)
        .sum()
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

#[allow(clippy::needless_pass_by_value)]
fn failed(error: mycedrive_transfer::Error) -> Error {
    Error::Failed(error.to_string())
}
