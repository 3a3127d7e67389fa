//! Puts what rounds bring of volumes on the disk, beside the rounds.
//!
//! A program that has synced a file counts on it after a loss of power, wherever it runs by then.
//! So nothing of a pod runs here before its volumes are on this node's disk as well. After each
//! round that is done in the background; what is left for the freeze is the last one's.

use std::time::Instant;

use mycedrive_transfer::Written;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

/// Syncs one after another.
#[derive(Debug, Default)]
pub struct Disk {
    running: Option<JoinHandle<Result<Synced>>>,
}

#[derive(Debug, Default)]
struct Synced {
    files: usize,
    milliseconds: u128,
}

impl Disk {
    /// Begins to sync this when what was put before is done.
    pub fn put(&mut self, written: Vec<Written>) {
        let before = self.running.take();
        self.running = Some(tokio::spawn(async move {
            if let Some(before) = before {
                joined(before).await?;
            }
            let work = move || sync(&written);
            joined(tokio::task::spawn_blocking(work)).await
        }));
    }

    /// Something is not on the disk yet.
    pub fn is_behind(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| !running.is_finished())
    }

    /// Waits until all of it is on the disk; says how much the newest was.
    pub async fn wait(&mut self) -> Result<String> {
        let synced = match self.running.take() {
            Some(running) => joined(running).await?,
            None => Synced::default(),
        };
        Ok(format!(
            "{} files in {} ms",
            synced.files, synced.milliseconds
        ))
    }
}

fn sync(written: &[Written]) -> Result<Synced> {
    let started = Instant::now();
    for one in written {
        one.sync()
            .map_err(|error| Error::Failed(format!("a volume's disk: {error}")))?;
    }
    Ok(Synced {
        files: written.iter().map(Written::files).sum(),
        milliseconds: started.elapsed().as_millis(),
    })
}

async fn joined(task: JoinHandle<Result<Synced>>) -> Result<Synced> {
    task.await
        .map_err(|error| Error::Failed(error.to_string()))?
}
