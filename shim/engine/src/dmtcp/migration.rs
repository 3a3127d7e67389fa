//! A pod that moves: its processes are suspended by DMTCP and held by our plugin, never frozen by
//! their control groups, in which they could not take part in a checkpoint.
//!
//! `stop` asks for the checkpoint; the processes stand still before they write. `leave` lets them
//! write, when the directories of all containers are mounted. Then they are held until `go_on`,
//! or until they are killed.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mycedrive_connection::Error as Net;
use mycedrive_connection::repair::{Lock, Purpose};

use super::message::Command;
use super::mounting::Mounted;
use super::processes::{self, Census};
use super::sockets::Sockets;
use super::{Dmtcp, POLL, blocking, frozen, gone, images, lock, private, room};
use crate::freezer::Freezer;
use crate::{Checkpoint, Connections, Engine, EngineError, Target};

/// Longest time to stop, write or restart small processes; with memory comes a second for each
/// [`SLOWEST_KIB`].
const LIMIT: Duration = Duration::from_secs(30);
const SLOWEST_KIB: u64 = 20 << 10;
/// Between two looks whether the processes are still there.
const LOOK: Duration = Duration::from_millis(250);
/// Images that nobody wants go here.
const SCRATCH: &str = "/var/lib/mycedrive/dmtcp/scratch";

/// A pod whose processes stand still.
#[derive(Clone, Debug)]
pub(super) struct Suspended {
    /// The containers by id, with their first processes.
    containers: BTreeMap<String, (Target, i32)>,
    /// Processes under DMTCP.
    processes: usize,
    memory: u64,
    connections: Connections,
    /// Containers whose directory is mounted.
    ready: usize,
    /// A container's is not, and will not be.
    pub(super) failed: bool,
    /// For a pause, not for a migration.
    pub(super) paused: bool,
}

impl Suspended {
    fn limit(&self) -> Duration {
        LIMIT + Duration::from_secs(self.memory / SLOWEST_KIB)
    }

    pub(super) fn has(&self, target: &Target) -> bool {
        self.containers.contains_key(&target.id)
    }

    pub(super) fn writing(&self) -> bool {
        self.ready == self.containers.len()
    }

    /// A container that has ended, if there is one.
    fn ended(&self) -> Option<&Target> {
        let ended = |(_, pid): &&(Target, i32)| gone(*pid);
        self.containers
            .values()
            .find(ended)
            .map(|(target, _)| target)
    }
}

pub(super) fn failed(target: &Target, cause: impl Into<String>) -> EngineError {
    EngineError::Checkpoint {
        container: target.name.clone(),
        cause: cause.into(),
        log: target.bundle.join("dmtcp/coordinator.log"),
    }
}

impl Dmtcp {
    fn moving(&self) -> Result<(Suspended, Sockets), EngineError> {
        let source = || std::io::Error::other("the pod is not suspended");
        let suspended = lock(&self.suspended).clone();
        suspended
            .zip(self.sockets())
            .ok_or_else(|| EngineError::Coordinator { source: source() })
    }

    /// Suspends the processes of these containers. The network is locked when all are.
    pub(super) async fn stop(
        &self,
        containers: Vec<(Target, i32)>,
        connections: Connections,
        network: Option<Lock>,
    ) -> Result<(), EngineError> {
        let _one = self.operation.lock().await;
        let Some((first, _)) = containers.first().cloned() else {
            return Ok(());
        };
        let Some(sockets) = self.sockets() else {
            return Err(failed(
                &first,
                "libmycedrive_dmtcp.so is not installed beside the shim; without it no connection \
                 survives",
            ));
        };
        let mut carried = Vec::new();
        for (target, pid) in &containers {
            if frozen(&Freezer::of_process(*pid)?) {
                return Err(failed(target, "it is paused; resume it first"));
            }
            let obstacles = self.obstacles(target, *pid)?;
            if !obstacles.is_empty() {
                return Err(failed(target, obstacles.join("; ")));
            }
            carried.extend(Census::of(*pid)?.carried);
        }
        for process in &carried {
            processes::no_delay(*process);
        }
        let coordinator = self.running_coordinator().await?;
        let ready = coordinator.ready(carried.len()).await?;
        ready.map_err(|text| failed(&first, text))?;
        let suspended = Suspended {
            memory: carried.iter().map(|pid| room::memory(*pid)).sum(),
            containers: containers
                .into_iter()
                .map(|(target, pid)| (target.id.clone(), (target, pid)))
                .collect(),
            processes: carried.len(),
            connections,
            ready: 0,
            failed: false,
            paused: false,
        };
        // Should it be undone before anything is written, something will be written nevertheless.
        private(Path::new(SCRATCH))?;
        let members = suspended.containers.values();
        room::check(
            members.map(|(target, pid)| (target, *pid)),
            Path::new(SCRATCH),
        )?;
        let purpose = match connections {
            Connections::Keep => Purpose::Move,
            Connections::Close => Purpose::Copy,
        };
        match network {
            Some(network) => sockets.begin_then_lock(purpose, network),
            None => sockets.begin(purpose).await?,
        }
        let processes = suspended.processes;
        *lock(&self.suspended) = Some(suspended.clone());
        let stopped = async {
            if !coordinator.ask(Command::Checkpoint).await?.done {
                return Err(failed(
                    &first,
                    "a process is on its way in or out; try again",
                ));
            }
            watched(&suspended, async |limit| {
                sockets.suspended(processes, limit).await
            })
            .await
        }
        .await;
        if let Err(error) = stopped {
            if let Err(also) = self.go_on().await {
                tracing::warn!(error = %also, "not resumed after a failed suspension");
            }
            return Err(error);
        }
        Ok(())
    }

    /// Writes the image of one of the suspended containers. All of them must be asked for at the
    /// same time: they write together.
    pub(super) async fn leave(&self, checkpoint: Checkpoint) -> Result<(), EngineError> {
        let Checkpoint {
            target, image_dir, ..
        } = checkpoint;
        let result = self.image(&target, &image_dir).await;
        if result.is_err()
            && let Some(suspended) = &mut *lock(&self.suspended)
        {
            suspended.failed = true;
        }
        result
    }

    pub(super) async fn image(&self, target: &Target, image_dir: &Path) -> Result<(), EngineError> {
        let (suspended, sockets) = self.moving()?;
        let pid = match suspended.containers.get(&target.id) {
            Some((_, pid)) => *pid,
            None => return Err(failed(target, "it was not suspended")),
        };
        private(image_dir)?;
        room::check([(target, pid)], image_dir)?;
        let partial = images::partial(image_dir)?;
        let mounted = Mounted::new(pid, &partial)?;
        if let Some(suspended) = &mut *lock(&self.suspended) {
            suspended.ready += 1;
            if suspended.writing() {
                sockets.write();
            }
        }
        let begin = Instant::now();
        loop {
            let (now, _) = self.moving()?;
            match sockets.held(suspended.connections, LOOK).await {
                Err(EngineError::Sockets(Net::NotHeld { .. })) if now.failed => {
                    return Err(failed(
                        target,
                        "another container of the pod could not be dumped",
                    ));
                }
                Err(error) => again(&now, begin, error)?,
                Ok(()) => break,
            }
        }
        drop(mounted);
        let version = self.installed().await?.version.clone();
        let first = suspended.containers.keys().next() == Some(&target.id);
        let saved = if first {
            Some(sockets.saved().await?)
        } else {
            None
        };
        let (peers, directory) = (suspended.processes as u32, image_dir.to_owned());
        blocking(move || {
            images::complete(&partial, &directory, &version, peers, saved.as_deref())?;
            remove(&partial);
            Ok(())
        })
        .await
    }

    /// Why the suspended would end if they were let go: they do when their coordinator has.
    pub(super) async fn cannot_go_on(&self) -> Option<String> {
        lock(&self.suspended).as_ref()?;
        let asked = async { self.running_coordinator().await?.ask(Command::Status).await };
        let error = asked.await.err()?;
        Some(format!("its processes would end: {error}"))
    }

    /// Lets the suspended run on.
    pub(super) async fn go_on(&self) -> Result<(), EngineError> {
        let Ok((suspended, sockets)) = self.moving() else {
            return Ok(());
        };
        let mut mounts = Vec::new();
        if !suspended.writing() {
            for (target, pid) in suspended.containers.values() {
                match scratch(target).and_then(|place| Ok((Mounted::new(*pid, &place)?, place))) {
                    Ok(mount) => mounts.push(mount),
                    // It writes into its bundle, then.
                    Err(error) => tracing::warn!(%error, "no room for an image that nobody wants"),
                }
            }
        }
        *lock(&self.suspended) = None;
        let result = sockets.release();
        if mounts.is_empty() {
            return result;
        }
        // They write before they run; the directories must stay until then.
        if let Ok(coordinator) = self.running_coordinator().await {
            let begin = Instant::now();
            while begin.elapsed() < suspended.limit() && suspended.ended().is_none() {
                match coordinator.ask(Command::Status).await {
                    Ok(status) if !status.running => tokio::time::sleep(POLL).await,
                    _ => break,
                }
            }
        }
        for (mount, place) in mounts {
            drop(mount);
            remove(place.parent().unwrap_or(&place));
        }
        result
    }
}

/// Waits for what the processes do, as long as they are there.
async fn watched<F: Future<Output = Result<(), EngineError>>>(
    suspended: &Suspended,
    wait: impl Fn(Duration) -> F,
) -> Result<(), EngineError> {
    let begin = Instant::now();
    loop {
        match wait(LOOK).await {
            Ok(()) => return Ok(()),
            Err(error) => again(suspended, begin, error)?,
        }
    }
}

/// Whether to wait on.
fn again(suspended: &Suspended, begin: Instant, error: EngineError) -> Result<(), EngineError> {
    if !matches!(error, EngineError::Sockets(Net::NotHeld { .. })) {
        return Err(error);
    }
    if let Some(target) = suspended.ended() {
        return Err(failed(target, "it ended while it was checkpointed"));
    }
    if begin.elapsed() < suspended.limit() {
        Ok(())
    } else {
        Err(error)
    }
}

/// A directory for images that nobody wants.
fn scratch(target: &Target) -> Result<PathBuf, EngineError> {
    let place = Path::new(SCRATCH).join(&target.id);
    private(&place)?;
    images::partial(&place)
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        tracing::debug!(%error, "a directory stays");
    }
}
