//! Memory limits, for images that go to a tmpfs: its pages are charged to the control group of the
//! process that writes them, and of all groups above it. A group that gets to its limit loses
//! processes.
//!
//! Kernel documentation: `admin-guide/cgroup-v1/memory.rst` and `admin-guide/cgroup-v2.rst`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use crate::EngineError;
use crate::freezer::{Version, locate};
use crate::process::proc;

/// linux/magic.h
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// What a container is about to write.
pub(super) struct Image<'a> {
    /// The container's name.
    pub container: &'a str,
    /// Its first process.
    pub pid: i32,
    /// KiB.
    pub needed: u64,
}

/// Refuses when these images, which are written at the same time below `directory`, would bring a
/// control group to its limit. `directory` exists.
pub(super) fn check(images: &[Image<'_>], directory: &Path) -> Result<(), EngineError> {
    if !in_memory(directory)? {
        return Ok(());
    }
    let mounts = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(mounts).map_err(EngineError::io("read", mounts))?;
    let mut writers = Vec::new();
    for image in images {
        let groups = proc(image.pid, "cgroup");
        let groups = fs::read_to_string(&groups).map_err(EngineError::io("read", &groups))?;
        // None: without this controller there is no limit.
        if let Some((version, group)) = locate::group(&groups, &mounts, "memory") {
            writers.push((image, version, group));
        }
    }
    enough(&writers, directory)
}

/// The same of writers whose groups are known.
fn enough(writers: &[(&Image<'_>, Version, PathBuf)], directory: &Path) -> Result<(), EngineError> {
    let mut needed = BTreeMap::<&Path, u64>::new();
    for (image, version, group) in writers {
        for group in group.ancestors() {
            let Some(room) = Room::of(group, *version) else {
                // The root of version 2 has none, what is above of version 1 is no group.
                if group.join("cgroup.procs").exists() {
                    continue;
                }
                break;
            };
            let needed = needed.entry(group).or_default();
            *needed += image.needed;
            if *needed > room.free {
                return Err(EngineError::MemoryLimit {
                    container: image.container.to_owned(),
                    place: directory.to_owned(),
                    group: group.to_owned(),
                    limit: room.limit / 1024,
                    needed: *needed / 1024,
                    free: room.free / 1024,
                });
            }
        }
    }
    Ok(())
}

/// Of a group, both in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    limit: u64,
    /// With what the kernel takes back before it ends a process. Swap is not counted: it may be
    /// used up by others.
    free: u64,
}

impl Room {
    /// `None`: no limit, or no group.
    fn of(group: &Path, version: Version) -> Option<Self> {
        // Above `memory.high` no process is ended, but each is held up with all that it takes.
        let (limits, usage, prefix): (&[&str], _, _) = match version {
            Version::V1 => (
                &["memory.limit_in_bytes"],
                "memory.usage_in_bytes",
                "total_",
            ),
            Version::V2 => (&["memory.max", "memory.high"], "memory.current", ""),
        };
        let number = |file: &str| -> Option<u64> {
            let text = fs::read_to_string(group.join(file)).ok()?;
            text.trim().parse().ok()
        };
        // `max` is no number.
        let limit = limits.iter().filter_map(|limit| number(limit)).min()?;
        let usage = number(usage)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let free = limit.saturating_sub(usage.saturating_sub(cache(&stat, prefix)));
        Some(Self {
            limit: limit / 1024,
            free: free / 1024,
        })
    }
}

/// Bytes of files that can be read again. The lists are without tmpfs, which `cache` and `file`
/// are not.
fn cache(stat: &str, prefix: &str) -> u64 {
    stat.lines()
        .filter_map(|line| line.strip_prefix(prefix)?.split_once(' '))
        .filter(|(name, _)| matches!(*name, "inactive_file" | "active_file"))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}

/// Whether what is written there stays in memory.
fn in_memory(directory: &Path) -> Result<bool, EngineError> {
    let stat =
        statfs(directory).map_err(|error| EngineError::io("look at", directory)(error.into()))?;
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].contains(&stat.filesystem_type()))
}

#[cfg(test)]
mod tests;
