//! Where in the file system a process's control group is.

use std::path::{Path, PathBuf};

use super::{Freezer, Version};

/// From `/proc/PID/cgroup` and `/proc/self/mountinfo` to the group's directory.
pub(super) fn freezer(groups: &str, mounts: &str) -> Result<Freezer, String> {
    group(groups, mounts, "freezer")
        .map(|(version, directory)| Freezer { version, directory })
        .ok_or_else(|| {
            format!(
                "neither a v1 freezer hierarchy nor cgroup2 is mounted for {:?}",
                groups.trim()
            )
        })
}

/// The directory of the group in which a process is for a controller of version 1, or that of
/// version 2 where this controller has no hierarchy of its own.
pub(crate) fn group(groups: &str, mounts: &str, controller: &str) -> Option<(Version, PathBuf)> {
    candidates(groups, controller).find_map(|(version, path)| {
        let directory = mounts
            .lines()
            .filter_map(Mount::parse)
            .filter(|mount| mount.carries(version, controller))
            .find_map(|mount| mount.directory(path))?;
        Some((version, directory))
    })
}

/// The process's groups that could have the controller, version 1 first.
fn candidates<'a>(
    groups: &'a str,
    controller: &'a str,
) -> impl Iterator<Item = (Version, &'a str)> {
    let of = move |version| {
        groups
            .lines()
            .filter_map(|line| {
                let mut fields = line.splitn(3, ':');
                Some((fields.next()?, fields.next()?, fields.next()?))
            })
            .find(|(id, controllers, _)| match version {
                Version::V1 => controllers.split(',').any(|name| name == controller),
                Version::V2 => *id == "0" && controllers.is_empty(),
            })
            .map(|(_, _, path)| (version, path))
    };
    of(Version::V1).into_iter().chain(of(Version::V2))
}

/// A line of mountinfo, as proc_pid_mountinfo(5) has it.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Self {
            root: before.next()?,
            point: before.next()?,
            kind: after.next()?,
            options: after.nth(1)?,
        })
    }

    fn carries(&self, version: Version, controller: &str) -> bool {
        match version {
            Version::V1 => {
                self.kind == "cgroup" && self.options.split(',').any(|name| name == controller)
            }
            Version::V2 => self.kind == "cgroup2",
        }
    }

    /// The directory of the group at `path`, when it is below what is mounted here.
    fn directory(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(self.root).ok()?;
        Some(Path::new(self.point).join(below))
    }
}
