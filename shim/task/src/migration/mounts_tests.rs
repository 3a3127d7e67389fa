use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::*;

/// A directory of this test's own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mounts-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn below(&self, path: &str) -> String {
        let path = self.0.join(path);
        fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn moving(mounts: &Value, volumes: &str) -> Vec<String> {
    let spec = Spec::from_json(json!({ "mounts": mounts, "annotations": { VOLUMES: volumes } }));
    of(&spec)
        .into_iter()
        .filter(|mount| mount.moves)
        .map(|mount| mount.destination)
        .collect()
}

#[test]
fn what_the_pod_owns_on_this_node_moves() {
    let directory = Directory::new("own");
    let volume = |plugin: &str| directory.below(&format!("pods/u1/volumes/{plugin}/v"));
    let mounts = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
        { "destination": "/dev/shm", "type": "bind", "source": directory.below("shm"),
          "options": ["rbind", "ro"] },
        { "destination": "/dev/shm", "type": "bind", "source": directory.below("shm") },
        { "destination": "/a", "type": "bind", "source": volume("kubernetes.io~empty-dir") },
        { "destination": "/b", "options": ["rbind", "rw"], "source": volume("kubernetes.io~local-volume") },
        { "destination": "/c", "type": "bind", "source": volume("kubernetes.io~nfs") },
        { "destination": "/d", "type": "bind", "source": volume("kubernetes.io~configmap") },
        { "destination": "/e", "type": "bind", "options": ["ro"], "source": volume("kubernetes.io~empty-dir") },
    ]);
    assert_eq!(moving(&mounts, ""), ["/dev/shm", "/a", "/b"]);
}

#[test]
fn other_host_paths_move_when_they_are_named() {
    let directory = Directory::new("named");
    let source = directory.below("data");
    let mounts = json!([{ "destination": "/data", "type": "bind", "source": source }]);
    assert!(moving(&mounts, "").is_empty());
    assert!(moving(&mounts, "/other").is_empty());
    assert_eq!(moving(&mounts, "/other, /data"), ["/data"]);
    assert_eq!(moving(&mounts, &source), ["/data"]);
}

#[test]
fn a_file_never_moves() {
    let mounts = json!([{ "destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts" }]);
    assert!(moving(&mounts, "/etc/hosts").is_empty());
}
