//! Where trees are received, and how they get to their containers.
//!
//! A writable root layer is received into a folder of the migration: kubelet may replace the
//! container (and with it the layer) while rounds go on. Just before the restore it takes the
//! layer's place. Volumes belong to the pod: a directory is received where it is, the layers of a
//! stack beside what the volume holds, which they replace just before the restore.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use mycedrive_proto::migration::{Manifest, SourceContainer};
use mycedrive_proto::shim::Container;
use mycedrive_transfer::access::copy_tree;
use mycedrive_transfer::{Budget, FrameReader, Section, TreeReceiver, Written};
use mycedrive_volume::attach::Attachments;
use mycedrive_volume::layout::{FOLDER, Phase};
use mycedrive_volume::{Found, find, receive, undisturbed};

use super::early::Early;
use super::meeting::Arrival;
use super::memory::MemoryRounds;
use super::source::{Asked, Obstacle};
use crate::error::{Error, Result};
use crate::source::{ROOTFS, ids_of, is_rootfs};
use crate::{files, image_files, machine};

const MIB: u64 = 1 << 20;
/// Most bytes of the lists of one request; a message has at most 4 MiB.
const MAX_LISTS: usize = 3 << 20;

/// Where each tree is received, with what has arrived so far.
#[derive(Debug, Default)]
pub struct Places {
    paths: BTreeMap<String, PathBuf>,
    receivers: BTreeMap<String, TreeReceiver>,
    /// Volumes that arrive as layers.
    stacks: BTreeSet<PathBuf>,
    /// Layers that do not change on the source.
    fixed: BTreeSet<String>,
    /// Trees whose places were listed for the source.
    listed: BTreeSet<String>,
    memory: MemoryRounds,
    /// Those of the containers that are here.
    images: BTreeMap<String, Container>,
    /// This node's copies of the images are not those of the source.
    other_images: bool,
    budget: Budget,
    /// What was written before the trees were settled early.
    written: Vec<Written>,
    early: Option<Settled>,
}

/// The trees were put into their places before the images came.
#[derive(Debug)]
struct Settled {
    /// Ids of the containers that were here.
    containers: BTreeSet<String>,
    result: Result<()>,
}

fn ids(here: &BTreeMap<String, Arrival>) -> BTreeSet<String> {
    let ids = here.values().map(|arrival| arrival.container.id.clone());
    ids.collect()
}

/// Number of layers of a tree; 0: it is no stack.
fn layers_of(container: &SourceContainer, tree: &str) -> u32 {
    container.layers.get(tree).copied().unwrap_or(0)
}

impl Places {
    /// No places yet; rounds may cost at most `budget`. Memory comes into `memory`.
    pub fn new(budget: Budget, memory: PathBuf) -> Self {
        Self {
            memory: MemoryRounds::new(memory),
            budget,
            ..Self::default()
        }
    }

    /// Finds a place for every tree of the manifest for which there is one by now. A tree whose
    /// place changed comes whole again.
    pub fn find(
        &mut self,
        manifest: &Manifest,
        here: &BTreeMap<String, Arrival>,
        staging: &Path,
    ) -> Result<()> {
        self.images = here
            .values()
            .map(|arrival| &arrival.container)
            .filter(|container| !container.rootfs_lowers.is_empty())
            .map(|container| (container.name.clone(), container.clone()))
            .collect();
        for container in &manifest.containers {
            for (number, tree) in container.trees.iter().enumerate() {
                let bytes = container.tree_bytes.get(number).copied().unwrap_or(0);
                let layers = layers_of(container, tree);
                let ids = ids_of(&container.name, tree, layers);
                if tree == ROOTFS {
                    let folder = staging.join(&container.name);
                    files::make_private_dir(&folder)?;
                    self.place(&ids[0], folder);
                    continue;
                }
                let mount = here.get(&container.name).and_then(|arrival| {
                    let mut mounts = arrival.container.mounts.iter();
                    mounts.find(|mount| mount.destination == *tree && mount.moves)
                });
                let Some(mount) = mount else { continue };
                let volume = PathBuf::from(&mount.volume);
                if ids.iter().all(|id| self.paths.contains_key(id)) && volume.exists() {
                    continue;
                }
                room(&volume, bytes, layers)?;
                self.volume(&ids, &volume, layers)?;
            }
        }
        Ok(())
    }

    fn volume(&mut self, ids: &[String], volume: &Path, layers: u32) -> Result<()> {
        if let Some(at) = Attachments::of_node().mounted_at(volume) {
            return Err(Error::Refused(format!(
                "volume {} is in use on this node (as a stack at {}): stop the pod that uses it",
                volume.display(),
                at.display()
            )));
        }
        if layers == 0 {
            // A stack that was left here is taken apart: its folder would be content.
            mycedrive_volume::end(volume, &mut undisturbed).map_err(stack)?;
            self.place(&ids[0], volume.to_owned());
            return Ok(());
        }
        let paths = receive::begin(volume, layers).map_err(stack)?;
        for (id, path) in ids.iter().zip(paths) {
            self.place(id, path);
        }
        self.fixed.extend(ids[..ids.len() - 1].iter().cloned());
        self.stacks.insert(volume.to_owned());
        Ok(())
    }

    fn place(&mut self, id: &str, path: PathBuf) {
        if self.paths.get(id) != Some(&path) {
            self.receivers.remove(id);
            self.paths.insert(id.to_owned(), path);
        }
    }

    /// Whether something has a place of which no round is here.
    pub fn has_news(&self) -> bool {
        self.paths.keys().any(|id| !self.receivers.contains_key(id))
    }

    /// What the next round is to bring. Reads what earlier attempts left in the places.
    pub fn ask(&mut self) -> Result<Asked> {
        let mut asked = Asked {
            trees: self.paths.keys().cloned().collect(),
            memory_base: self.memory.newest(),
            ..Asked::default()
        };
        if !self.other_images {
            asked.images = self.images.keys().cloned().collect();
        }
        self.listed.clear();
        let mut room = MAX_LISTS;
        for (id, path) in &self.paths {
            if self.receivers.contains_key(id) {
                continue;
            }
            asked.anew.push(id.clone());
            if let Some(list) = mycedrive_transfer::have(path, room).map_err(failed)? {
                room -= list.len();
                asked.have.insert(id.clone(), list);
                self.listed.insert(id.clone());
            }
        }
        Ok(asked)
    }

    /// A round did not come to its end: it is not known what the source thinks is here of what
    /// changes there.
    pub fn broken(&mut self) {
        self.memory.broken();
        let fixed = &self.fixed;
        self.receivers.retain(|id, _| fixed.contains(id));
    }

    /// From now on, pages of the containers' images are to be sent as well. Whether that is news.
    pub const fn share_no_images(&mut self) -> bool {
        !std::mem::replace(&mut self.other_images, true)
    }

    /// The newest round of memory that is here; 0: none.
    pub const fn memory_base(&self) -> u32 {
        self.memory.newest()
    }

    /// Receives one round. `images`: where the memory images go, in the final round; `early`: what
    /// is done before they come. After an error, what had arrived whole is still here.
    pub fn receive(
        &mut self,
        reader: impl io::Read,
        images: Option<&Path>,
        mut early: Option<Early>,
    ) -> Result<u64> {
        let mut frames = FrameReader::new(reader, &self.budget).map_err(failed)?;
        let files = image_files::of(self.images.values());
        while let Some(section) = frames.next_section().map_err(failed)? {
            match section {
                Section::Tree(begin) if self.early.is_some() => {
                    let id = begin.id.as_str();
                    let text = format!("the source sent tree {id} after the images");
                    return Err(Error::Failed(text));
                }
                Section::Tree(begin) => {
                    let id = begin.id.as_str().to_owned();
                    let mut receiver = match self.receivers.remove(&id) {
                        Some(receiver) => receiver,
                        None => self.receiver(&id)?,
                    };
                    receiver
                        .receive_round(&mut frames, &begin)
                        .map_err(failed)?;
                    self.receivers.insert(id, receiver);
                }
                Section::Images(begin) => {
                    if let Some(early) = early.take() {
                        early.settle(self);
                    }
                    self.memory.receive(&mut frames, &begin, images, &files)?;
                }
            }
        }
        self.memory.ended();
        Ok(frames.counts().raw_bytes)
    }

    /// What rounds have written of volumes since this was last asked for. A root layer does not
    /// outlive a loss of power in any case.
    pub fn take_written(&mut self) -> Result<Vec<Written>> {
        let mut all = std::mem::take(&mut self.written);
        for (id, receiver) in &mut self.receivers {
            if !is_rootfs(id.as_str()) {
                all.push(receiver.take_written().map_err(failed)?);
            }
        }
        Ok(all)
    }

    fn receiver(&self, id: &str) -> Result<TreeReceiver> {
        let path = self.paths.get(id).ok_or_else(|| {
            Error::Failed(format!(
                "the source sent tree {id}, which has no place here"
            ))
        })?;
        if self.listed.contains(id) {
            TreeReceiver::listed(path, &self.budget).map_err(failed)
        } else {
            TreeReceiver::new(path, &self.budget).map_err(failed)
        }
    }

    /// Puts the received root layers where the containers' root file systems will be mounted
    /// from, and makes stacks of the received layers, unless that was done early. Fails when a tree
    /// of the manifest did not arrive.
    pub fn settle(
        &mut self,
        manifest: &Manifest,
        here: &BTreeMap<String, Arrival>,
        staging: &Path,
    ) -> Result<()> {
        match self.early.take() {
            None => self.put(manifest, here, staging),
            Some(early) if early.containers == ids(here) => early.result,
            Some(_) => Err(Error::Failed(
                "a container of this pod was made anew while its memory was on its way".to_owned(),
            )),
        }
    }

    /// The same before the images come. [`Self::settle`] then says how it ended; so does this.
    pub fn settle_early(
        &mut self,
        manifest: &Manifest,
        here: &BTreeMap<String, Arrival>,
        staging: &Path,
    ) -> bool {
        let result = self.take_written().and_then(|written| {
            self.written = written;
            self.put(manifest, here, staging)
        });
        let done = result.is_ok();
        let containers = ids(here);
        self.early = Some(Settled { containers, result });
        done
    }

    fn put(
        &mut self,
        manifest: &Manifest,
        here: &BTreeMap<String, Arrival>,
        staging: &Path,
    ) -> Result<()> {
        for container in &manifest.containers {
            for tree in &container.trees {
                for id in ids_of(&container.name, tree, layers_of(container, tree)) {
                    if self.receivers.remove(&id).is_none() {
                        return Err(Error::Failed(format!("tree {id} did not arrive")));
                    }
                }
                if tree != ROOTFS {
                    continue;
                }
                let upper = here
                    .get(&container.name)
                    .map(|arrival| PathBuf::from(&arrival.container.rootfs_upper))
                    .filter(|path| path.is_absolute())
                    .ok_or_else(|| {
                        let name = &container.name;
                        Error::Failed(format!("container {name} has no writable root layer here"))
                    })?;
                settle(&staging.join(&container.name), &upper)?;
            }
        }
        for volume in &self.stacks {
            receive::commit(volume, &mut undisturbed).map_err(stack)?;
        }
        Ok(())
    }
}

/// Before anything of a volume is sent: its disk, or its quota, can hold it.
fn room(volume: &Path, bytes: u64, layers: u32) -> Result<()> {
    let needed = bytes + bytes / 16 + 16 * MIB;
    let free = machine::free_space(volume)?;
    if free >= needed || free + written_over(volume, layers) >= needed {
        return Ok(());
    }
    let obstacle = Obstacle::Space {
        free: free / MIB,
        needed: needed / MIB,
        place: format!("for the volume {}", volume.display()),
    };
    Err(Error::Refused(obstacle.to_string()))
}

/// Bytes of a volume that give way to what arrives: a directory's content, and layers that an
/// earlier attempt left. What is beside layers stays until all of them are here.
fn written_over(volume: &Path, layers: u32) -> u64 {
    if layers == 0 {
        return machine::tree_size(volume);
    }
    match find(volume) {
        Ok(Found::Stack(state)) if state.phase == Phase::Receive => {
            machine::tree_size(&volume.join(FOLDER))
        }
        _ => 0,
    }
}

#[allow(clippy::needless_pass_by_value)]
fn stack(error: mycedrive_volume::Error) -> Error {
    Error::Failed(error.to_string())
}

/// Makes `upper` what `staged` is: by renaming on one file system, by copying otherwise.
fn settle(staged: &Path, upper: &Path) -> Result<()> {
    let device = |path: &Path| -> Result<u64> {
        let metadata = fs::symlink_metadata(path).map_err(Error::io("cannot look at", path))?;
        Ok(metadata.dev())
    };
    if device(staged)? != device(upper)? {
        return copy(staged, upper);
    }
    let mut aside = upper.as_os_str().to_owned();
    aside.push(".replaced");
    let aside = PathBuf::from(aside);
    fs::rename(upper, &aside).map_err(Error::io("cannot set aside", upper))?;
    match fs::rename(staged, upper) {
        Ok(()) => {}
        Err(error) => {
            fs::rename(&aside, upper).map_err(Error::io("cannot put back", upper))?;
            if error.kind() == io::ErrorKind::CrossesDevices {
                return copy(staged, upper);
            }
            return Err(Error::io("cannot move to", upper)(error));
        }
    }
    fs::remove_dir_all(&aside).map_err(Error::io("cannot remove", &aside))
}

/// Copies a tree within this node.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    copy_tree(from, to).map_err(failed)
}

#[allow(clippy::needless_pass_by_value)]
fn failed(error: mycedrive_transfer::Error) -> Error {
    Error::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
