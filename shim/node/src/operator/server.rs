//! The daemon's end of the operator's socket.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::{Answer, Ask, Decide, pods};
use crate::app::Shared;
use crate::archive::checkpoint::checkpoint;
use crate::error::{Error, Result};
use crate::parked::{self, Parked};
use crate::progress::{Progress, Side};
use crate::{destination, source};

/// Longest question.
const LONGEST: u64 = 64 * 1024;
/// Changes of a watched migration are sent at most this often.
const PACE: Duration = Duration::from_millis(100);

/// Answers until the daemon stops.
pub async fn run(app: Shared, listener: UnixListener) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "operator socket");
            return;
        }
    };
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(converse(app.clone(), stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "operator socket");
                    tokio::time::sleep(PACE).await;
                }
            },
        }
    }
}

async fn converse(app: Shared, mut stream: UnixStream) {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let read = BufReader::new(read.take(LONGEST))
        .read_line(&mut line)
        .await;
    if read.is_err() || line.is_empty() {
        return;
    }
    let result = match serde_json::from_str::<Ask>(&line) {
        Ok(Ask::Watch { id }) => watch(&app, &id, &mut write).await,
        Ok(ask) => {
            let answer = answer(&app, ask)
                .await
                .unwrap_or_else(|error| Answer::Failed(error.to_string()));
            send(&mut write, &answer).await
        }
        Err(error) => {
            send(
                &mut write,
                &Answer::Failed(format!("bad question: {error}")),
            )
            .await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "the operator's command went away");
    }
}

async fn answer(app: &Shared, ask: Ask) -> Result<Answer> {
    Ok(match ask {
        Ask::Pods => {
            let mut all = pods::list(&app.shims, &app.migrations).await;
            all.extend(Parked::all(app).iter().map(pods::parked));
            Answer::Pods(all)
        }
        Ask::Drop { id } => Answer::Done(parked::give_up(app, &id)?),
        Ask::Migrations => Answer::Migrations(app.migrations.list()),
        Ask::Show { id } | Ask::Watch { id } => Answer::Migration(Box::new(find(app, &id)?)),
        Ask::CheckpointVolume { pod, volume, out } => {
            Answer::Done(checkpoint_volume(app, &pod, &volume, &out).await?)
        }
        Ask::Resolve { id, decide } => Answer::Done(resolve(app, &id, decide).await?),
        Ask::Checkpoint {
            target,
            output,
            hold,
            protection,
        } => Answer::Done(checkpoint(app, &target, &output, hold, protection).await?),
        Ask::Cancel { id, reason } => Answer::Done(cancel(app, &id, &reason).await?),
    })
}

fn find(app: &Shared, id: &str) -> Result<Progress> {
    Ok(app.migrations.follow(id)?.borrow().clone())
}

async fn checkpoint_volume(app: &Shared, pod: &str, volume: &str, out: &Path) -> Result<String> {
    let wrong = |what: &str| Error::Refused(what.to_owned());
    let (namespace, name) = pod
        .split_once('/')
        .ok_or_else(|| wrong("the pod must be given as NAMESPACE/POD"))?;
    let (container, destination) = volume
        .split_once(':')
        .ok_or_else(|| wrong("the volume must be given as CONTAINER:PATH"))?;
    if !out.is_absolute() {
        return Err(wrong("--out must be an absolute path"));
    }
    let (shim, _) = app
        .shims
        .find(namespace, name, &app.config.node_name)
        .await?;
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(out).map_err(Error::io("cannot make", out))?;
    let limit = app.config.migration.freeze_limit;
    let copied = shim
        .checkpoint_volume(container, destination, out, limit)
        .await;
    match copied {
        Ok(millis) => Ok(format!(
            "wrote the layer to {}; the pod stood still for {millis} ms",
            out.display()
        )),
        Err(error) => {
            let _ = std::fs::remove_dir_all(out);
            Err(error)
        }
    }
}

async fn resolve(app: &Shared, id: &str, decide: Decide) -> Result<String> {
    let found = find(app, id)?;
    tracing::warn!(migration = %found.id, ?decide, "an operator decides");
    match found.side {
        Side::Source => source::resolve(app, &found.id, decide).await,
        Side::Destination => destination::resolve(app, &found.id, decide).await,
    }
}

async fn cancel(app: &Shared, id: &str, reason: &str) -> Result<String> {
    let found = find(app, id)?;
    if found.phase.ended() {
        return Err(Error::Refused(format!(
            "migration {} has ended: {}",
            found.id,
            found.phase.words()
        )));
    }
    tracing::warn!(migration = %found.id, reason, "an operator cancels");
    match found.side {
        Side::Source => source::cancel(app, &found.id, reason).await,
        Side::Destination => destination::cancel(app, &found.id, reason).await,
    }
}

type Writer<'a> = tokio::net::unix::WriteHalf<'a>;

async fn watch(app: &Shared, id: &str, write: &mut Writer<'_>) -> std::io::Result<()> {
    let mut changes = match app.migrations.follow(id) {
        Ok(changes) => changes,
        Err(error) => return send(write, &Answer::Failed(error.to_string())).await,
    };
    loop {
        let now = changes.borrow_and_update().clone();
        let ended = now.phase.ended();
        send(write, &Answer::Migration(Box::new(now))).await?;
        if ended {
            return Ok(());
        }
        tokio::time::sleep(PACE).await;
        tokio::select! {
            () = app.stopping.cancelled() => return Ok(()),
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

async fn send(write: &mut Writer<'_>, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write.write_all(&line).await
}
