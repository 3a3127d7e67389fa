//! A container: its init process, its root file system, in [`carrier`] its engine, in [`restoring`]
//! how it comes from an image and, in [`exec`], its execs.

mod carrier;
mod exec;
mod restoring;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use containerd_shim::protos::events::task::TaskExit;
use mycedrive_engine::Restored;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::events::{Events, timestamp};
use crate::io::{self, Owner};
use crate::options::Options;
use crate::process::Process;
use crate::reaper::{self, ExitWatch};
use crate::rootfs::{self, Mount};
use crate::runc::Runc;
use crate::spec::Spec;
use crate::state::{Exit, State};
use crate::volumes::Volume;

use restoring::Begun;

pub use carrier::{Carrier, Without};
pub use restoring::RestorePlan;

/// How a container's init comes into being.
pub enum Launch<'a> {
    /// `runc create`: it waits for `runc start`.
    Create,
    /// An engine's restore.
    Restore(RestorePlan<'a>),
}

/// A container of the pod.
pub struct Container {
    /// containerd's id.
    pub id: String,
    /// Kubernetes' name; the id for a task that `ctr` made.
    pub name: String,
    /// Whether it is the pod's sandbox.
    pub is_sandbox: bool,
    /// containerd namespace.
    pub namespace: String,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// The spec as it was at Create.
    pub spec: Spec,
    /// What its root file system is mounted from.
    pub rootfs_mounts: Vec<Mount>,
    /// Runtime options.
    pub options: Options,
    /// The OCI runtime as this container uses it.
    pub runc: Runc,
    /// Its first process.
    pub init: Process,
    /// Directory of a checkpoint that Start restores (`ctr run` with a checkpoint).
    pub restore_from: Option<PathBuf>,
    /// Held by a Start that waits for a migration, and by the report of init's end: so
    /// TaskExit does not come before TaskStart.
    pub start: tokio::sync::Mutex<()>,
    events: Events,
    execs: Mutex<HashMap<String, Arc<Process>>>,
    running_execs: watch::Sender<usize>,
    mounted: AtomicBool,
    in_runc: AtomicBool,
    cgroup: Mutex<Option<Arc<Cgroup>>>,
    oom: Mutex<Option<tokio::task::AbortHandle>>,
    restored: Mutex<Option<Restored>>,
    begun: Mutex<Option<Begun>>,
    carrier: Mutex<Carrier>,
    /// Further writers of its output, so that a reader does not see an end between the end of a
    /// program and its second start. See [`Self::rescue`].
    held_output: Mutex<Vec<std::fs::File>>,
    /// When its program was started under an engine.
    started: Mutex<Option<Instant>>,
    volumes: Mutex<Vec<Volume>>,
}

/// What a container is made of.
pub struct Parts {
    /// containerd's id.
    pub id: String,
    /// containerd namespace.
    pub namespace: String,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// The spec.
    pub spec: Spec,
    /// Root file system.
    pub rootfs_mounts: Vec<Mount>,
    /// Streams of init.
    pub stdio: io::Stdio,
    /// Runtime options.
    pub options: Options,
    /// A checkpoint to restore.
    pub restore_from: Option<PathBuf>,
    /// First state: Created or Waiting.
    pub state: State,
    /// Where events go.
    pub events: Events,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Container {
    /// A container that has nothing in the kernel yet.
    pub fn new(parts: Parts) -> Self {
        let name = parts
            .spec
            .annotation(crate::spec::annotation::CONTAINER_NAME)
            .unwrap_or(&parts.id)
            .to_owned();
        let init = Process::new(
            "",
            format!("container {}", parts.id),
            parts.stdio,
            parts.state,
        );
        Self {
            name,
            is_sandbox: parts.spec.is_sandbox(),
            runc: Runc::new(&parts.options, &parts.namespace, &parts.bundle),
            init,
            id: parts.id,
            namespace: parts.namespace,
            bundle: parts.bundle,
            spec: parts.spec,
            rootfs_mounts: parts.rootfs_mounts,
            options: parts.options,
            restore_from: parts.restore_from,
            start: tokio::sync::Mutex::new(()),
            events: parts.events,
            execs: Mutex::default(),
            running_execs: watch::Sender::new(0),
            mounted: AtomicBool::new(false),
            in_runc: AtomicBool::new(false),
            cgroup: Mutex::default(),
            oom: Mutex::default(),
            restored: Mutex::default(),
            begun: Mutex::default(),
            carrier: Mutex::default(),
            held_output: Mutex::default(),
            started: Mutex::default(),
            volumes: Mutex::default(),
        }
    }

    /// The mount point of its root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// The writable root layer on the host: the overlay's upperdir. Valid while unmounted too.
    pub fn rootfs_upper(&self) -> Option<&str> {
        self.rootfs_mounts
            .iter()
            .find_map(|mount| mount.option("upperdir"))
    }

    /// The layers of its image on the host, the topmost first: the overlay's lowerdirs.
    pub fn rootfs_lowers(&self) -> Vec<String> {
        self.rootfs_mounts.iter().flat_map(Mount::lowers).collect()
    }

    /// Name of its image as Kubernetes wrote it; empty for a task that `ctr` made.
    pub fn image_name(&self) -> &str {
        self.spec
            .annotation(crate::spec::annotation::IMAGE_NAME)
            .unwrap_or_default()
    }

    /// The pid that containerd is told: init's, or the shim's own while nothing runs here.
    pub fn reported_pid(&self) -> u32 {
        match (self.init.state(), self.init.pid()) {
            (State::Waiting | State::Held, _) | (State::Frozen, 0) => std::process::id(),
            (_, pid) => pid as u32,
        }
    }

    /// Mounts the root file system, once.
    pub fn mount_rootfs(&self) -> Result<()> {
        if self.mounted.load(Ordering::Relaxed) {
            return Ok(());
        }
        rootfs::mount_all(&self.rootfs_mounts, &self.rootfs())?;
        self.mounted
            .store(!self.rootfs_mounts.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// Unmounts the root file system, if it is mounted.
    pub fn unmount_rootfs(&self) -> Result<()> {
        if self.mounted.swap(false, Ordering::Relaxed) {
            rootfs::unmount_all(&self.rootfs())?;
        }
        Ok(())
    }

    /// Notes how one of its volumes is mounted.
    pub fn add_volume(&self, volume: Volume) {
        lock(&self.volumes).push(volume);
    }

    /// How its volumes are mounted.
    pub fn volumes(&self) -> Vec<Volume> {
        lock(&self.volumes).clone()
    }

    /// Forgets how its volumes were mounted.
    pub fn take_volumes(&self) -> Vec<Volume> {
        std::mem::take(&mut *lock(&self.volumes))
    }

    fn owner(&self) -> Owner<'_> {
        Owner {
            id: &self.id,
            namespace: &self.namespace,
            uid: self.options.io_uid,
            gid: self.options.io_gid,
        }
    }

    /// Makes the init process and returns its pid. The state stays as it is, and the root file
    /// system must be mounted. Its exit is followed from now on (see [`Self::follow_init`]).
    ///
    /// The caller holds `init.op`.
    pub async fn launch(self: &Arc<Self>, how: Launch<'_>) -> Result<i32> {
        let pid_file = self.pid_file();
        let expecting = reaper::expect();
        let (prepared, made) = match how {
            Launch::Create => {
                let mut prepared = self.prepare_io().await?;
                let made = self.create(&mut prepared, &pid_file).await;
                (prepared, made)
            }
            Launch::Restore(plan) => {
                let (prepared, streams) = self.streams_of_restore().await?;
                (prepared, self.restore(streams, plan).await)
            }
        };
        if let Err(error) = made {
            prepared.discard().await;
            return Err(error);
        }
        self.in_runc.store(true, Ordering::Relaxed);
        let pid = read_pid(&pid_file)?;
        let exit = reaper::watch(pid);
        drop(expecting);
        match Cgroup::of(pid) {
            Ok(cgroup) => *lock(&self.cgroup) = Some(Arc::new(cgroup)),
            // It may have ended already.
            Err(error) => warn!(id = %self.id, %error, "no cgroup"),
        }
        let attached = prepared.attach().await?;
        self.init.appeared(pid, exit.clone(), attached);
        self.follow_init(pid, exit);
        Ok(pid)
    }

    async fn prepare_io(&self) -> Result<io::Prepared> {
        io::prepare(&self.init.stdio, self.owner()).await
    }

    fn pid_file(&self) -> PathBuf {
        self.bundle.join("init.pid")
    }

    /// `runc create`.
    async fn create(&self, prepared: &mut io::Prepared, pid_file: &Path) -> Result<()> {
        let mut args: Vec<OsString> = vec!["create".into()];
        args.extend(["--bundle".into(), self.bundle.clone().into()]);
        args.extend(["--pid-file".into(), pid_file.into()]);
        if let Some(socket) = prepared.console_socket() {
            args.extend(["--console-socket".into(), socket.into()]);
        }
        if self.options.no_pivot_root {
            args.push("--no-pivot".into());
        }
        if self.options.no_new_keyring {
            args.push("--no-new-keyring".into());
        }
        args.push(self.id.clone().into());
        self.runc.run_with(args, prepared.take_streams()).await
    }

    /// Reports the end of init when it comes, as the last one of the container's processes.
    fn follow_init(self: &Arc<Self>, pid: i32, exit: ExitWatch) {
        let container = self.clone();
        tokio::spawn(async move {
            let exit = reaper::exited(exit).await;
            let _start = container.start.lock().await;
            let _op = container.init.op.lock().await;
            if container.init.pid() != pid {
                // Discarded, or a restore that was undone.
                return;
            }
            let rescued = container.rescue(exit).await;
            lock(&container.held_output).clear();
            if rescued {
                return;
            }
            if !container.spec.has_own_pid_namespace()
                && let Err(error) = container.kill_all().await
            {
                warn!(id = %container.id, %error, "cannot end the rest of a container");
            }
            container.no_execs().await;
            container.end(exit);
        });
    }

    /// SIGKILL to everything in the container's cgroup.
    pub async fn kill_all(&self) -> Result<()> {
        match self
            .runc
            .run(["kill", "--all", self.id.as_str(), "KILL"])
            .await
        {
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    /// How many execs run.
    pub fn running_execs(&self) -> watch::Receiver<usize> {
        self.running_execs.subscribe()
    }

    /// Waits until no exec runs.
    async fn no_execs(&self) {
        let mut count = self.running_execs.subscribe();
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// Init ended (or, held, is said to have ended): tells containerd. Once.
    pub fn end(&self, exit: Exit) {
        let pid = self.reported_pid();
        if self.init.finish(exit).is_err() {
            return;
        }
        info!(id = %self.id, pid, code = exit.code, "container ended");
        if let Some(engine) = self.carrier().engine {
            engine.ended(&crate::migration::target(self));
        }
        self.stop_oom_watch();
        self.send_exit("", pid, exit);
    }

    /// Reports the exit of an init that never ran and was ended by its removal from runc.
    pub async fn report_unused(&self, pid: u32) {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
        let Some(watch) = self.init.exit_watch() else {
            return;
        };
        if let Ok(exit) = tokio::time::timeout(PATIENCE, reaper::exited(watch)).await {
            self.send_exit("", pid, exit);
        } else {
            warn!(id = %self.id, "its init is still there after its removal");
        }
    }

    fn send_exit(&self, exec_id: &str, pid: u32, exit: Exit) {
        let id = if exec_id.is_empty() {
            &self.id
        } else {
            exec_id
        };
        self.events.send(TaskExit {
            container_id: self.id.clone(),
            id: id.to_owned(),
            pid,
            exit_status: exit.code,
            exited_at: Some(timestamp(exit.at)).into(),
            ..TaskExit::default()
        });
    }

    /// Lets go of the init process without a report: it was discarded on a source, or a
    /// restore was undone. To be called before the process is killed.
    pub fn forget_init(&self) {
        self.stop_oom_watch();
        if let Some(streams) = self.init.forget() {
            tokio::spawn(streams.drain());
        }
    }

    /// Whether runc knows the container, so that `runc delete` is needed.
    pub fn in_runc(&self) -> bool {
        self.in_runc.load(Ordering::Relaxed)
    }

    /// Removes it from runc; the init process has ended. That it is gone is not an error.
    ///
    /// Without `--force`: with it runc sends SIGKILL even to a stopped container and then
    /// waits 100 ms before it looks whether that helped.
    pub async fn delete_from_runc(&self) -> Result<()> {
        if !self.in_runc() {
            return Ok(());
        }
        match self.runc.run(["delete", self.id.as_str()]).await {
            Ok(()) | Err(Error::NotFound(_)) => {
                self.in_runc.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The cgroup of init, once it was launched.
    pub fn cgroup(&self) -> Result<Arc<Cgroup>> {
        lock(&self.cgroup)
            .clone()
            .ok_or_else(|| Error::NotFound(format!("cgroup of container {}", self.id)))
    }

    /// Reports OOM kills from now on.
    pub fn watch_oom(&self) {
        let Ok(cgroup) = self.cgroup() else { return };
        match crate::oom::watch(&cgroup, self.id.clone(), self.events.clone()) {
            Ok(task) => *lock(&self.oom) = Some(task),
            Err(error) => warn!(id = %self.id, %error, "OOM kills will not be reported"),
        }
    }

    fn stop_oom_watch(&self) {
        // What happened just before the end is still to be reported.
        if let Some(task) = lock(&self.oom).take() {
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                task.abort();
            });
        }
    }
}

/// Reads the pid file that runc wrote.
fn read_pid(path: &Path) -> Result<i32> {
    let text = fs::read_to_string(path).map_err(Error::path("read", path))?;
    text.trim()
        .parse()
        .map_err(|error| Error::decode(path.display().to_string(), error))
}
