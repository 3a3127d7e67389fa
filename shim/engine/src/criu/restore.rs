//! Making processes from an image, and letting them go.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::config::{self, Config};
use super::plugins::{self, Plugins};
use super::{descriptors, log, network, runtime, stopped};
use crate::freezer::{self, Freezer};
use crate::limits::{Limits, mounts};
use crate::process::Status;
use crate::{EngineError, Purpose, Release, Restore, RestoreIo, Restored, Runner, spec};

/// Restores a container. After an error nothing of it is left but the logs.
pub(super) async fn restore(
    runner: &dyn Runner,
    restore: Restore,
) -> Result<Restored, EngineError> {
    let Restore {
        target,
        image_dir,
        work_dir,
        pid_file,
        io,
        release,
        purpose,
        connections,
        ends,
        ipc_is_there,
    } = restore;
    let (criu_log, runtime_log) = runtime::logs(&work_dir, "restore.log")?;
    let were_stopped = stopped::read(&image_dir)?;
    descriptors::check(&image_dir)?;
    if ends.is_none() {
        super::ends::none(&image_dir)?;
    }
    let plugins = Plugins::make(runner, &target.bundle, ends.is_some()).await?;
    let spec = spec::read(&target.bundle)?;
    // A container by itself keeps what it had, whatever its new pod has.
    let ipc = match purpose {
        Purpose::Migration => super::ipc::namespace(&spec),
        Purpose::Local { .. } => None,
    };
    if ipc_is_there {
        super::ipc::empty(&image_dir)?;
    } else if let Some(namespace) = ipc {
        super::ipc::clear(namespace)?;
    }
    let config = Config::restore(purpose, connections)
        .plugins(plugins.directory())
        .ipc(ipc);
    config::write(&target.bundle, &config)?;

    let mut command = runtime::command(&target, &runtime_log, "restore");
    runtime::shared_flags(&mut command, &target, &image_dir, &work_dir);
    plugins::fetch_from(&mut command, ends.as_deref());
    command.arg("--detach").arg("--bundle").arg(&target.bundle);
    command.arg("--pid-file").arg(&pid_file);
    if target.runtime.no_pivot {
        command.arg("--no-pivot");
    }
    match io {
        RestoreIo::Console(socket) => {
            command.arg("--console-socket").arg(socket);
        }
        RestoreIo::Streams {
            stdin,
            stdout,
            stderr,
        } => {
            command
                .stdin(stream(stdin))
                .stdout(stream(stdout))
                .stderr(stream(stderr));
        }
    }
    command.arg(&target.id);
    network::enter(&mut command, network::of_pod(&spec, purpose)?);

    let failed = |cause| EngineError::Restore {
        container: target.name.clone(),
        cause,
        log: criu_log.clone(),
    };
    let result = match runner.run(command, runtime::LIMIT).await {
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
