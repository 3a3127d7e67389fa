//! What a node has that a migration or a pod could leave behind.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{Node, Result};

/// Mounts, network namespaces, links, processes, control groups, sockets and images, a line each.
pub type Things = BTreeSet<String>;

/// Lists things by kind; left out are pids, numbers that change by themselves, and what a node's first
/// pod makes for all: CNI's bridge and the parent of CRI's control groups.
const LIST: &str = r#"
awk '{print "mount " $5}' /proc/self/mountinfo | grep -E 'containerd|mycedrive|netns' || true
ls /run/netns 2>/dev/null | sed 's/^/netns /'
ip -o link | awk -F': ' '{print "link " $2}' | sed 's/@.*//' | grep -vx 'link cni0'
ip rule | sed 's/^/rule /'
nft list tables 2>/dev/null | sed 's/^/nft /' || true
ps -e -o comm= | grep -E 'shim|runc|criu|redis|python|busybox|sleep' | sed 's/^/process /' || true
find /sys/fs/cgroup -type d -path '*k8s.io/*' 2>/dev/null | sed 's/^/cgroup /' || true
find /run/mycedrive/shims /run/mycedrive/images -mindepth 1 2>/dev/null | sed 's/^/file /' || true
find /run/containerd/io.containerd.runtime.v2.task -mindepth 2 -maxdepth 2 2>/dev/null | sed 's/^/bundle /' || true
"#;

/// What is there now.
pub fn of(node: &Node) -> Result<Things> {
    Ok(node.sh(LIST)?.lines().map(ToOwned::to_owned).collect())
}

/// What is there now and was not before; asked again for up to ten seconds, since containerd and the
/// daemon clean up a little later.
pub fn since(node: &Node, before: &Things) -> Result<Things> {
    for _ in 0..50 {
        let left: Things = of(node)?.difference(before).cloned().collect();
        if left.is_empty() {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(of(node)?.difference(before).cloned().collect())
}
