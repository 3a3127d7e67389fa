//! Makes an archive of a pod that runs here.
//!
//! Volumes and root layers are written once while the pod runs; then it is frozen, what changed
//! since is written behind, and its memory. Then it goes on, or with `hold` stays where it is:
//! reported as running, without processes, until it is deleted.

mod describe;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mycedrive_proto::migration::CopyRequest;
use mycedrive_proto::shim::{Container, ContainerState, DescribeReply, Role};
use mycedrive_transfer::{FrameWriter, Known, Options, send_images};

use super::Header;
use super::sealed::{Protection, Sink};
use crate::app::Shared;
use crate::error::{Error, Result};
use crate::files;
use crate::shims::{Resumed, Shim, app_containers};
use crate::source::Trees;
use crate::units::show_bytes;

/// Beginning of the ids under which a shim is asked to freeze for an archive.
const ID: &str = "checkpoint-";
/// How often a shim that does not answer is asked again to let a pod go on.
const AGAIN: Duration = Duration::from_millis(500);

/// Writes the archive of the pod `NAMESPACE/NAME`, or of a task that `ctr` made, to a new file.
/// Whatever fails, the pod goes on and there is no file.
pub async fn checkpoint(
    app: &Shared,
    target: &str,
    output: &Path,
    hold: bool,
    protection: Protection,
) -> Result<String> {
    protection
        .check()
        .map_err(|problem| Error::Refused(problem.to_string()))?;
    if !output.is_absolute() || output.symlink_metadata().is_ok() {
        return Err(Error::Refused(format!(
            "{}: an archive needs an absolute path at which nothing is yet",
            output.display()
        )));
    }
    let (shim, pod) = find(app, target).await?;
    let mut obstacles = shim.preflight(true).await?;
    for container in app_containers(&pod).into_values() {
        // A task is no pod and cannot move, which does not matter here.
        if !pod.pod_name.is_empty() {
            obstacles.extend(container.not_migratable.clone());
        }
        let runs = state(container) == ContainerState::CONTAINER_STATE_RUNNING;
        if runs && !["criu", "dmtcp"].contains(&container.engine.as_str()) {
            obstacles.push(format!(
                "container {}: its engine is {}, an archive needs criu or dmtcp ({})",
                container.name, container.engine, container.engine_why
            ));
        }
    }
    if !obstacles.is_empty() {
        let text = format!(
            "{target} cannot be checkpointed now: {}",
            obstacles.join("; ")
        );
        return Err(Error::Refused(text));
    }
    let id = format!("{ID}{}", uuid::Uuid::new_v4());
    let images = app.config.images_of(&id);
    let partial = partial(output);
    let task = Task {
        app,
        shim,
        pod,
        id,
        images: images.clone(),
        partial: partial.clone(),
        protection,
    };
    let made = task.run(hold, output).await;
    let _ = fs::remove_dir_all(&images);
    if made.is_err() {
        let _ = fs::remove_file(&partial);
    }
    let Made {
        bytes,
        milliseconds,
        stranded,
    } = made?;
    let then = match stranded {
        Some(why) => format!("held in the file alone, as it cannot go on here ({why}): delete it"),
        None if hold => "held: delete it where it shall not run any more".to_owned(),
        None => "going on".to_owned(),
    };
    Ok(format!(
        "{}: {}, frozen for {milliseconds} ms; {target} is {then}",
        output.display(),
        show_bytes(bytes)
    ))
}

/// At start: a pod that a daemon before had frozen for an archive goes on. The archive was not
/// complete, or it would be held.
pub async fn recover(app: &Shared) {
    for (shim, pod) in app.shims.list().await {
        let frozen = pod.containers.iter().any(|container| {
            container.state.enum_value_or_default() == ContainerState::CONTAINER_STATE_FROZEN
        });
        if frozen
            && pod.migration_id.starts_with(ID)
            && pod.role.enum_value_or_default() == Role::ROLE_SOURCE
        {
            tracing::warn!(migration = %pod.migration_id, "a checkpoint was cut off; the pod goes on");
            if let Some(why) = resume(app, &shim, &pod.migration_id).await {
                tracing::error!(why, "a pod cannot go on; delete it");
            }
        }
    }
}

/// What came of it.
struct Made {
    /// Size of the file.
    bytes: u64,
    /// For how long the pod stood still.
    milliseconds: u128,
    /// Why the pod could not go on after its images were written.
    stranded: Option<String>,
}

struct Task<'a> {
    app: &'a Shared,
    shim: Shim,
    pod: DescribeReply,
    id: String,
    images: PathBuf,
    partial: PathBuf,
    protection: Protection,
}

impl Task<'_> {
    async fn run(&self, hold: bool, output: &Path) -> Result<Made> {
        let containers = app_containers(&self.pod);
        let running: Vec<&Container> = containers
            .values()
            .copied()
            .filter(|one| state(one) == ContainerState::CONTAINER_STATE_RUNNING)
            .collect();
        if running.is_empty() {
            return Err(Error::Refused("no container of it runs".to_owned()));
        }
        let mut trees = Trees::of(&running);
        let (trees, tree_bytes) = blocking(move || {
            let bytes = trees.measure();
            Ok((trees, bytes))
        })
        .await?;
        let header = self.header(&containers, &trees, tree_bytes).await?;
        self.room(&header)?;
        files::make_private_dir(&self.app.config.image_dir)?;

        let partial = self.partial.clone();
        let protection = self.protection.clone();
        let (mut trees, mut out) =
            blocking(move || begin(&partial, &protection, &header, trees)).await?;

        let limit = self.app.config.migration.step_timeout;
        let since = std::time::Instant::now();
        if let Err(error) = self.shim.freeze(&self.id, false, &self.images, limit).await {
            // It may be frozen nevertheless, if the answer was late.
            return Err(self.undo(error).await);
        }
        let pids: BTreeMap<String, i32> = running
            .iter()
            .map(|one| (one.name.clone(), one.pid))
            .collect();
        let done = Arc::new(AtomicBool::new(false));
        let dumping = async {
            let dumped = self.shim.dump(&self.id, &self.images, limit).await;
            done.store(true, Ordering::Release);
            dumped
        };
        let (folder, ended) = (self.images.clone(), done.clone());
        let writing = blocking(move || {
            trees.last(&mut out, &pids)?;
            files::make_private_dir(&folder)?;
            let done = || ended.load(Ordering::Acquire);
            send_images(&mut out, &folder, &Known::default(), done).map_err(failed)?;
            Ok(out)
        });
        let (dumped, written) = tokio::join!(dumping, writing);
        let frozen = dumped.and(written);
        if hold {
            let kept = match frozen {
                Ok(out) => self.keep(out, output).await,
                Err(error) => Err(error),
            };
            let bytes = match kept {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.undo(error).await),
            };
            return self.hold(output, bytes, since, None).await;
        }
        let stranded = resume(self.app, &self.shim, &self.id).await;
        let milliseconds = since.elapsed().as_millis();
        let kept = match frozen {
            Ok(out) => self.keep(out, output).await,
            Err(error) => Err(error),
        };
        match (kept, stranded) {
            (Ok(bytes), None) => Ok(Made {
                bytes,
                milliseconds,
                stranded: None,
            }),
            (Ok(bytes), why) => self.hold(output, bytes, since, why).await,
            (Err(error), None) => Err(error),
            (Err(error), Some(why)) => Err(self.lost(error, &why).await),
        }
    }

    /// The archive is durable: from here on the pod is in the file.
    async fn hold(
        &self,
        output: &Path,
        bytes: u64,
        since: std::time::Instant,
        stranded: Option<String>,
    ) -> Result<Made> {
        let place = output.display().to_string();
        let limit = self.app.config.migration.step_timeout;
        self.shim.discard(&self.id, &place, limit).await?;
        Ok(Made {
            bytes,
            milliseconds: since.elapsed().as_millis(),
            stranded,
        })
    }

    /// There is no archive: the pod goes on.
    async fn undo(&self, error: Error) -> Error {
        match resume(self.app, &self.shim, &self.id).await {
            None => error,
            Some(why) => self.lost(error, &why).await,
        }
    }

    /// Neither pod nor archive: its engine has ended, and the file could not be written.
    async fn lost(&self, error: Error, why: &str) -> Error {
        let limit = self.app.config.migration.step_timeout;
        if let Err(error) = self.shim.discard(&self.id, "", limit).await {
            tracing::warn!(%error, "a pod that cannot go on is still there");
        }
        let text = format!("{error}; and the pod cannot go on ({why}): delete it");
        Error::Failed(text)
    }

    /// Ends the stream and gives the file its name, durably.
    async fn keep(&self, out: FrameWriter<Sink>, output: &Path) -> Result<u64> {
        let (partial, output) = (self.partial.clone(), output.to_owned());
        blocking(move || {
            let (sink, _) = out.finish().map_err(failed)?;
            let io = |what| Error::io(what, &output);
            let file = sink.finish().map_err(io("cannot end"))?;
            file.sync_all().map_err(io("cannot sync"))?;
            let bytes = file.metadata().map_err(io("cannot look at"))?.len();
            fs::hard_link(&partial, &output).map_err(io("cannot make"))?;
            fs::remove_file(&partial).map_err(io("cannot finish"))?;
            let folder = output.parent().unwrap_or(Path::new("/"));
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(Error::io("cannot sync", folder))?;
            Ok(bytes)
        })
        .await
    }
}

/// The header, and everything but memory while the pod runs.
fn begin(
    partial: &Path,
    protection: &Protection,
    header: &Header,
    mut trees: Trees,
) -> Result<(Trees, FrameWriter<Sink>)> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial)
        .map_err(Error::io("cannot make", partial))?;
    let of_archive = |problem| Error::Archive {
        path: partial.to_owned(),
        problem,
    };
    let head = header.encode().map_err(of_archive)?;
    let mut sink = Sink::new(file, protection).map_err(of_archive)?;
    sink.write_all(&head)
        .map_err(Error::io("cannot write", partial))?;
    let mut out = FrameWriter::new(sink, &Options::default()).map_err(failed)?;
    let all = trees.ids();
    let everything = CopyRequest {
        trees: all.clone(),
        anew: all,
        ..CopyRequest::default()
    };
    trees.live(&mut out, &everything)?;
    Ok((trees, out))
}

/// The shim of a pod, or of a task that `ctr` made.
async fn find(app: &Shared, target: &str) -> Result<(Shim, DescribeReply)> {
    if let Some((namespace, name)) = target.split_once('/') {
        return app.shims.find(namespace, name, &app.config.node_name).await;
    }
    for (shim, pod) in app.shims.list().await {
        if pod.pod_name.is_empty() && pod.sandbox_id == target {
            return Ok((shim, pod));
        }
        if let Some(container) = pod.containers.iter().find(|one| one.id == target) {
            return Err(Error::Refused(format!(
                "container {} belongs to a pod, whose containers share too much to go alone: \
                 checkpoint {}/{}",
                container.name, pod.pod_namespace, pod.pod_name
            )));
        }
    }
    Err(Error::Refused(format!(
        "{target}: no pod (NAMESPACE/NAME) or task (its id) of this node; `mycedrive ps` lists them"
    )))
}

/// Asks until the pod goes on, or is gone. `Some`: its images are all that is left, and why.
async fn resume(app: &Shared, shim: &Shim, id: &str) -> Option<String> {
    let limit = app.config.migration.step_timeout;
    loop {
        let error = match shim.resume(id, limit).await {
            Ok(Resumed::Runs) => return None,
            Ok(Resumed::OnlyImage { why, .. }) => return Some(why),
            Err(error) => error,
        };
        let known = app.shims.connect(shim.sandbox()).await;
        let described = match &known {
            Ok(shim) => shim.describe().await.ok(),
            Err(_) => None,
        };
        if described.is_none_or(|pod| pod.migration_id != id) {
            tracing::info!(migration = id, %error, "nothing to let go on");
            return None;
        }
        tracing::error!(migration = id, %error, "the pod stands still; asking again");
        tokio::time::sleep(AGAIN).await;
    }
}

fn state(container: &Container) -> ContainerState {
    container.state.enum_value_or_default()
}

fn partial(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Failed(error.to_string()))?
}

#[allow(clippy::needless_pass_by_value)]
fn failed(error: mycedrive_transfer::Error) -> Error {
    Error::Failed(error.to_string())
}
