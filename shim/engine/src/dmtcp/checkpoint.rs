//! Taking a checkpoint.

use std::fs;
use std::path::Path;
use std::slice;
use std::time::{Duration, Instant};

use super::message::Command;
use super::mounting::Mounted;
use super::processes::{self, Census};
use super::{Dmtcp, POLL, blocking, frozen, gone, images, private, room};
use crate::freezer::{self, Freezer};
use crate::{Checkpoint, Connections, Engine, EngineError, Purpose};
use mycedrive_connection::repair::Purpose::Copy;

/// Longest checkpoint of a small program; with memory comes a second for each
/// [`SLOWEST_KIB`].
const LIMIT: Duration = Duration::from_secs(30);
const SLOWEST_KIB: u64 = 20 << 10;
/// How long processes may take to go on after their images are written.
const RESUME: Duration = Duration::from_secs(10);
/// In how many looks the processes are looked at as well as the files.
const LOOKS: u32 = 16;

/// What the program does when its image is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Run,
    /// It was paused when it was asked for, and is again.
    Pause,
    End,
}

impl Dmtcp {
    /// Takes a checkpoint on this node. The image is complete only when this returns without an
    /// error; the container then runs on, or has ended, as was asked.
    pub(super) async fn take(&self, checkpoint: Checkpoint) -> Result<(), EngineError> {
        if checkpoint.purpose == Purpose::Migration {
            return self.leave(checkpoint).await;
        }
        let _one = self.operation.lock().await;
        let Checkpoint {
            target,
            pid,
            image_dir,
            purpose,
            ..
        } = checkpoint;
        let exit = purpose == Purpose::Local { exit: true };
        if self.is_paused(&target) {
            return self.take_paused(&target, pid, &image_dir, exit).await;
        }
        let failed = |cause: String| EngineError::Checkpoint {
            container: target.name.clone(),
            cause,
            log: target.bundle.join("dmtcp/coordinator.log"),
        };
        let others = self.others(&target);
        if !others.is_empty() {
            return Err(failed(format!(
                "its image would need those of {} as well, which share its coordinator",
                others.join(", ")
            )));
        }
        let freezer = Freezer::of_process(pid)?;
        let paused = frozen(&freezer);
        if paused {
            // It could not be suspended when it was paused, and runs until it is.
            freezer::thaw_all(slice::from_ref(&freezer))?;
        }
        let after = match (exit, paused) {
            (true, _) => After::End,
            (false, true) => After::Pause,
            (false, false) => After::Run,
        };
        let result = self
            .dump(&target, pid, &image_dir, after, &freezer, &failed)
            .await;
        if paused && !gone(pid) {
            freezer::freeze_all(slice::from_ref(&freezer))?;
        }
        result
    }

    async fn dump(
        &self,
        target: &crate::Target,
        pid: i32,
        image_dir: &Path,
        after: After,
        freezer: &Freezer,
        failed: &(dyn Fn(String) -> EngineError + Send + Sync),
    ) -> Result<(), EngineError> {
        let obstacles = self.obstacles(target, pid)?;
        if !obstacles.is_empty() {
            return Err(failed(obstacles.join("; ")));
        }
        let carried = Census::of(pid)?.carried;
        private(image_dir)?;
        room::check([(target, pid)], image_dir)?;
        let partial = images::partial(image_dir)?;
        let version = self.installed().await?.version.clone();
        let (peers, directory) = (carried.len() as u32, image_dir.to_owned());
        let written = self
            .written(target, pid, &carried, &partial, after, freezer, failed)
            .await;
        let result = match written {
            Ok(sockets) => {
                let partial = partial.clone();
                let sockets = move || {
                    let sockets = sockets.as_deref();
                    images::complete(&partial, &directory, &version, peers, sockets)
                };
                blocking(sockets).await
            }
            Err(error) => {
                // Held or not, it goes on.
                if let Some(sockets) = self.sockets() {
                    sockets.release()?;
                }
                Err(error)
            }
        };
        if let Err(error) = fs::remove_dir_all(&partial) {
            tracing::debug!(%error, "a directory stays");
        }
        result
    }

    /// Has the images written into `directory`. The pod's sockets, where our plugin is.
    #[allow(clippy::too_many_arguments)]
    async fn written(
        &self,
        target: &crate::Target,
        pid: i32,
        carried: &[i32],
        directory: &Path,
        after: After,
        freezer: &Freezer,
        failed: &(dyn Fn(String) -> EngineError + Send + Sync),
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let coordinator = self.running_coordinator().await?;
        let _mounted = Mounted::new(pid, directory)?;
        for process in carried {
            processes::no_delay(*process);
        }
        coordinator.ready(carried.len()).await?.map_err(failed)?;
        let sockets = self.sockets();
        if let Some(sockets) = &sockets {
            sockets.begin(Copy).await?;
            sockets.write();
        }
        let answer = coordinator.ask(Command::Checkpoint).await?;
        if !answer.done {
            return Err(failed(
                "a process is on its way in or out; try again".to_owned(),
            ));
        }
        let memory: u64 = carried.iter().map(|pid| room::memory(*pid)).sum();
        let limit = LIMIT + Duration::from_secs(memory / SLOWEST_KIB);
        if let Err(problem) = complete(directory, pid, carried.len(), limit).await {
            if gone(pid) {
                self.failed(target, "during a checkpoint");
            }
            return Err(failed(problem));
        }
        let mut saved = None;
        if let Some(sockets) = &sockets {
            sockets.held(Connections::Close, RESUME).await?;
            saved = Some(sockets.saved().await?);
        }
        if after == After::End {
            // Best effort to let nothing run after its image; it is killed either way.
            if let Err(error) = freezer::freeze_all(slice::from_ref(freezer)) {
                tracing::debug!(%error, "not frozen before it is killed");
            }
            freezer.kill_all()?;
            freezer::thaw_all(slice::from_ref(freezer))?;
            if let Some(sockets) = &sockets {
                sockets.vanish();
            }
            return Ok(saved);
        }
        if after == After::Pause {
            // While our plugin holds it: what it did now would be in its files, not in its image.
            freezer::freeze_all(slice::from_ref(freezer))?;
        }
        if let Some(sockets) = &sockets {
            sockets.release()?;
        }
        if after == After::Pause {
            return Ok(saved);
        }
        let begin = Instant::now();
        while begin.elapsed() < RESUME {
            if coordinator.ask(Command::Status).await?.running {
                return Ok(saved);
            }
            if gone(pid) {
                self.failed(target, "after a checkpoint");
                return Err(failed("it ended after its image was written".to_owned()));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(failed(format!(
            "its processes did not go on within {RESUME:?}"
        )))
    }
}

/// Waits until there are `count` images and none is being written.
async fn complete(directory: &Path, pid: i32, count: usize, limit: Duration) -> Result<(), String> {
    let begin = Instant::now();
    let mut looks = 0;
    while begin.elapsed() < limit {
        let progress = images::progress(directory).map_err(|error| error.to_string())?;
        if progress.partial == 0 && progress.complete == count {
            return Ok(());
        }
        looks += 1;
        if looks % LOOKS == 0 && gone(pid) {
            return Err("it ended while its image was written".to_owned());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(format!("not done after {limit:?}"))
}
