//! Where the logs of engines go.
//!
//! They are written while the pod stands still, so they go to memory: a busy disk holds up even a
//! write that nobody syncs, for hundreds of milliseconds. When it is decided where the pod runs they
//! move to the disk, and a link leads there from the path that errors have named.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use tracing::warn;

/// While they are written: `ID-SIDE/CONTAINER/` below it.
const WRITTEN: &str = "/run/mycedrive/logs";
/// Kept: `ID/CONTAINER/` below it. The daemon removes old ones.
const KEPT: &str = "/var/lib/mycedrive/migrations";

/// On which side of the migration this shim is. Both may be on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// The logs of one side of a migration.
pub(super) struct Logs {
    written: PathBuf,
    kept: PathBuf,
}

impl Logs {
    /// `migration` is usable as a name.
    pub(super) fn of(migration: &str, side: Side) -> Self {
        Self::within(Path::new(WRITTEN), Path::new(KEPT), migration, side)
    }

    fn within(written: &Path, kept: &Path, migration: &str, side: Side) -> Self {
        Self {
            written: written.join(format!("{migration}-{}", side.name())),
            kept: kept.join(migration),
        }
    }

    /// Directory for the logs of one container, which need not exist yet.
    pub(super) fn of_container(&self, name: &str) -> PathBuf {
        self.written.join(name)
    }

    /// Moves them to the disk, without being waited for. What cannot be moved stays in memory.
    pub(super) fn keep(self) {
        tokio::task::spawn_blocking(move || {
            if let Err(error) = self.move_to_disk() {
                let directory = self.written.display();
                warn!(%directory, %error, "the engine's logs stay in memory");
            }
        });
    }

    fn move_to_disk(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.written) {
            Ok(found) if found.is_dir() => {}
            // Nothing was written, or it was moved before.
            _ => return Ok(()),
        }
        for container in fs::read_dir(&self.written)? {
            let container = container?;
            let to = self.kept.join(container.file_name());
            DirBuilder::new().recursive(true).mode(0o700).create(&to)?;
            for log in fs::read_dir(container.path())? {
                let log = log?;
                fs::copy(log.path(), to.join(log.file_name()))?;
            }
        }
        fs::remove_dir_all(&self.written)?;
        symlink(&self.kept, &self.written)
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
