//! The OCI runtime's command line.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::{EngineError, Runner, Target};

/// Longest checkpoint or restore. Memory of hundreds of gigabytes still fits.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// `RUNTIME --root R --log L ... SUBCOMMAND`, streams on `/dev/null`.
pub(crate) fn command(target: &Target, log: &Path, subcommand: &str) -> Command {
    let runtime = &target.runtime;
    let mut command = Command::new(&runtime.binary);
    command
        .arg("--root")
        .arg(&runtime.root)
        .arg("--log")
        .arg(log)
        .args(["--log-format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if runtime.systemd_cgroup {
        command.arg("--systemd-cgroup");
    }
    command.arg(subcommand);
    command
}

/// Flags that a checkpoint and the restore of its image share.
pub(crate) fn shared_flags(command: &mut Command, target: &Target, image: &Path, work: &Path) {
    command
        .arg("--image-path")
        .arg(image)
        .arg("--work-path")
        .arg(work)
        .args(["--ext-unix-sk", "--file-locks"])
        // The runtime puts the processes into the groups that this pod's spec asks for.
        .args(["--manage-cgroups-mode", "ignore"]);
    if target.terminal {
        command.arg("--shell-job");
    }
}

/// Makes the directory for logs, with no log of an earlier attempt in it (the runtime appends to
/// its own). Returns the paths of the engine's log, called `name`, and of the runtime's.
pub(crate) fn logs(work: &Path, name: &str) -> Result<(PathBuf, PathBuf), EngineError> {
    private_directory(work)?;
    let logs = log_paths(work, name);
    for log in [&logs.0, &logs.1] {
        match fs::remove_file(log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(EngineError::io("remove", log)(error));
            }
            _ => {}
        }
    }
    Ok(logs)
}

/// The log of a dump.
pub(super) const DUMP_LOG: &str = "dump.log";

/// Paths of the engine's log, called `name`, and of the runtime's.
pub(super) fn log_paths(work: &Path, name: &str) -> (PathBuf, PathBuf) {
    (work.join(name), work.join("runtime.log"))
}

/// Makes a directory that only root can enter, and those above it.
pub(crate) fn private_directory(path: &Path) -> Result<(), EngineError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(EngineError::io("create", path))
}

/// Where runc mounts a container's root file system for CRIU, below its own folder of the container.
const CRIU_ROOT: &str = "criu-root";

/// Removes what the runtime knows of a container whose restore failed. A runtime that was killed has
/// left a mount there: without it the folder can be removed, and nothing is removed through it.
pub(crate) async fn forget(runner: &dyn Runner, target: &Target, work: &Path) {
    let mount = target.runtime.root.join(&target.id).join(CRIU_ROOT);
    match umount2(&mount, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => tracing::info!(mount = %mount.display(), "the runtime had left a mount"),
        Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => tracing::warn!(mount = %mount.display(), %error, "a mount stays"),
    }
    let mut command = command(target, &work.join("delete.log"), "delete");
    command.arg("--force").arg(&target.id);
    if let Err(error) = runner.run(command, LIMIT).await {
        tracing::warn!(container = %target.id, %error, "the failed restore was not cleaned up");
    }
}
