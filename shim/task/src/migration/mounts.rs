//! Which of a container's mounts there are, and which hold state that moves with the pod.

use std::path::Path;

use mycedrive_proto::shim::Mount;
use serde_json::Value;

use crate::spec::Spec;

/// Names, separated by commas, of host paths that move although they are not the pod's own.
pub const VOLUMES: &str = "mycedrive.io/volumes";

/// kubelet's volume plugins whose content is this node's alone, as they appear in its paths.
const LOCAL_PLUGINS: [&str; 2] = ["kubernetes.io~empty-dir", "kubernetes.io~local-volume"];

/// All mounts of a spec.
pub fn of(spec: &Spec) -> Vec<Mount> {
    let named: Vec<&str> = spec
        .annotation(VOLUMES)
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    spec.json()
        .get("mounts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|mount| {
            let text = |name: &str| mount.get(name).and_then(Value::as_str).unwrap_or_default();
            let options: Vec<&str> = mount
                .get("options")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let bind = text("type") == "bind"
                || options
                    .iter()
                    .any(|option| matches!(*option, "bind" | "rbind"));
            let writable = !options.contains(&"ro");
            let (source, destination) = (text("source"), text("destination"));
            Mount {
                destination: destination.to_owned(),
                source: source.to_owned(),
                type_: text("type").to_owned(),
                writable,
                moves: bind && writable && moves(source, destination, &named),
                ..Mount::default()
            }
        })
        .collect()
}

/// Whether the content of a writable bind mount goes with the pod. What the container mounted
/// itself (a tmpfs in its own mount namespace) is in the engine's image and not asked here.
fn moves(source: &str, destination: &str, named: &[&str]) -> bool {
    let source = Path::new(source);
    if !source.is_dir() {
        // Files of kubelet and containerd (/etc/hosts, resolv.conf, the termination log) and
        // sockets.
        return false;
    }
    if destination == "/dev/shm" {
        return true;
    }
    if let Some(plugin) = plugin(source) {
        return LOCAL_PLUGINS.contains(&plugin);
    }
    named
        .iter()
        .any(|name| *name == destination || Path::new(name) == source)
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

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
