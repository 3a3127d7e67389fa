//! Making processes from images: a container whose first program is `dmtcp_restart`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::images::{self, List, Verified};
use super::layout::{self, Folder};
use super::message::Command;
use super::processes::{Census, no_delay};
use super::sockets::Sockets;
use super::{Dmtcp, Member, POLL, blocking, bundle_spec, gone, mounting, prepare};
use crate::criu::runtime;
use crate::{Engine, EngineError, Purpose, Release, Restore, RestoreIo, Restored, Target, spec};

/// Longest restart of small processes; with memory comes a second for each [`SLOWEST`] bytes.
const LIMIT: Duration = Duration::from_secs(30);
const SLOWEST: u64 = 20 << 20;
/// Between two looks whether the processes are still there.
const LOOK: Duration = Duration::from_millis(100);
const GAVE_UP: &str = "DMTCP gave up; it says why on the container's standard error";
/// Longest `create`, `start` and `delete` of the runtime.
const RUNTIME: Duration = Duration::from_secs(60);

impl Dmtcp {
    /// Restores a container. After an error nothing of it is left.
    pub(super) async fn make(&self, restore: Restore) -> Result<Restored, EngineError> {
        let target = restore.target.clone();
        let work = restore.work_dir.clone();
        let before = bundle_spec(&target)?;
        let made = self.restart(restore, before.clone()).await;
        if made.is_err() {
            runtime::forget(&*self.runner, &target, &work).await;
            self.ended(&target);
            spec::write(&target.bundle, &before)?;
        }
        made
    }

    async fn restart(&self, restore: Restore, mut spec: Value) -> Result<Restored, EngineError> {
        let Restore {
            target,
            image_dir,
            work_dir,
            pid_file,
            io,
            release,
            purpose,
            connections,
            ..
        } = restore;
        let failed = |cause: String| EngineError::Restore {
            container: target.name.clone(),
            cause,
            log: work_dir.join("runtime.log"),
        };
        let (_, runtime_log) = runtime::logs(&work_dir, "restore.log")?;
        let user = spec
            .pointer("/process/user/uid")
            .and_then(Value::as_u64)
            .unwrap_or(0) as u32;
        let Verified {
            list,
            folder: images,
            processes,
            sockets: saved,
        } = blocking(move || images::verified(&image_dir, user)).await?;
        let installed = self.installed().await?;
        if list.version != installed.version {
            return Err(failed(format!(
                "its image was made by DMTCP {}, installed is {}; install the same version",
                list.version, installed.version
            )));
        }
        // Nothing else holds the processes until it is decided that they run here.
        if release == Release::Stopped && installed.plugin.is_none() {
            return Err(failed(
                "libmycedrive_dmtcp.so is not installed beside the shim; without it no pod comes \
                 from elsewhere"
                    .to_owned(),
            ));
        }
        // Those of a pod that moves come from the images of all its containers.
        if purpose != Purpose::Migration && list.peers as usize != processes.len() {
            return Err(failed(format!(
                "its image has {} of the {} processes that belong together",
                processes.len(),
                list.peers
            )));
        }
        let fit = self.fit(&target, &spec).await?;
        let task = prepare::Task::Restart {
            folder: &images,
            images: &processes,
        };
        let folder = Folder::of(&target.bundle);
        prepare::prepare(&mut spec, &target.name, &folder, installed, &fit, &task)?;
        spec::write(&target.bundle, &spec)?;
        self.members().insert(
            target.id.clone(),
            Member {
                name: target.name.clone(),
                pid: 0,
                digest: fit.digest,
            },
        );

        let mut create = runtime::command(&target, &runtime_log, "create");
        create.arg("--bundle").arg(&target.bundle);
        create.arg("--pid-file").arg(&pid_file);
        if target.runtime.no_pivot {
            create.arg("--no-pivot");
        }
        match io {
            RestoreIo::Console(socket) => {
                create.arg("--console-socket").arg(socket);
            }
            RestoreIo::Streams {
                stdin,
                stdout,
                stderr,
            } => {
                let stream = |end: Option<_>| end.map_or_else(Stdio::null, Stdio::from);
                create
                    .stdin(stream(stdin))
                    .stdout(stream(stdout))
                    .stderr(stream(stderr));
            }
        }
        create.arg(&target.id);
        let run = async |command| match self.runner.run(command, RUNTIME).await {
            Ok(0) => Ok(()),
            Ok(code) => Err(failed(crate::criu::log::runtime_cause(&runtime_log, code))),
            Err(error) => Err(failed(error.to_string())),
        };
        run(create).await?;
        let pid = crate::criu::restore::read_pid(&pid_file)?;
        self.created(&target, pid).await?;
        let sockets = self.sockets();
        if let Some(sockets) = &sockets {
            if let Some(saved) = saved {
                sockets.restore(saved, connections).await?;
            }
        } else if list.sockets.is_some() {
            return Err(failed(
                "its image has sockets, which need libmycedrive_dmtcp.so beside the shim"
                    .to_owned(),
            ));
        }
        let mut start = runtime::command(&target, &runtime_log, "start");
        start.arg(&target.id);
        run(start).await?;
        if let Some(sockets) = &sockets {
            self.wait_held(sockets, pid, &list).await.map_err(&failed)?;
            if release == Release::Running {
                sockets.release()?;
            }
        }
        if release == Release::Running {
            self.wait_running(&target, pid, &list)
                .await
                .map_err(failed)?;
        }
        // Else it would keep the files as long as the container lives.
        if let Err(error) = mounting::unmount_in(pid, layout::RESTART) {
            tracing::warn!(container = %target.name, %error, "images stay mounted");
        }
        Ok(Restored {
            pid,
            were_stopped: std::collections::BTreeSet::new(),
        })
    }

    /// Waits until every process of the pod is back and held.
    async fn wait_held(&self, sockets: &Sockets, pid: i32, list: &List) -> Result<(), String> {
        let limit = limit(list);
        let begin = Instant::now();
        loop {
            match sockets.restored(LOOK).await {
                Ok(()) => break,
                Err(error) if begin.elapsed() > limit => return Err(error.to_string()),
                Err(EngineError::Sockets(mycedrive_connection::Error::NotHeld { .. })) => {}
                Err(error) => return Err(error.to_string()),
            }
            if gone(pid) {
                return Err(GAVE_UP.to_owned());
            }
        }
        for process in Census::of(pid).map_err(|error| error.to_string())?.carried {
            no_delay(process);
        }
        Ok(())
    }

    /// Waits until every process is back and runs.
    async fn wait_running(&self, target: &Target, pid: i32, list: &List) -> Result<(), String> {
        let limit = limit(list);
        let text = |error: EngineError| error.to_string();
        let begin = Instant::now();
        while begin.elapsed() < limit {
            if gone(pid) {
                return Err(GAVE_UP.to_owned());
            }
            let census = Census::of(pid).map_err(text)?;
            if census.carried.len() == list.peers as usize && census.launchers == 0 {
                let coordinator = self.running_coordinator().await.map_err(text)?;
                let answer = coordinator.ask(Command::Status).await.map_err(text)?;
                if answer.running && answer.peers >= list.peers {
                    for process in census.carried {
                        no_delay(process);
                    }
                    tracing::info!(container = %target.name, peers = answer.peers, "restarted");
                    return Ok(());
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Err(format!("its processes were not back after {limit:?}"))
    }
}

fn limit(list: &List) -> Duration {
    let bytes: u64 = list.images.iter().map(|image| image.size).sum();
    LIMIT + Duration::from_secs(bytes / SLOWEST)
}
