//! Engines turn the processes of a container into an image, and an image back into processes.
//!
//! - [`Engine`] is all that the shim knows of an engine; [`engine`] makes one from its
//!   [`EngineKind`]: [`criu`] or [`dmtcp`].
//! - [`freezer`] stops and thaws control groups without a runtime process in between.
//! - [`process`] reads what `/proc` knows of a container's processes; [`limits`] compares that
//!   with what an OCI spec allows.
//! - [`image`]: what a checkpoint directory says of itself, and whether it fits here.
//! - [`runner`]: how commands are run. A shim reaps every child itself, so it brings its own.

pub mod cpu;
pub mod criu;
pub mod dmtcp;
mod error;
pub mod freezer;
pub mod image;
pub mod limits;
mod netns;
mod preflight;
pub mod process;
pub mod runner;
pub mod spec;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use mycedrive_connection::repair::Lock;
use serde_json::Value;

pub use criu::dump_runs;
pub use criu::ends::PodEnds;
pub use criu::ipc::first as ipc_first;
pub use criu::tar_if_called;
pub use error::EngineError;
pub use runner::{Runner, StandardRunner};

/// The engines there are. The choice is made per container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// CRIU, through the OCI runtime's `checkpoint` and `restore`.
    Criu,
    /// DMTCP, below which the program is started.
    Dmtcp,
}

impl EngineKind {
    /// The name used in annotations, messages and manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Criu => "criu",
            Self::Dmtcp => "dmtcp",
        }
    }

    /// The engine that made an image, by the names of its files.
    pub fn of_image(image: &Path) -> Self {
        if dmtcp::is_dmtcp(image) {
            Self::Dmtcp
        } else {
            Self::Criu
        }
    }
}

impl FromStr for EngineKind {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Self, EngineError> {
        match name {
            "criu" => Ok(Self::Criu),
            "dmtcp" => Ok(Self::Dmtcp),
            _ => Err(EngineError::UnknownEngine {
                name: name.to_owned(),
            }),
        }
    }
}

/// The OCI runtime below, and how it was told to work when the container was made.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Program name or path, usually `runc`.
    pub binary: PathBuf,
    /// The runtime's `--root`.
    pub root: PathBuf,
    /// Whether it asks systemd for the control groups.
    pub systemd_cgroup: bool,
    /// Whether it uses `chroot` where `pivot_root` cannot work.
    pub no_pivot: bool,
}

/// One container, as an engine needs to see it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The runtime's id of the container.
    pub id: String,
    /// The name that messages use: Kubernetes' container name, or the id.
    pub name: String,
    /// The OCI bundle, holding `config.json`.
    pub bundle: PathBuf,
    /// The runtime that made it, or shall make it.
    pub runtime: Runtime,
    /// Whether its first process has a terminal.
    pub terminal: bool,
}

/// What an installed engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Which one.
    pub kind: EngineKind,
    /// Its version, as it prints it.
    pub version: String,
}

/// A container of a pod, for what containers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The container's name.
    pub name: String,
    /// Pid of its first process.
    pub pid: i32,
    /// The engine that carries it.
    pub engine: EngineKind,
}

/// Why a checkpoint is taken, which decides what happens around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For a migration: the caller locked the network and froze the container; it stays frozen.
    Migration,
    /// On this node only, as `ctr task checkpoint` asks for it.
    Local {
        /// End the container once the image is complete.
        exit: bool,
    },
}

/// What becomes of established TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// They go on in the restored processes.
    Keep,
    /// The restored processes find them closed.
    Close,
}

/// A checkpoint to take.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What to dump.
    pub target: Target,
    /// Pid of its first process, in the shim's pid namespace.
    pub pid: i32,
    /// Where the image goes. Made when it is not there, mode 0700.
    pub image_dir: PathBuf,
    /// Where the engine's log goes. Made when it is not there, mode 0700.
    pub work_dir: PathBuf,
    /// Why.
    pub purpose: Purpose,
    /// What becomes of its connections.
    pub connections: Connections,
    /// All containers that are dumped together with it, itself among them. None for a checkpoint
    /// of it alone.
    pub pod: Vec<Member>,
}

/// How a restore ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Every process exists and is stopped; none has run an instruction. See [`Engine::run`].
    Stopped,
    /// The processes run.
    Running,
}

/// The standard streams of a restored container.
#[derive(Debug)]
pub enum RestoreIo {
    /// Handed to the runtime, which hands them on; `None` is `/dev/null`.
    Streams {
        /// Standard input.
        stdin: Option<std::os::fd::OwnedFd>,
        /// Standard output.
        stdout: Option<std::os::fd::OwnedFd>,
        /// Standard error.
        stderr: Option<std::os::fd::OwnedFd>,
    },
    /// The unix socket over which the runtime sends the terminal's master end.
    Console(PathBuf),
}

/// A restore to perform.
#[derive(Debug)]
pub struct Restore {
    /// What to make. The bundle's root file system is mounted already.
    pub target: Target,
    /// The image.
    pub image_dir: PathBuf,
    /// Where the engine's log goes. Made when it is not there, mode 0700.
    pub work_dir: PathBuf,
    /// The runtime writes the first process's pid here.
    pub pid_file: PathBuf,
    /// Its standard streams.
    pub io: RestoreIo,
    /// How it ends.
    pub release: Release,
    /// Why the image was made: for a migration the caller holds the network lock.
    pub purpose: Purpose,
    /// What becomes of its connections; as in the checkpoint.
    pub connections: Connections,
    /// Where the ends of its connections to other containers are to be had ([`PodEnds::name`]).
    pub ends: Option<String>,
    /// Whether another container of the pod has brought the System V IPC objects that its image has,
    /// too ([`ipc_first`]).
    pub ipc_is_there: bool,
}

/// What a restore made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Pid of the container's first process, in the shim's pid namespace.
    pub pid: i32,
    /// Processes that were stopped by a signal when the image was taken and stay so, as pids of
    /// the container's own pid namespace.
    pub were_stopped: BTreeSet<i32>,
}

/// Whether an engine carries a program that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It does.
    Carried,
    /// It runs, and the engine does not carry it, for this reason.
    NotCarried(String),
    /// It has ended already.
    Ended,
}

/// All that the shim knows of an engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Which one it is.
    fn kind(&self) -> EngineKind;

    /// What is installed, or why it cannot be used. Cached after the first success.
    async fn capabilities(&self) -> Result<Capabilities, EngineError>;

    /// Adds what the engine needs to the OCI spec of a container that is about to be created.
    /// Refuses a spec in which the pod's author uses what is the engine's alone.
    /// The root file system is mounted.
    async fn prepare(&self, target: &Target, spec: &mut Value) -> Result<(), EngineError>;

    /// The container exists, with `pid` as its first process, and its program has not started.
    async fn created(&self, _target: &Target, _pid: i32) -> Result<(), EngineError> {
        Ok(())
    }

    /// The program was started. Returns when it is known whether the engine carries it.
    async fn started(&self, _target: &Target, _pid: i32) -> Result<Start, EngineError> {
        Ok(Start::Carried)
    }

    /// The container has ended, or was not made.
    fn ended(&self, _target: &Target) {}

    /// The exit code of a program of this container that the engine gave up.
    fn failure_code(&self, _target: &Target) -> Option<u32> {
        None
    }

    /// The container's program has died of the engine, which will not be tried with it again.
    fn failed(&self, _target: &Target, _reason: &str) {}

    /// What stands in the way of a checkpoint now, each entry with what to do. Changes nothing.
    fn obstacles(&self, target: &Target, pid: i32) -> Result<Vec<String>, EngineError>;

    /// As [`Self::obstacles`], of what a container shares with the others of its pod.
    fn shared_obstacles(
        &self,
        _target: &Target,
        _pod: &[Member],
    ) -> Result<Vec<String>, EngineError> {
        Ok(Vec::new())
    }

    /// Refuses when the images of these containers, given by their first processes, would not fit
    /// below `directory`, which need not be there. Changes nothing.
    fn has_room(
        &self,
        _containers: &[(Target, i32)],
        _directory: &Path,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    /// Starts what a checkpoint needs while the processes still run, so that they stand still for a
    /// shorter time. Touches none of them. [`Engine::checkpoint`] into the same directory uses it;
    /// without it, or when it fails, everything is started then.
    async fn begin(&self, _checkpoint: &Checkpoint) -> Result<(), EngineError> {
        Ok(())
    }

    /// Ends what [`Engine::begin`] started for this container.
    fn forget(&self, _target: &Target) {}

    /// Takes a checkpoint.
    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), EngineError>;

    /// Starts what a restore needs while its image is still on its way, if that helps; makes no
    /// process of it. `streams` are what the standard streams led to where the image is made
    /// (`/proc/PID/fd`). [`Engine::restore`] of the same container from the same directory uses it.
    /// Whether something was started.
    async fn begin_restore(
        &self,
        _restore: &Restore,
        _streams: &[String],
    ) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// Ends what [`Engine::begin_restore`] started for this container.
    async fn forget_restore(&self, _target: &Target) {}

    /// Makes processes from an image.
    async fn restore(&self, restore: Restore) -> Result<Restored, EngineError>;

    /// Lets the processes of a restore that ended [`Release::Stopped`] go.
    fn run(&self, restored: &Restored) -> Result<(), EngineError>;

    /// Whether it stops processes itself for a migration ([`Engine::suspend`]). Those of the others
    /// are frozen by their control group.
    fn suspends(&self) -> bool {
        false
    }

    /// A TCP port on the pod's loopback interface through which the engine talks to the
    /// processes; the network lock must let it pass.
    fn loopback_port(&self) -> Option<u16> {
        None
    }

    /// Stops all processes of these containers, given by their first ones, for a migration, and calls
    /// `lock` when no thread of theirs runs any more. After an error they run, and the network may
    /// be locked.
    async fn suspend(
        &self,
        _containers: Vec<(Target, i32)>,
        _connections: Connections,
        _lock: Lock,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    /// Undoes [`Engine::suspend`], whether or not a checkpoint was taken since.
    async fn resume(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// The container, given by its first process, is about to be frozen by its control group. A
    /// checkpoint that is asked for while it is must be of this moment.
    async fn before_pause(&self, _target: &Target, _pid: i32) -> Result<(), EngineError> {
        Ok(())
    }

    /// Undoes [`Engine::before_pause`]: the control group is thawed.
    async fn after_pause(&self, _target: &Target) -> Result<(), EngineError> {
        Ok(())
    }

    /// Why the suspended processes would end if they were let go; `None`: they would go on. Their
    /// image is not affected.
    async fn stranded(&self) -> Option<String> {
        None
    }

    /// The suspended processes will be killed; from now on their end says nothing to anybody.
    fn vanish(&self) {}
}

/// Makes an engine. `runner` runs its commands. `dmtcp` is the prefix in which DMTCP is; `None`: it
/// is looked for.
pub fn engine(
    kind: EngineKind,
    runner: Arc<dyn Runner>,
    dmtcp: Option<PathBuf>,
) -> Arc<dyn Engine> {
    match kind {
        EngineKind::Criu => Arc::new(criu::Criu::new(runner)),
        EngineKind::Dmtcp => Arc::new(dmtcp::Dmtcp::new(runner, dmtcp)),
    }
}
