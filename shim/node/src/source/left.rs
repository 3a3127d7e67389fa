//! Frozen processes whose shim died: dumped from here, or ended.
//!
//! A shim notes down what it froze (see the shim's `migration/left.rs`); should it die, its
//! `delete` leaves that alone. The processes never run on this node again, since nobody would
//! look after them, but they are still the pod: see [`super::park`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mycedrive_engine::freezer::{self, Freezer};
use mycedrive_engine::runner::{Runner, StandardRunner};
use mycedrive_engine::{
    Checkpoint, Connections, EngineKind, Member, Purpose, Runtime, Target, dump_runs,
};
use mycedrive_proto::shim::{Left, LeftContainer};
use mycedrive_volume::attach::Attachments;
use protobuf::Message as _;
use tokio::time::sleep;

use crate::app::Shared;
use crate::error::{Error, Result};
use crate::files;

/// Between two looks at something that ends by itself.
const GLANCE: Duration = Duration::from_millis(20);
/// How long killed processes may take to be gone.
const KILL_TIME: Duration = Duration::from_secs(10);

fn path(app: &Shared, sandbox: &str) -> PathBuf {
    app.shims.dir().join(format!("{sandbox}.frozen"))
}

/// What the dead shim of a sandbox left; `None` when the shim lives, or left nothing frozen.
pub fn of(app: &Shared, sandbox: &str) -> Option<Left> {
    let bytes = fs::read(path(app, sandbox)).ok()?;
    if app.shims.alive(sandbox) {
        return None;
    }
    match Left::parse_from_bytes(&bytes) {
        Ok(left) => Some(left),
        Err(error) => {
            tracing::error!(sandbox, %error, "the note of a frozen pod is unreadable");
            None
        }
    }
}

/// Whether a pod of that name was left frozen by its shim, and is not parked yet.
pub fn is_left(app: &Shared, namespace: &str, name: &str) -> bool {
    all(app)
        .iter()
        .any(|left| left.pod.pod_namespace == namespace && left.pod.pod_name == name)
}

/// All that dead shims left.
pub fn all(app: &Shared) -> Vec<Left> {
    let Ok(entries) = fs::read_dir(app.shims.dir()) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            of(app, name.to_str()?.strip_suffix(".frozen")?)
        })
        .collect()
}

/// Writes the images of all containers below `folder`. The processes stay frozen.
pub async fn dump(app: &Shared, left: &Left, folder: &Path) -> Result<()> {
    let mut pod = Vec::new();
    for container in &left.containers {
        pod.push(Member {
            name: container.name.clone(),
            pid: container.pid,
            engine: container.engine.parse().map_err(failed)?,
        });
    }
    for container in &left.containers {
        until_no_dump(container).await;
        // A dump that was cut short may have left the group thawed.
        if let Some(freezer) = Freezer::in_directory(Path::new(&container.cgroup)) {
            freezer::freeze_all(std::slice::from_ref(&freezer)).map_err(failed)?;
        }
        let image = folder.join(&container.name);
        match fs::remove_dir_all(&image) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("cannot remove", &image)(error));
            }
            _ => {}
        }
        let kind: EngineKind = container.engine.parse().map_err(failed)?;
        let bundle = PathBuf::from(&container.bundle);
        // containerd has removed it; the engine's configuration goes there.
        files::make_private_dir(&bundle)?;
        let log = app.migrations.log_dir(&left.migration_id);
        let checkpoint = Checkpoint {
            target: target(container),
            pid: container.pid,
            image_dir: image,
            work_dir: log.join(format!("{}-left", container.name)),
            purpose: Purpose::Migration,
            connections: if left.keep_connections {
                Connections::Keep
            } else {
                Connections::Close
            },
            pod: pod.clone(),
        };
        mycedrive_engine::engine(kind, Arc::new(StandardRunner), None)
            .checkpoint(checkpoint)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Ends the frozen processes; they run no other instruction. Then nothing is left.
pub async fn end(app: &Shared, left: &Left) -> Result<()> {
    for container in left.containers.iter().chain(left.sandbox.as_ref()) {
        until_no_dump(container).await;
        if let Some(freezer) = Freezer::in_directory(Path::new(&container.cgroup)) {
            freezer.kill_all().map_err(failed)?;
            freezer::thaw_all(std::slice::from_ref(&freezer)).map_err(failed)?;
            let until = Instant::now() + KILL_TIME;
            while freezer.processes().is_ok_and(|all| !all.is_empty()) && Instant::now() < until {
                sleep(GLANCE).await;
            }
        }
        forget(container).await;
    }
    let sandbox = &left.pod.sandbox_id;
    let user = sandbox.clone();
    let folded = tokio::task::spawn_blocking(move || Attachments::of_node().detach_pod(&user));
    match folded.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(sandbox, %error, "volumes stay stacks"),
        Err(error) => tracing::warn!(sandbox, %error, "volumes stay stacks"),
    }
    match fs::remove_file(path(app, sandbox)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove", path(app, sandbox))(error))
        }
        _ => Ok(()),
    }
}

/// Removes a container whose processes have ended from the runtime. That it is gone is fine.
async fn forget(container: &LeftContainer) {
    let mut command = std::process::Command::new(&container.runtime);
    command.arg("--root").arg(&container.runtime_root);
    if container.systemd_cgroup {
        command.arg("--systemd-cgroup");
    }
    command
        .args(["delete", "--force", &container.id])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    if let Err(error) = StandardRunner.run(command, KILL_TIME).await {
        tracing::warn!(container = %container.id, %error, "the runtime still knows a container");
    }
    // Made anew for the dump; containerd removed the rest.
    let bundle = Path::new(&container.bundle);
    if !bundle.join("config.json").exists() {
        let _ = fs::remove_dir_all(bundle);
    }
}

fn target(container: &LeftContainer) -> Target {
    Target {
        id: container.id.clone(),
        name: container.name.clone(),
        bundle: PathBuf::from(&container.bundle),
        runtime: Runtime {
            binary: PathBuf::from(&container.runtime),
            root: PathBuf::from(&container.runtime_root),
            systemd_cgroup: container.systemd_cgroup,
            no_pivot: container.no_pivot,
        },
        terminal: container.terminal,
    }
}

/// Waits for a dump that the dead shim had begun: its `runc checkpoint` goes on without it.
async fn until_no_dump(container: &LeftContainer) {
    while dump_runs(&container.id) {
        sleep(GLANCE).await;
    }
}

#[allow(clippy::needless_pass_by_value)]
fn failed(error: mycedrive_engine::EngineError) -> Error {
    Error::Failed(error.to_string())
}
