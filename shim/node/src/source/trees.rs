//! The trees of a pod that move, and what the destination has of them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use mycedrive_proto::migration::CopyRequest;
use mycedrive_proto::shim::{Container, ContainerState, Mount};
use mycedrive_transfer::{FinalRound, FrameWriter, Round, RoundSummary, TreeId, TreeSender};

use crate::error::{Error, Result};
use crate::machine;

/// The writable root layer, beside mounts' destinations.
pub const ROOTFS: &str = "rootfs";

/// Ids of a tree's parts: `rootfs/NAME`, or `mount/NAME/DESTINATION` without the leading slash;
/// for a volume that is a stack, `layer/NAME/NUMBER/DESTINATION` for each layer, the base first.
pub fn ids_of(container: &str, tree: &str, layers: u32) -> Vec<String> {
    let path = tree.trim_start_matches('/');
    match (tree, layers) {
        (ROOTFS, _) => vec![format!("rootfs/{container}")],
        (_, 0) => vec![format!("mount/{container}/{path}")],
        (_, layers) => (0..layers)
            .map(|number| format!("layer/{container}/{number}/{path}"))
            .collect(),
    }
}

/// Whether a part is of a writable root layer.
pub fn is_rootfs(id: &str) -> bool {
    id.strip_prefix(ROOTFS)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// A mount that shows a tree: whose processes may have mapped its files, and under which path.
#[derive(Debug, Clone)]
struct View {
    container: String,
    /// Where the container sees it; `/` for its root.
    inside: String,
    /// Which part of the tree it sees.
    beneath: PathBuf,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    /// Nobody writes it: sent once.
    fixed: bool,
    sent: bool,
    sender: Option<TreeSender>,
    views: Vec<View>,
}

#[derive(Debug)]
struct Tree {
    container: String,
    name: String,
    /// The volume's directory, or the root layer.
    path: PathBuf,
    /// 0: it is no stack.
    layers: u32,
    bytes: u64,
}

/// All trees of a pod.
#[derive(Debug, Default)]
#[allow(clippy::struct_field_names)]
pub struct Trees {
    trees: Vec<Tree>,
    /// By id, in the order in which they are sent: what does not change first.
    parts: Vec<(String, Part)>,
    /// Container name and id: a container that was restarted has other trees.
    containers: BTreeMap<String, String>,
}

impl Trees {
    /// The trees of the running containers. A volume that several containers share moves once.
    pub fn of(containers: &[&Container]) -> Self {
        let mut all = Self::default();
        for container in containers {
            if container.state.enum_value_or_default() != ContainerState::CONTAINER_STATE_RUNNING {
                continue;
            }
            all.containers
                .insert(container.name.clone(), container.id.clone());
            if !container.rootfs_upper.is_empty() {
                let root = Mount {
                    destination: ROOTFS.to_owned(),
                    volume: container.rootfs_upper.clone(),
                    ..Mount::default()
                };
                all.add(&container.name, &root);
            }
            for mount in container.mounts.iter().filter(|mount| mount.moves) {
                all.add(&container.name, mount);
            }
        }
        all.parts.sort_by_key(|(_, part)| !part.fixed);
        all
    }

    fn add(&mut self, container: &str, mount: &Mount) {
        let root = mount.destination == ROOTFS;
        let view = View {
            container: container.to_owned(),
            inside: if root { "/" } else { &mount.destination }.to_owned(),
            beneath: PathBuf::from(&mount.beneath),
        };
        let path = PathBuf::from(&mount.volume);
        if let Some(known) = self.trees.iter().find(|tree| tree.path == path) {
            let ids = ids_of(&known.container, &known.name, known.layers);
            for (id, part) in &mut self.parts {
                if ids.contains(id) {
                    part.views.push(view.clone());
                }
            }
            return;
        }
        let layers = mount.layers.len() as u32;
        let paths = if layers == 0 {
            vec![path.clone()]
        } else {
            mount.layers.iter().map(PathBuf::from).collect()
        };
        let ids = ids_of(container, &mount.destination, layers);
        let last = paths.len() - 1;
        for (number, (id, path)) in ids.into_iter().zip(paths).enumerate() {
            let part = Part {
                path,
                fixed: number < last,
                sent: false,
                sender: None,
                views: vec![view.clone()],
            };
            self.parts.push((id, part));
        }
        self.trees.push(Tree {
            container: container.to_owned(),
            name: mount.destination.clone(),
            path,
            layers,
            bytes: 0,
        });
    }

    /// What the manifest says of one container: its trees' names, their sizes, and the numbers of
    /// layers of those that are stacks.
    pub fn describe(&self, container: &str) -> Described {
        let mut described = Described::default();
        for tree in self.trees.iter().filter(|tree| tree.container == container) {
            described.names.push(tree.name.clone());
            described.bytes.push(tree.bytes);
            if tree.layers > 0 {
                described.layers.insert(tree.name.clone(), tree.layers);
            }
        }
        described
    }

    /// Ids of all parts.
    pub fn ids(&self) -> Vec<String> {
        self.parts.iter().map(|(id, _)| id.clone()).collect()
    }

    /// Name and id of the containers whose trees these are.
    pub fn containers(&self) -> &BTreeMap<String, String> {
        &self.containers
    }

    /// Drops what is only needed for further rounds.
    pub fn forget_senders(&mut self) {
        for (_, part) in &mut self.parts {
            part.sender = None;
        }
    }

    /// Measures the trees; returns their bytes on disk.
    pub fn measure(&mut self) -> u64 {
        for tree in &mut self.trees {
            let ids = ids_of(&tree.container, &tree.name, tree.layers);
            let parts = self.parts.iter().filter(|(id, _)| ids.contains(id));
            tree.bytes = parts.map(|(_, part)| machine::tree_size(&part.path)).sum();
        }
        self.trees.iter().map(|tree| tree.bytes).sum()
    }

    /// One round of the parts that the destination chose, while the pod runs.
    pub fn live<W: Write>(
        &mut self,
        out: &mut FrameWriter<W>,
        request: &CopyRequest,
    ) -> Result<Vec<RoundSummary>> {
        let mut done = vec![];
        for (id, part) in &mut self.parts {
            let start = match (request.anew.contains(id), request.have.get(id)) {
                (false, _) if part.fixed && part.sent => continue,
                (false, _) => Start::Delta,
                (true, None) => Start::Whole,
                (true, Some(list)) => Start::Listed(list),
            };
            if request.trees.contains(id) {
                done.push(part.send(out, id, Round::Live, start)?);
            }
        }
        Ok(done)
    }

    /// The last round; nothing of the pod runs. `pids` are its containers' first processes, by
    /// name.
    pub fn last<W: Write>(
        &mut self,
        out: &mut FrameWriter<W>,
        pids: &BTreeMap<String, i32>,
    ) -> Result<Vec<RoundSummary>> {
        let mut done = vec![];
        for (id, part) in &mut self.parts {
            if part.fixed && part.sent {
                continue;
            }
            let mut found = FinalRound::default();
            for view in &part.views {
                if let Some(pid) = pids.get(&view.container) {
                    hints(*pid, view, &mut found);
                }
            }
            done.push(part.send(out, id, Round::Final(&found), Start::Delta)?);
        }
        Ok(done)
    }
}

/// A container's trees, as the manifest names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// Names.
    pub names: Vec<String>,
    /// Bytes on disk of each.
    pub bytes: Vec<u64>,
    /// Number of layers of those that are stacks.
    pub layers: HashMap<String, u32>,
}

/// What a round of a part builds on.
#[derive(Clone, Copy)]
enum Start<'a> {
    /// The round before; without one it is a whole one.
    Delta,
    /// Nothing.
    Whole,
    /// What the destination has found in its place.
    Listed(&'a [u8]),
}

impl Part {
    fn send<W: Write>(
        &mut self,
        out: &mut FrameWriter<W>,
        id: &str,
        round: Round<'_>,
        start: Start<'_>,
    ) -> Result<RoundSummary> {
        let fail =
            |error: mycedrive_transfer::Error| Error::Failed(format!("sending tree {id}: {error}"));
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => TreeSender::new(&self.path).map_err(fail)?,
        };
        match start {
            Start::Delta => {}
            Start::Whole => sender.reset(),
            Start::Listed(list) => sender.resume(list).map_err(fail)?,
        }
        let name = TreeId::new(id).map_err(fail)?;
        let summary = sender.send_round(out, &name, round).map_err(fail)?;
        self.sent = true;
        // A part that does not change needs no index of what the destination has.
        self.sender = (!self.fixed).then_some(sender);
        Ok(summary)
    }
}

/// Files of a tree that processes have mapped shared and writable: no timestamp tells that they
/// changed. `/proc/PID/maps` shows paths as the container sees them.
fn hints(pid: i32, view: &View, found: &mut FinalRound) {
    for pid in machine::pids_beside(pid) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for (inode, path) in maps.lines().filter_map(shared_writable) {
            found.mapped_inodes.push(inode);
            if let Some(relative) = path.strip_prefix(&view.inside) {
                let relative = relative.trim_start_matches('/');
                found.mapped_paths.push(view.beneath.join(relative));
            }
        }
    }
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
mod tests;
