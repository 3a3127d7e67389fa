//! Removes what nobody needs any more: images of migrations that are over, parked pods whose time
//! is over, old logs.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mycedrive_volume::attach::{Attachments, User};

use crate::app::Shared;

/// When it looks first.
const FIRST: Duration = Duration::from_secs(30);
/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);

/// Looks from time to time, until the task is aborted.
pub async fn run(app: Shared) {
    let mut orphans = BTreeSet::new();
    tokio::time::sleep(FIRST).await;
    loop {
        orphans = fold_volumes(&app, orphans).await;
        tokio::time::sleep(EVERY).await;
        let forgotten = app
            .migrations
            .prune(app.config.migration.keep_logs as usize);
        if forgotten > 0 {
            tracing::info!(forgotten, "old migrations' logs removed");
        }
        remove_orphaned_logs(&app);
        crate::parked::expire(&app);
    }
}

/// Folds back the stacks of volumes that nobody uses: of a shim that was killed, or from before a
/// reboot. Whose shim does not answer is an orphan; one that was an orphan the last time too (it
/// is not just starting) is dropped. Returns today's.
async fn fold_volumes(app: &Shared, before: BTreeSet<User>) -> BTreeSet<User> {
    let shims = app.shims.dir().to_owned();
    let work = move || {
        let all = Attachments::of_node();
        let users = all.records().into_iter().flat_map(|record| record.users);
        let alone = |user: &User| {
            UnixStream::connect(shims.join(format!("{}.sock", user.sandbox))).is_err()
                // Processes that its shim left frozen still use them.
                && !shims.join(format!("{}.frozen", user.sandbox)).exists()
        };
        let orphans: BTreeSet<User> = users.filter(alone).collect();
        let gone: BTreeSet<&User> = orphans.intersection(&before).collect();
        if let Err(error) = all.sweep(&|user| !gone.contains(user)) {
            tracing::warn!(%error, "a volume stays a stack");
        }
        orphans
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// At start, after the journals were taken up: images below the image folder that belong to no
/// migration under way are secrets that a crash left behind.
pub fn remove_orphaned_images(app: &Shared) {
    let live: BTreeSet<String> = app
        .migrations
        .list()
        .into_iter()
        .filter(|progress| !progress.phase.ended())
        .map(|progress| progress.id)
        .collect();
    let Ok(entries) = std::fs::read_dir(&app.config.image_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let of = |name: &str| {
            let known = [".out", ".memory", ".gate"];
            let id = known.iter().find_map(|end| name.strip_suffix(end));
            id.unwrap_or(name).to_owned()
        };
        if name.to_str().is_some_and(|name| live.contains(&of(name))) {
            continue;
        }
        match std::fs::remove_dir_all(entry.path()) {
            Ok(()) => tracing::info!(dir = %entry.path().display(), "left-over images removed"),
            Err(error) => {
                tracing::warn!(dir = %entry.path().display(), %error, "cannot remove images");
            }
        }
    }
}

/// What shims keep in memory of migrations that are forgotten: logs that never moved to the disk, as
/// the shim was killed, and links to those that did.
pub fn remove_orphaned_logs(app: &Shared) {
    let known: BTreeSet<String> = app
        .migrations
        .list()
        .into_iter()
        .map(|progress| progress.id)
        .collect();
    let Ok(entries) = std::fs::read_dir(app.config.engine_logs_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ends = ["-source", "-destination"];
        let id = name
            .to_str()
            .and_then(|name| ends.iter().find_map(|end| name.strip_suffix(end)));
        if id.is_some_and(|id| known.contains(id)) {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
            _ => std::fs::remove_file(&path),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "cannot remove an engine's logs");
        }
    }
}
