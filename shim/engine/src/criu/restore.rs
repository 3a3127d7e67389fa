//! Making processes from an image, and letting them go.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::config::{self, Config};
use super::early::{Early, Gate};
use super::plugins::{self, Plugins};
use super::{descriptors, log, network, runtime, stopped, tar};
use crate::freezer::{self, Freezer};
use crate::limits::{Limits, mounts};
use crate::process::Status;
use crate::{EngineError, Purpose, Release, Restore, RestoreIo, Restored, Runner, spec};

/// Starts a restore of an image that is not whole. Restores of containers that share sockets, and
/// such with a terminal, do not begin early.
pub(super) fn begin(
    runner: &dyn Runner,
    restore: &Restore,
    streams: &[String],
) -> Result<Option<Early>, EngineError> {
    let RestoreIo::Streams {
        stdin,
        stdout,
        stderr,
    } = &restore.io
    else {
        return Ok(None);
    };
    if restore.ends.is_some() || restore.ipc_is_there || !descriptors::fits(streams) {
        return Ok(None);
    }
    let failed = EngineError::io("begin to restore from", &restore.image_dir);
    let copy = |stream: &Option<OwnedFd>| stream.as_ref().map(OwnedFd::try_clone).transpose();
    let begun = || {
        let io = RestoreIo::Streams {
            stdin: copy(stdin)?,
            stdout: copy(stdout)?,
            stderr: copy(stderr)?,
        };
        Ok((io, Gate::of(&restore.image_dir)?))
    };
    let (io, gate) = begun().map_err(failed)?;
    let (_, runtime_log) = runtime::logs(&restore.work_dir, LOG)?;
    let spec = spec::read(&restore.target.bundle)?;
    configure(restore, &spec, &Plugins::none())?;
    let mut command = command(restore, gate.path(), &runtime_log);
    set(&mut command, io);
    network::enter(&mut command, network::of_pod(&spec, restore.purpose)?);
    let whose = (&restore.target, restore.work_dir.as_path());
    Early::start(runner, command, gate, whose, streams)
        .map(Some)
        .map_err(EngineError::io("start", &restore.target.runtime.binary))
}

/// Restores a container, with what [`begin`] started, if anything. After an error nothing of it is
/// left but the logs.
pub(super) async fn restore(
    runner: &dyn Runner,
    restore: Restore,
    early: Option<Early>,
) -> Result<Restored, EngineError> {
    let spec = spec::read(&restore.target.bundle);
    let read = spec.and_then(|spec| Ok((read_image(&restore, &spec)?, spec)));
    let (were_stopped, spec) = match read {
        Ok(read) => read,
        Err(error) => {
            if let Some(early) = early {
                early.give_up(runner).await;
            }
            return Err(error);
        }
    };
    let (criu_log, runtime_log) = runtime::log_paths(&restore.work_dir, LOG);
    let ran = match early {
        Some(early) => early.go(runner, &restore.image_dir).await,
        None => None,
    };
    let Restore {
        target,
        work_dir,
        pid_file,
        release,
        ..
    } = &restore;
    let (target, work_dir, pid_file, release) =
        (target.clone(), work_dir.clone(), pid_file.clone(), *release);
    let ran = match ran {
        Some(ran) => ran,
        None => run_runtime(runner, restore, &spec).await?,
    };
    let failed = |cause| EngineError::Restore {
        container: target.name.clone(),
        cause,
        log: criu_log.clone(),
    };
    let result = match ran {
        Ok(0) => read_pid(&pid_file).and_then(|pid| {
            verify(&target.name, pid, &spec)?;
            Ok(Restored { pid, were_stopped })
        }),
        Ok(code) => Err(failed(log::cause(&criu_log, &runtime_log, code))),
        Err(error) => Err(failed(format!(
            "{}: {error}",
            target.runtime.binary.display()
        ))),
    };
    match result {
        Ok(restored) => {
            if release == Release::Running {
                run(&restored)?;
            }
            Ok(restored)
        }
        Err(error) => {
            runtime::forget(runner, &target, &work_dir).await;
            Err(error)
        }
    }
}

/// Looks at an image and makes it fit for its container. Returns which processes were stopped.
fn read_image(restore: &Restore, spec: &Value) -> Result<BTreeSet<i32>, EngineError> {
    let image_dir = &restore.image_dir;
    let were_stopped = stopped::read(image_dir)?;
    descriptors::read(image_dir)?;
    if restore.ends.is_none() {
        super::ends::none(image_dir)?;
    }
    if restore.ipc_is_there {
        super::ipc::empty(image_dir)?;
    } else if let Some(namespace) = ipc_of(restore.purpose, spec) {
        super::ipc::clear(namespace)?;
    }
    Ok(were_stopped)
}

/// A container by itself keeps what it had, whatever its new pod has.
fn ipc_of(purpose: Purpose, spec: &Value) -> Option<&Path> {
    match purpose {
        Purpose::Migration => super::ipc::namespace(spec),
        Purpose::Local { .. } => None,
    }
}

fn configure(restore: &Restore, spec: &Value, plugins: &Plugins) -> Result<(), EngineError> {
    let config = Config::restore(restore.purpose, restore.connections)
        .plugins(plugins.directory())
        .ipc(ipc_of(restore.purpose, spec));
    config::write(&restore.target.bundle, &config)
}

/// Runs the runtime from its start to its end.
async fn run_runtime(
    runner: &dyn Runner,
    restore: Restore,
    spec: &Value,
) -> Result<io::Result<i32>, EngineError> {
    let (_, runtime_log) = runtime::logs(&restore.work_dir, LOG)?;
    let plugins = Plugins::make(runner, &restore.target.bundle, restore.ends.is_some()).await?;
    configure(&restore, spec, &plugins)?;
    let mut command = command(&restore, &restore.image_dir, &runtime_log);
    plugins::fetch_from(&mut command, restore.ends.as_deref());
    network::enter(&mut command, network::of_pod(spec, restore.purpose)?);
    set(&mut command, restore.io);
    Ok(runner.run(command, runtime::LIMIT).await)
}

/// The log's name.
const LOG: &str = "restore.log";

/// The runtime's command line, but for the streams.
fn command(restore: &Restore, image_dir: &Path, log: &Path) -> Command {
    let target = &restore.target;
    let mut command = runtime::command(target, log, "restore");
    tar::offer(&mut command, &target.bundle);
    runtime::shared_flags(&mut command, target, image_dir, &restore.work_dir);
    command.arg("--detach").arg("--bundle").arg(&target.bundle);
    command.arg("--pid-file").arg(&restore.pid_file);
    if target.runtime.no_pivot {
        command.arg("--no-pivot");
    }
    if let RestoreIo::Console(socket) = &restore.io {
        command.arg("--console-socket").arg(socket);
    }
    command.arg(&target.id);
    command
}

fn set(command: &mut Command, io: RestoreIo) {
    if let RestoreIo::Streams {
        stdin,
        stdout,
        stderr,
    } = io
    {
        command
            .stdin(stream(stdin))
            .stdout(stream(stdout))
            .stderr(stream(stderr));
    }
}

/// Lets the processes go, except those that were stopped when the image was taken.
pub(super) fn run(restored: &Restored) -> Result<(), EngineError> {
    for pid in Freezer::of_process(restored.pid)?.processes()? {
        let Ok(status) = Status::read(pid) else {
            continue;
        };
        if status.state != 'Z' && !restored.were_stopped.contains(&status.inner_pid) {
            freezer::signal(pid, Signal::SIGCONT)?;
        }
    }
    Ok(())
}

/// Compares every process, and each mount namespace that one is in, with the spec of this node's
/// pod.
fn verify(container: &str, pid: i32, spec: &Value) -> Result<(), EngineError> {
    let wider = |pid, what| EngineError::Wider {
        container: container.to_owned(),
        pid,
        what,
    };
    if let Some(what) = network::other(spec, pid) {
        return Err(wider(pid, what));
    }
    let limits = Limits::of(spec);
    let mut namespaces = BTreeSet::new();
    for pid in Freezer::of_process(pid)?.processes()? {
        let path = crate::process::proc(pid, "status");
        let status = Status::read(pid).map_err(EngineError::io("read", &path))?;
        if status.state == 'Z' {
            continue;
        }
        limits.check(container, pid, &status)?;
        if let Some(what) = super::lsm::other(spec, &Path::new("/proc").join(pid.to_string())) {
            return Err(wider(pid, what));
        }
        let path = crate::process::proc(pid, "ns/mnt");
        let namespace = fs::metadata(&path).map_err(EngineError::io("look at", &path))?;
        if namespaces.insert(namespace.ino()) {
            verify_mounts(container, pid, spec)?;
        }
    }
    Ok(())
}

fn verify_mounts(container: &str, pid: i32, spec: &Value) -> Result<(), EngineError> {
    let path = crate::process::proc(pid, "mountinfo");
    let text = fs::read_to_string(&path).map_err(EngineError::io("read", &path))?;
    let root = crate::process::proc(pid, "root");
    let exists = |path: &Path| {
        let inside = path.strip_prefix("/").unwrap_or(path);
        root.join(inside).symlink_metadata().is_ok()
    };
    match mounts::wider(spec, &text, exists) {
        None => Ok(()),
        Some(what) => Err(EngineError::Wider {
            container: container.to_owned(),
            pid,
            what,
        }),
    }
}

pub(crate) fn read_pid(path: &std::path::Path) -> Result<i32, EngineError> {
    let text = fs::read_to_string(path).map_err(EngineError::io("read", path))?;
    text.trim()
        .parse()
        .map_err(|error| EngineError::io("read", path)(std::io::Error::other(error)))
}

fn stream(stream: Option<OwnedFd>) -> Stdio {
    stream.map_or_else(Stdio::null, Stdio::from)
}
