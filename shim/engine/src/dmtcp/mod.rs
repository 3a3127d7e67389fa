//! DMTCP: the program runs under `dmtcp_launch` from its start, and is checkpointed in user space.
//!
//! - [`Dmtcp`] is made once per pod and has the pod's coordinator (`coordinator`, `message`,
//!   `sandbox`).
//! - Before a container is made: is it installed (`installed`), can it carry the program (`fit`),
//!   then the spec is changed (`prepare`, `layout`). `shim/init` is the container's pid 1.
//! - Inet sockets are our plugin's and the pod's helper's (`sockets`), which also holds the
//!   processes of a pod that moves until it is decided where they run (`migration`).
//! - A checkpoint is asked of the coordinator, and what happened is seen from outside: the files
//!   (`images`) and the processes (`processes`), never what DMTCP's commands return.
//!
//! A process under DMTCP that is frozen by its control group cannot take part in a checkpoint;
//! the request would wait and fire at the thaw. So a paused container is thawed for it.

mod answers;
mod checkpoint;
mod coordinator;
mod fatal;
mod fit;
mod images;
mod installed;
mod layout;
mod limit;
mod message;
mod migration;
mod mounting;
mod paused;
mod prepare;
mod processes;
mod restore;
mod room;
mod sandbox;
mod sockets;
mod workarounds;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mycedrive_connection::PodNet;
use mycedrive_connection::repair::Lock;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::freezer::Freezer;
use crate::process::{Status, proc};
use crate::{
    Capabilities, Checkpoint, Connections, Engine, EngineError, EngineKind, Restore, Restored,
    Runner, Start, Target, spec,
};
use coordinator::{Bound, Coordinator};
use fit::Fit;
use installed::Installation;
use layout::Folder;
use processes::Census;
use sockets::Sockets;

pub use images::is_dmtcp;
pub(crate) use images::{FOLDER, described};
pub use installed::find_prefix;

/// Codes with which DMTCP ends a process that it gives up: one for each container, so that a
/// program that ends with its own is not taken for one that DMTCP gave up.
const FAILURES: std::ops::Range<u32> = 160..250;

/// How long a program that runs may take to be under DMTCP.
const START: Duration = Duration::from_secs(10);
/// How long one that is not, and is not on its way, is waited for.
const NOT_CARRIED: Duration = Duration::from_millis(500);
/// Between two looks.
const POLL: Duration = Duration::from_millis(2);

/// The engine of one pod.
pub struct Dmtcp {
    runner: Arc<dyn Runner>,
    /// Where it is installed, if that is configured.
    prefix: Option<PathBuf>,
    installed: OnceCell<Installation>,
    coordinator: tokio::sync::Mutex<Option<Arc<Coordinator>>>,
    members: Arc<Mutex<BTreeMap<String, Member>>>,
    /// Made with the coordinator; `None` where our plugin is not installed.
    sockets: Mutex<Option<Sockets>>,
    /// One checkpoint at a time.
    operation: tokio::sync::Mutex<()>,
    /// A pod that is about to move.
    suspended: Mutex<Option<migration::Suspended>>,
}

/// A container under DMTCP.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    /// Its first process; 0 until it exists.
    pid: i32,
    /// What its program is known by.
    digest: String,
}

impl Dmtcp {
    /// An engine whose commands `runner` runs, with the DMTCP in `prefix`; as [`find_prefix`] finds
    /// it. Looks at nothing yet.
    pub fn new(runner: Arc<dyn Runner>, prefix: Option<PathBuf>) -> Self {
        Self {
            runner,
            prefix,
            installed: OnceCell::new(),
            coordinator: tokio::sync::Mutex::new(None),
            members: Arc::default(),
            sockets: Mutex::default(),
            operation: tokio::sync::Mutex::new(()),
            suspended: Mutex::default(),
        }
    }

    async fn installed(&self) -> Result<&Installation, EngineError> {
        self.installed
            .get_or_try_init(|| Installation::find(&*self.runner, self.prefix.as_deref()))
            .await
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<String, Member>> {
        lock(&self.members)
    }

    fn sockets(&self) -> Option<Sockets> {
        lock(&self.sockets).clone()
    }

    /// Whether the program of a spec can be carried.
    async fn fit(&self, target: &Target, spec: &Value) -> Result<Fit, EngineError> {
        let installed = self.installed().await?;
        fit::fit(spec, &root(target, spec), installed).map_err(|reason| EngineError::Unfit {
            container: target.name.clone(),
            reason,
        })
    }

    /// The pod's coordinator, started for the network namespace of `pid` if there is none.
    async fn coordinator(
        &self,
        target: &Target,
        pid: i32,
    ) -> Result<Arc<Coordinator>, EngineError> {
        let mut slot = self.coordinator.lock().await;
        if let Some(running) = slot.as_ref().filter(|coordinator| coordinator.alive()) {
            return Ok(running.clone());
        }
        let installed = self.installed().await?;
        let log = Folder::of(&target.bundle).path().join("coordinator.log");
        let namespace = proc(pid, "ns/net");
        let bound = Bound::new(&namespace)?;
        // In a pod that comes from elsewhere nothing gets through otherwise, nor may it.
        let port = bound.port();
        blocking(move || Ok(open_lock(&namespace, port)?)).await?;
        let started = Coordinator::start(
            &*self.runner,
            &installed.prefix,
            &installed.version,
            bound,
            &log,
        )
        .await
        .inspect_err(|error| {
            tracing::warn!(%error, said = coordinator::last_words(&log), "no coordinator");
        })?;
        tracing::info!(
            container = %target.name, pid = started.pid(), port = started.port(),
            version = installed.version, "DMTCP's coordinator runs"
        );
        supervise(&started, log);
        let started = Arc::new(started);
        if installed.plugin.is_some() {
            let sockets = Sockets::new(pid, started.port(), self.members.clone())?;
            *lock(&self.sockets) = Some(sockets);
        }
        *slot = Some(started.clone());
        Ok(started)
    }

    /// The coordinator that runs.
    async fn running_coordinator(&self) -> Result<Arc<Coordinator>, EngineError> {
        self.coordinator
            .lock()
            .await
            .clone()
            .filter(|coordinator| coordinator.alive())
            .ok_or_else(|| EngineError::Coordinator {
                source: std::io::Error::other("none runs for this pod"),
            })
    }
}

/// The code of one container, `DMTCP_FAIL_RC`.
fn failure_code(id: &str) -> u32 {
    let digest = blake3::hash(id.as_bytes());
    FAILURES.start + u32::from(digest.as_bytes()[0]) % FAILURES.len() as u32
}

/// Says in the log when a coordinator ends. Its processes end by that as well, with
/// [`failure_code`]; kubelet restarts their containers as the pod's policy says.
fn supervise(coordinator: &Coordinator, log: PathBuf) {
    let (pid, mut exit) = (coordinator.pid(), coordinator.exit());
    tokio::spawn(async move {
        if let Ok(code) = exit.wait_for(Option::is_some).await {
            let said = coordinator::last_words(&log);
            tracing::info!(pid, code = *code, said, "DMTCP's coordinator has ended");
        }
    });
}

/// Lets the coordinator through the lock of a pod's network, if it is locked.
fn open_lock(namespace: &Path, port: u16) -> mycedrive_connection::Result<()> {
    let net = PodNet::open(namespace)?.with_loopback_port(port);
    if net.locked()? {
        net.lock_destination()?;
    }
    Ok(())
}

/// The root file system of a container that is mounted.
fn root(target: &Target, spec: &Value) -> PathBuf {
    let path = spec
        .pointer("/root/path")
        .and_then(Value::as_str)
        .unwrap_or("rootfs");
    target.bundle.join(path)
}

impl Dmtcp {
    /// Names of the pod's other containers that have processes under this coordinator.
    fn others(&self, target: &Target) -> Vec<String> {
        self.members()
            .iter()
            .filter(|(id, member)| **id != target.id && member.pid != 0 && !gone(member.pid))
            .map(|(_, member)| member.name.clone())
            .collect()
    }
}

#[async_trait]
impl Engine for Dmtcp {
    fn kind(&self) -> EngineKind {
        EngineKind::Dmtcp
    }

    async fn capabilities(&self) -> Result<Capabilities, EngineError> {
        Ok(Capabilities {
            kind: EngineKind::Dmtcp,
            version: self.installed().await?.version.clone(),
        })
    }

    async fn prepare(&self, target: &Target, spec: &mut Value) -> Result<(), EngineError> {
        let fit = self.fit(target, spec).await?;
        let folder = Folder::of(&target.bundle);
        let installed = self.installed().await?;
        let task = prepare::Task::Launch;
        prepare::prepare(spec, &target.name, &folder, installed, &fit, &task)?;
        self.members().insert(
            target.id.clone(),
            Member {
                name: target.name.clone(),
                pid: 0,
                digest: fit.digest,
            },
        );
        Ok(())
    }

    async fn created(&self, target: &Target, pid: i32) -> Result<(), EngineError> {
        let coordinator = self.coordinator(target, pid).await?;
        let file = Folder::of(&target.bundle).environment();
        let text = format!(
            "DMTCP_COORD_HOST=127.0.0.1\nDMTCP_COORD_PORT={}\nDMTCP_FAIL_RC={}\n",
            coordinator.port(),
            failure_code(&target.id)
        );
        fs::write(&file, text).map_err(EngineError::io("write", &file))?;
        if let Some(sockets) = self.sockets() {
            sockets.listen(&Folder::of(&target.bundle))?;
        }
        if let Some(member) = self.members().get_mut(&target.id) {
            member.pid = pid;
        }
        Ok(())
    }

    async fn started(&self, _target: &Target, pid: i32) -> Result<Start, EngineError> {
        let begin = Instant::now();
        let mut outside = None;
        loop {
            if gone(pid) {
                return Ok(Start::Ended);
            }
            let census = Census::of(pid)?;
            for carried in &census.carried {
                processes::no_delay(*carried);
            }
            if !census.carried.is_empty() {
                return Ok(Start::Carried);
            }
            // What is still on its way is slow, on a node with too much to do, and no more.
            let late = begin.elapsed() > START;
            let since = match census.other.first() {
                Some(_) if late => break,
                Some(_) if census.launchers == 0 => *outside.get_or_insert_with(Instant::now),
                _ => Instant::now(),
            };
            if since.elapsed() > NOT_CARRIED {
                break;
            }
            tokio::time::sleep(if late { NOT_CARRIED } else { POLL }).await;
        }
        Ok(Start::NotCarried(
            "its program runs, but not under DMTCP (a static or Go program behind a script?)"
                .to_owned(),
        ))
    }

    fn ended(&self, target: &Target) {
        self.ended_paused(target);
        if let Some(sockets) = self.sockets() {
            sockets.close(&Folder::of(&target.bundle));
        }
        let mut members = self.members();
        members.remove(&target.id);
        if members.is_empty()
            && let Ok(mut coordinator) = self.coordinator.try_lock()
        {
            *coordinator = None;
            *lock(&self.sockets) = None;
        }
    }

    fn failure_code(&self, target: &Target) -> Option<u32> {
        // When the coordinator ends, all of its programs do: that says nothing about them.
        let alive = self
            .coordinator
            .try_lock()
            .is_ok_and(|slot| slot.as_ref().is_some_and(|coordinator| coordinator.alive()));
        alive.then(|| failure_code(&target.id))
    }

    fn failed(&self, target: &Target, reason: &str) {
        if let Some(member) = self.members().get(&target.id) {
            fatal::remember(&member.digest, reason);
        }
    }

    fn obstacles(&self, target: &Target, pid: i32) -> Result<Vec<String>, EngineError> {
        let name = &target.name;
        let census = Census::of(pid)?;
        let mut found = Vec::new();
        if census.carried.is_empty() {
            found.push(format!("container {name} has no process under DMTCP"));
        }
        for other in census.other {
            found.push(format!(
                "container {name}: process {other} ({}) is not under DMTCP: it is static, or was \
                 started past the C library",
                processes::name(other)
            ));
        }
        let status = proc(pid, "status");
        let init = Status::read(pid).map_err(EngineError::io("read", &status))?;
        for carried in census.carried {
            if let Some(problem) = processes::obstacle(carried, &init) {
                found.push(format!("container {name}: {problem}"));
            }
        }
        Ok(found)
    }

    fn has_room(&self, containers: &[(Target, i32)], directory: &Path) -> Result<(), EngineError> {
        // What is to be made will be in the same file system.
        let made = directory.ancestors().find(|path| path.exists());
        let containers = containers.iter().map(|(target, pid)| (target, *pid));
        room::check(containers, made.unwrap_or(directory))
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), EngineError> {
        self.take(checkpoint).await
    }

    async fn restore(&self, restore: Restore) -> Result<Restored, EngineError> {
        self.make(restore).await
    }

    /// Lets all containers of the pod go with the first one.
    fn run(&self, _restored: &Restored) -> Result<(), EngineError> {
        match self.sockets() {
            Some(sockets) => sockets.release(),
            None => Ok(()),
        }
    }

    fn suspends(&self) -> bool {
        true
    }

    fn loopback_port(&self) -> Option<u16> {
        self.sockets().map(|sockets| sockets.port())
    }

    async fn suspend(
        &self,
        containers: Vec<(Target, i32)>,
        connections: Connections,
        lock: Lock,
    ) -> Result<(), EngineError> {
        self.stop(containers, connections, Some(lock)).await
    }

    async fn resume(&self) -> Result<(), EngineError> {
        self.go_on().await
    }

    async fn before_pause(&self, target: &Target, pid: i32) -> Result<(), EngineError> {
        Dmtcp::before_pause(self, target, pid).await
    }

    async fn after_pause(&self, target: &Target) -> Result<(), EngineError> {
        Dmtcp::after_pause(self, target).await
    }

    async fn stranded(&self) -> Option<String> {
        self.cannot_go_on().await
    }

    fn vanish(&self) {
        if let Some(sockets) = self.sockets() {
            sockets.vanish();
        }
        *lock(&self.suspended) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the container's first process has ended.
fn gone(pid: i32) -> bool {
    Status::read(pid).map_or(true, |status| status.state == 'Z')
}

/// Whether the processes of a container stand still by their control group.
fn frozen(freezer: &Freezer) -> bool {
    freezer.is_frozen().unwrap_or(false)
}

/// Makes a directory for root alone.
fn private(directory: &Path) -> Result<(), EngineError> {
    crate::criu::runtime::private_directory(directory)
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            let error = std::io::Error::other(error);
            Err(EngineError::io("finish work on", Path::new("an image"))(
                error,
            ))
        })
}

/// The spec of a bundle.
fn bundle_spec(target: &Target) -> Result<Value, EngineError> {
    spec::read(&target.bundle)
}
