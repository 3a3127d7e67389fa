//! Which of a container's mounts there are, which hold state that moves with the pod, and which
//! of those may be stacks.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use mycedrive_proto::shim::Mount;
use serde_json::Value;

use crate::spec::Spec;

/// Words and paths, separated by commas: `none`, `plain`, and host paths or mount points that
/// move although they are not the pod's own.
pub const VOLUMES: &str = "mycedrive.io/volumes";

/// kubelet's volume plugins whose content is this node's alone, as they appear in its paths.
const LOCAL_PLUGINS: [&str; 2] = ["kubernetes.io~empty-dir", "kubernetes.io~local-volume"];

/// What the annotation asks for.
struct Wish<'a> {
    /// No volume moves.
    none: bool,
    /// Volumes move as directories, not as stacks.
    plain: bool,
    named: Vec<&'a str>,
}

impl<'a> Wish<'a> {
    fn of(spec: &'a Spec) -> Self {
        let words = spec.annotation(VOLUMES).unwrap_or_default().split(',');
        let mut wish = Self {
            none: false,
            plain: false,
            named: Vec::new(),
        };
        for word in words.map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "none" => wish.none = true,
                "plain" => wish.plain = true,
                path => wish.named.push(path),
            }
        }
        wish
    }

    fn names(&self, source: &Path, destination: &str) -> bool {
        let same = |name: &&str| **name == *destination || Path::new(*name) == source;
        self.named.iter().any(same)
    }
}

/// All mounts of a spec.
pub fn of(spec: &Spec) -> Vec<Mount> {
    let wish = Wish::of(spec);
    entries(spec)
        .map(|mount| {
            let bind = mount.kind == "bind"
                || mount
                    .options
                    .iter()
                    .any(|option| matches!(*option, "bind" | "rbind"));
            let writable = !mount.options.contains(&"ro");
            let volume = (bind && writable)
                .then(|| volume(mount.source, mount.destination, &wish))
                .flatten();
            let (volume, beneath) = volume.clone().unwrap_or_default();
            Mount {
                destination: mount.destination.to_owned(),
                source: mount.source.to_owned(),
                type_: mount.kind.to_owned(),
                writable,
                moves: !volume.as_os_str().is_empty(),
                volume: volume.display().to_string(),
                beneath: beneath.display().to_string(),
                ..Mount::default()
            }
        })
        .collect()
}

/// A mount of the spec.
struct Entry<'a> {
    destination: &'a str,
    source: &'a str,
    kind: &'a str,
    options: Vec<&'a str>,
    idmapped: bool,
}

fn entries(spec: &Spec) -> impl Iterator<Item = Entry<'_>> {
    let all = spec.json().get("mounts").and_then(Value::as_array);
    all.into_iter().flatten().map(|mount| {
        let text = |name: &str| mount.get(name).and_then(Value::as_str).unwrap_or_default();
        let options = mount.get("options").and_then(Value::as_array);
        Entry {
            destination: text("destination"),
            source: text("source"),
            kind: text("type"),
            options: options
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
            idmapped: mount.get("uidMappings").is_some(),
        }
    })
}

/// Why a mount that moves must not be a stack, as far as the spec tells. `None`: it may be one.
pub fn not_a_stack(spec: &Spec, mount: &Mount) -> Option<String> {
    let wish = Wish::of(spec);
    if mount.destination == "/dev/shm" {
        return Some("it is memory".to_owned());
    }
    if wish.plain {
        return Some(format!("{VOLUMES} says plain"));
    }
    let mut all = entries(spec);
    let entry = all.find(|entry| entry.destination == mount.destination);
    if spec.has_namespace("user") || entry.is_some_and(|entry| entry.idmapped) {
        return Some("the pod has a user namespace, which a stack cannot map".to_owned());
    }
    if spec.may_mount() && !wish.names(Path::new(&mount.source), &mount.destination) {
        return Some(format!(
            "the container may mount (CAP_SYS_ADMIN): an overlay of its own on a stack would \
             fail; name the volume in {VOLUMES} if it makes none"
        ));
    }
    None
}

/// The volume that a writable bind mount shows, and the part of it, if it moves with the pod.
/// What the container mounted itself (a tmpfs in its own mount namespace) is in the engine's
/// image and not asked here.
fn volume(source: &str, destination: &str, wish: &Wish<'_>) -> Option<(PathBuf, PathBuf)> {
    let source = Path::new(source);
    if !source.is_dir() {
        // Files of kubelet and containerd (/etc/hosts, resolv.conf, the termination log) and
        // sockets.
        return None;
    }
    let all = |path: &Path| Some((path.to_owned(), PathBuf::new()));
    if destination == "/dev/shm" {
        return all(source);
    }
    if wish.none {
        return None;
    }
    if let Some(plugin) = plugin(source) {
        return LOCAL_PLUGINS
            .contains(&plugin)
            .then(|| all(source))
            .flatten();
    }
    if let Some(found) = part_of_volume(source) {
        return Some(found);
    }
    wish.names(source, destination)
        .then(|| all(source))
        .flatten()
}

/// The volume plugin in `.../pods/UID/volumes/PLUGIN/NAME`.
fn plugin(source: &Path) -> Option<&str> {
    let mut parts = source.iter().filter_map(|part| part.to_str());
    while let Some(part) = parts.next() {
        if part != "pods" {
            continue;
        }
        let mut ahead = parts.clone();
        if ahead.nth(1) == Some("volumes") {
            return ahead.next();
        }
    }
    None
}

/// The volume behind `.../pods/UID/volume-subpaths/NAME/CONTAINER/INDEX`, a bind mount that
/// kubelet makes for a subPath, and the path in it: found by the identity of the directory,
/// because the mount does not tell.
fn part_of_volume(source: &Path) -> Option<(PathBuf, PathBuf)> {
    let pod = source.ancestors().find(|folder| {
        folder
            .file_name()
            .is_some_and(|name| name == "volume-subpaths")
    })?;
    let name = source.strip_prefix(pod).ok()?.iter().next()?;
    let wanted = fs::metadata(source).ok()?;
    for plugin in LOCAL_PLUGINS {
        let volume = pod.with_file_name("volumes").join(plugin).join(name);
        if let Some(beneath) = find_directory(&volume, wanted.dev(), wanted.ino()) {
            return Some((volume, beneath));
        }
    }
    None
}

/// Path of a directory beneath `root`, by device and inode number. While the volume is a stack
/// the directory is in its base.
fn find_directory(root: &Path, device: u64, inode: u64) -> Option<PathBuf> {
    const MOST: usize = 100_000;
    let base = root.join(mycedrive_volume::layout::FOLDER).join("base");
    let mut todo = vec![root.to_owned()];
    let mut looked = 0;
    while let Some(directory) = todo.pop() {
        let found = fs::symlink_metadata(&directory).ok()?;
        if found.dev() == device && found.ino() == inode {
            let inside = directory.strip_prefix(&base);
            return Some(inside.or(directory.strip_prefix(root)).ok()?.to_owned());
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            looked += 1;
            if looked > MOST {
                return None;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
