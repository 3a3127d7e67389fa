//! Whether a restored mount namespace keeps to the spec.
//!
//! CRIU makes the mounts that the image lists. An image from somewhere else may leave out what
//! the runtime put over `/proc` and `/sys`, or bring a file system of the kernel's that the spec
//! does not give. Mounts of ordinary file systems come from the spec: the runtime hands them to
//! CRIU one by one.

use std::path::Path;

use serde_json::Value;

use super::Limits;

/// File systems through which the kernel is looked into or controlled.
const KERNEL: [&str; 14] = [
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// Device files of every container (OCI runtime spec, "Default Devices").
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// A line of `/proc/PID/mountinfo`, proc_pid_mountinfo(5).
struct Mount<'a> {
    root: &'a str,
    point: &'a Path,
    read_only: bool,
    kind: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point, options) = (left.next()?, left.next()?, left.next()?);
        Some(Self {
            root,
            point: Path::new(point),
            read_only: options.split(',').any(|option| option == "ro"),
            kind: right.split(' ').next()?,
        })
    }
}

/// The first thing in which the mounts give more than the spec. `exists` says whether the
/// namespace has something at a path.
pub(crate) fn wider(
    spec: &Value,
    mountinfo: &str,
    exists: impl Fn(&Path) -> bool,
) -> Option<String> {
    if Limits::of(spec).may_mount() {
        // It may have changed its mounts itself.
        return None;
    }
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::parse).collect();
    // The last one at a path is the one that is seen.
    let at = |path: &Path| mounts.iter().rev().find(|mount| mount.point == path);
    let paths = |pointer: &str| -> Vec<&Path> {
        let list = spec.pointer(pointer).and_then(Value::as_array);
        let list = list.into_iter().flatten();
        list.filter_map(Value::as_str).map(Path::new).collect()
    };
    for path in paths("/linux/maskedPaths") {
        if exists(path) && at(path).is_none() {
            return Some(format!("{} is not masked", path.display()));
        }
    }
    for path in paths("/linux/readonlyPaths") {
        let covering = path.ancestors().find_map(at);
        if exists(path) && !covering.is_some_and(|mount| mount.read_only) {
            return Some(format!("{} is not read-only", path.display()));
        }
    }
    let read_only = spec.pointer("/root/readonly").and_then(Value::as_bool);
    if read_only == Some(true) && !at(Path::new("/")).is_some_and(|root| root.read_only) {
        return Some("its root file system is not read-only".to_owned());
    }
    let given = spec.get("mounts").and_then(Value::as_array);
    let given: Vec<(&Path, &str)> = given
        .into_iter()
        .flatten()
        .filter_map(|mount| {
            let destination = mount.get("destination")?.as_str()?;
            let kind = mount.get("type").and_then(Value::as_str);
            Some((Path::new(destination), kind.unwrap_or("bind")))
        })
        .collect();
    let fits = |mount: &Mount<'_>| {
        given.iter().any(|(destination, kind)| {
            // cgroup of version 1 has its hierarchies below, or is version 2 on such a node.
            let same = *kind == mount.kind
                || *kind == "cgroup" && mount.kind == "cgroup2"
                || matches!(*kind, "bind" | "none" | "rbind");
            same && mount.point.starts_with(destination)
        })
    };
    // A runtime masks a file with the node's /dev/null, and in a user namespace, where no device file
    // can be made, shows those of the node.
    let masked = paths("/linux/maskedPaths");
    let device = |mount: &Mount<'_>| {
        let name = mount.root.trim_start_matches('/');
        mount.kind == "devtmpfs"
            && (name == "null" && masked.contains(&mount.point)
                || DEVICES.contains(&name) && mount.point == Path::new("/dev").join(name))
    };
    mounts
        .iter()
        .find(|mount| KERNEL.contains(&mount.kind) && !fits(mount) && !device(mount))
        .map(|mount| format!("{} is mounted at {}", mount.kind, mount.point.display()))
}

#[cfg(test)]
mod tests;
