//! Whether an image fits where it would go. A process whose image does not fit dies of it.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::limit::{self, Image};
use super::processes::Census;
use crate::process::proc;
use crate::{EngineError, Target};

/// What an image has besides memory that is in use: DMTCP's own buffers and zero pages.
const OVERHEAD_KIB: u64 = 24 << 10;

/// Refuses when the images of these containers, given by their first processes, may not fit below
/// `directory`, which exists: into its file system or, if that is in memory, the limits of those
/// who write.
pub(super) fn check<'a>(
    containers: impl IntoIterator<Item = (&'a Target, i32)>,
    directory: &Path,
) -> Result<(), EngineError> {
    let stat =
        statvfs(directory).map_err(|error| EngineError::io("look at", directory)(error.into()))?;
    #[allow(clippy::useless_conversion)] // The width depends on the platform.
    let free = u64::from(stat.blocks_available()) * u64::from(stat.fragment_size()) / 1024;
    let mut images = Vec::new();
    let mut all = 0;
    for (target, pid) in containers {
        let needed = needed(&Census::of(pid)?.carried);
        all += needed;
        enough(&target.name, all, free, directory)?;
        images.push(Image {
            container: &target.name,
            pid,
            needed,
        });
    }
    limit::check(&images, directory)
}

/// KiB of the images of these processes, not too few.
fn needed(pids: &[i32]) -> u64 {
    let needed: u64 = pids.iter().map(|pid| memory(*pid) + OVERHEAD_KIB).sum();
    needed + needed / 10
}

/// Both in KiB.
fn enough(container: &str, needed: u64, free: u64, directory: &Path) -> Result<(), EngineError> {
    if needed <= free {
        return Ok(());
    }
    Err(EngineError::NoRoom {
        container: container.to_owned(),
        place: directory.to_owned(),
        needed: needed / 1024,
        free: free / 1024,
    })
}

/// KiB of memory in use, swapped out or not.
pub(super) fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(proc(pid, "status")).unwrap_or_default();
    in_use(&status)
}

fn in_use(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| {
            line.strip_prefix("VmRSS:")
                .or_else(|| line.strip_prefix("VmSwap:"))
        })
        .filter_map(|value| value.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests;
