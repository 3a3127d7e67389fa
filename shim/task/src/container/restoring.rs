//! How a container comes from an image: an engine restores it, and may have begun before the image was
//! there.

use std::path::PathBuf;

use mycedrive_engine::{Connections, Engine, Purpose, Release, Restore, RestoreIo, Restored};

use super::{Container, lock};
use crate::error::Result;
use crate::io::Prepared;

/// A restore, but for what the container knows itself.
pub struct RestorePlan<'a> {
    /// Who restores.
    pub engine: &'a dyn Engine,
    /// Directory of the images.
    pub image: PathBuf,
    /// Directory for the engine's log.
    pub work: PathBuf,
    /// Whether the processes run at the end.
    pub release: Release,
    /// Why the image was made.
    pub purpose: Purpose,
    /// What becomes of connections.
    pub connections: Connections,
    /// Where the ends of its connections to other containers are to be had.
    pub ends: Option<String>,
    /// Whether another container has brought the pod's System V IPC objects.
    pub ipc_is_there: bool,
}

/// A restore that may have begun. The streams are here as well, should it have to begin anew.
pub(super) struct Begun {
    prepared: Prepared,
    streams: RestoreIo,
}

impl Container {
    /// Lets the engine begin a restore of which the image is on its way; `streams`: see
    /// [`Engine::begin_restore`]. The container is as for [`Self::launch`], which uses it.
    pub async fn begin_restore(&self, plan: RestorePlan<'_>, streams: &[String]) -> Result<bool> {
        self.forget_restore().await;
        let (prepared, own) = self.streams_of_restore().await?;
        let engine = plan.engine;
        let restore = self.restore_of(own, plan);
        let begun = engine.begin_restore(&restore, streams).await;
        // Also if it did not begin: a reader of the output must not see an end.
        let streams = restore.io;
        *lock(&self.begun) = Some(Begun { prepared, streams });
        Ok(begun?)
    }

    /// Whether [`Self::begin_restore`] has opened the streams, whatever the engine did.
    pub fn has_begun_restore(&self) -> bool {
        lock(&self.begun).is_some()
    }

    /// Ends what [`Self::begin_restore`] started.
    pub async fn forget_restore(&self) {
        let begun = lock(&self.begun).take();
        let Some(begun) = begun else { return };
        if let Ok(engine) = self.engine() {
            engine.forget_restore(&crate::migration::target(self)).await;
        }
        drop(begun.streams);
        begun.prepared.discard().await;
    }

    /// The streams of a restore: those with which it has begun, or new ones.
    pub(super) async fn streams_of_restore(&self) -> Result<(Prepared, RestoreIo)> {
        let begun = lock(&self.begun).take();
        if let Some(Begun { prepared, streams }) = begun {
            return Ok((prepared, streams));
        }
        let mut prepared = self.prepare_io().await?;
        let streams = prepared.take_streams();
        let io = match prepared.console_socket() {
            Some(socket) => RestoreIo::Console(socket),
            None => RestoreIo::Streams {
                stdin: streams.stdin,
                stdout: streams.stdout,
                stderr: streams.stderr,
            },
        };
        Ok((prepared, io))
    }

    fn restore_of(&self, io: RestoreIo, plan: RestorePlan<'_>) -> Restore {
        Restore {
            target: crate::migration::target(self),
            image_dir: plan.image,
            work_dir: plan.work,
            pid_file: self.pid_file(),
            io,
            release: plan.release,
            purpose: plan.purpose,
            connections: plan.connections,
            ends: plan.ends,
            ipc_is_there: plan.ipc_is_there,
        }
    }

    /// An engine's restore.
    pub(super) async fn restore(&self, io: RestoreIo, plan: RestorePlan<'_>) -> Result<()> {
        let engine = plan.engine;
        let restored = engine.restore(self.restore_of(io, plan)).await?;
        *lock(&self.restored) = Some(restored);
        Ok(())
    }

    /// What an engine's restore made, to let it run.
    pub fn restored(&self) -> Option<Restored> {
        lock(&self.restored).clone()
    }
}
