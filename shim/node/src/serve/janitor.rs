//! Removes what nobody needs any more: images of migrations that are over, old logs.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::app::Shared;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(300);

/// Looks from time to time, until the task is aborted.
pub async fn run(app: Shared) {
    loop {
        tokio::time::sleep(EVERY).await;
        let forgotten = app
            .migrations
            .prune(app.config.migration.keep_logs as usize);
        if forgotten > 0 {
            tracing::info!(forgotten, "old migrations' logs removed");
        }
    }
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
        if name.to_str().is_some_and(|name| live.contains(name)) {
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
