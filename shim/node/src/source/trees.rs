//! The trees of a pod that move, and what the destination has of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use mycedrive_proto::shim::{Container, ContainerState};
use mycedrive_transfer::{FinalRound, FrameWriter, Round, RoundSummary, TreeId, TreeSender};

use crate::blocks::BlockWriter;
use crate::error::{Error, Result};
use crate::machine;

/// The writable root layer, beside mounts' destinations.
pub const ROOTFS: &str = "rootfs";

/// Id of a tree: `rootfs/NAME`, or `mount/NAME/DESTINATION` without the leading slash.
pub fn id_of(container: &str, tree: &str) -> String {
    match tree {
        ROOTFS => format!("rootfs/{container}"),
        mount => format!("mount/{container}/{}", mount.trim_start_matches('/')),
    }
}

#[derive(Debug)]
struct Tree {
    container: String,
    name: String,
    path: PathBuf,
    sender: Option<TreeSender>,
}

/// All trees of a pod, by id.
#[derive(Debug, Default)]
pub struct Trees {
    trees: BTreeMap<String, Tree>,
    /// Container name and id: a container that was restarted has other trees.
    containers: BTreeMap<String, String>,
}

impl Trees {
    /// The trees of the running containers. A mount that several containers share moves once.
    pub fn of(containers: &[&Container]) -> Self {
        let mut all = Self::default();
        let mut seen = Vec::new();
        for container in containers {
            if container.state.enum_value_or_default() != ContainerState::CONTAINER_STATE_RUNNING {
                continue;
            }
            all.containers
                .insert(container.name.clone(), container.id.clone());
            if !container.rootfs_upper.is_empty() {
                all.add(&container.name, ROOTFS, &container.rootfs_upper);
            }
            for mount in container.mounts.iter().filter(|mount| mount.moves) {
                if !seen.contains(&mount.source) {
                    seen.push(mount.source.clone());
                    all.add(&container.name, &mount.destination, &mount.source);
                }
            }
        }
        all
    }

    fn add(&mut self, container: &str, tree: &str, path: &str) {
        let one = Tree {
            container: container.to_owned(),
            name: tree.to_owned(),
            path: PathBuf::from(path),
            sender: None,
        };
        self.trees.insert(id_of(container, tree), one);
    }

    /// The trees of one container, as the manifest names them.
    pub fn names_of(&self, container: &str) -> Vec<String> {
        self.trees
            .values()
            .filter(|tree| tree.container == container)
            .map(|tree| tree.name.clone())
            .collect()
    }

    /// Name and id of the containers whose trees these are.
    pub fn containers(&self) -> &BTreeMap<String, String> {
        &self.containers
    }

    /// Drops what is only needed for further rounds.
    pub fn forget_senders(&mut self) {
        for tree in self.trees.values_mut() {
            tree.sender = None;
        }
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.trees
            .values()
            .map(|tree| machine::tree_size(&tree.path))
            .sum()
    }

    /// One round of the trees that `chosen` names while the pod runs; those in `anew` whole.
    pub fn live(
        &mut self,
        out: &mut FrameWriter<BlockWriter>,
        chosen: &[String],
        anew: &[String],
    ) -> Result<Vec<RoundSummary>> {
        let mut done = vec![];
        for (id, tree) in &mut self.trees {
            if chosen.contains(id) {
                let whole = anew.contains(id);
                done.push(tree.send(out, id, Round::Live, whole)?);
            }
        }
        Ok(done)
    }

    /// The last round of all trees; nothing of the pod runs. `pids` are its containers' first
    /// processes, by name.
    pub fn last(
        &mut self,
        out: &mut FrameWriter<BlockWriter>,
        pids: &BTreeMap<String, i32>,
    ) -> Result<Vec<RoundSummary>> {
        let mut done = vec![];
        for (id, tree) in &mut self.trees {
            let hints = pids
                .get(&tree.container)
                .map(|pid| hints(*pid, &tree.name))
                .unwrap_or_default();
            done.push(tree.send(out, id, Round::Final(&hints), false)?);
        }
        Ok(done)
    }
}

impl Tree {
    fn send(
        &mut self,
        out: &mut FrameWriter<BlockWriter>,
        id: &str,
        round: Round<'_>,
        whole: bool,
    ) -> Result<RoundSummary> {
        let fail =
            |error: mycedrive_transfer::Error| Error::Failed(format!("sending tree {id}: {error}"));
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => TreeSender::new(&self.path).map_err(fail)?,
        };
        if whole {
            sender.reset();
        }
        let name = TreeId::new(id).map_err(fail)?;
        let summary = sender.send_round(out, &name, round).map_err(fail)?;
        self.sender = Some(sender);
        Ok(summary)
    }
}

/// Files of a tree that processes have mapped shared and writable: no timestamp tells that they
/// changed. `/proc/PID/maps` shows paths as the container sees them.
fn hints(pid: i32, tree: &str) -> FinalRound {
    let mut found = FinalRound::default();
    let inside = if tree == ROOTFS { "/" } else { tree };
    for pid in machine::pids_beside(pid) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for (inode, path) in maps.lines().filter_map(shared_writable) {
            found.mapped_inodes.push(inode);
            if let Some(relative) = path.strip_prefix(inside) {
                let relative = relative.trim_start_matches('/');
                found.mapped_paths.push(PathBuf::from(relative));
            }
        }
    }
    found
}

/// Inode and path of a line of /proc/PID/maps (proc_pid_maps(5)) that is mapped `-w-s`.
fn shared_writable(line: &str) -> Option<(u64, &str)> {
    let mut fields = line.splitn(5, ' ');
    let permissions = fields.nth(1)?;
    let rest = fields.nth(2)?;
    let (inode, path) = rest.split_once(' ')?;
    let inode: u64 = inode.parse().ok().filter(|inode| *inode != 0)?;
    let shared = permissions.as_bytes().get(3) == Some(&b's');
    let writable = permissions.as_bytes().get(1) == Some(&b'w');
    (shared && writable).then_some((inode, path.trim_start()))
}

#[cfg(test)]
mod tests {
    use mycedrive_proto::shim::Mount;

    use super::*;

    #[test]
    fn maps_lines() {
        let shared = "7f12-7f13 rw-s 00001000 fe:01 4242     /var/lib/data file";
        assert_eq!(shared_writable(shared), Some((4242, "/var/lib/data file")));
        let private = "7f12-7f13 rw-p 00001000 fe:01 4242     /usr/lib/libc.so";
        assert_eq!(shared_writable(private), None);
        let anonymous = "7f12-7f13 rw-s 00000000 00:00 0 ";
        assert_eq!(shared_writable(anonymous), None);
    }

    #[test]
    fn a_shared_mount_moves_once() {
        let container = |name: &str| Container {
            id: format!("id-{name}"),
            name: name.to_owned(),
            state: ContainerState::CONTAINER_STATE_RUNNING.into(),
            rootfs_upper: format!("/snapshots/{name}/fs"),
            mounts: vec![Mount {
                destination: "/dev/shm".to_owned(),
                source: "/run/sandbox/shm".to_owned(),
                moves: true,
                ..Mount::default()
            }],
            ..Container::default()
        };
        let (one, two) = (container("one"), container("two"));
        let trees = Trees::of(&[&one, &two]);
        assert_eq!(trees.names_of("one"), ["/dev/shm", "rootfs"]);
        assert_eq!(trees.names_of("two"), ["rootfs"]);
        assert_eq!(id_of("one", "/dev/shm"), "mount/one/dev/shm");
    }
}
