//! Where trees are received, and how they get to their containers.
//!
//! A writable root layer is received into a folder of the migration: kubelet may replace the
//! container (and with it the layer) while rounds go on. Just before the restore it takes the
//! layer's place. Mounts belong to the pod and are received where they are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use mycedrive_proto::migration::Manifest;
use mycedrive_transfer::{
    Budget, FinalRound, FrameReader, FrameWriter, Options, Round, Section, TreeId, TreeReceiver,
    TreeSender, receive_images,
};

use super::meeting::Arrival;
use crate::blocks::BlockReader;
use crate::error::{Error, Result};
use crate::files;
use crate::source::{ROOTFS, id_of};

/// Where each tree is received, with what has arrived so far.
#[derive(Debug, Default)]
pub struct Places {
    paths: BTreeMap<String, PathBuf>,
    receivers: BTreeMap<String, TreeReceiver>,
    budget: Budget,
}

impl Places {
    /// No places yet; rounds may cost at most `budget`.
    pub fn new(budget: Budget) -> Self {
        Self {
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
        for container in &manifest.containers {
            for tree in &container.trees {
                let id = id_of(&container.name, tree);
                let path = if tree == ROOTFS {
                    let folder = staging.join(&container.name);
                    files::make_private_dir(&folder)?;
                    folder
                } else {
                    let mount = here.get(&container.name).and_then(|arrival| {
                        let mut mounts = arrival.container.mounts.iter();
                        mounts.find(|mount| mount.destination == *tree)
                    });
                    match mount {
                        Some(mount) => PathBuf::from(&mount.source),
                        None => continue,
                    }
                };
                if self.paths.get(&id) != Some(&path) {
                    self.receivers.remove(&id);
                    self.paths.insert(id, path);
                }
            }
        }
        Ok(())
    }

    /// Ids of the trees that have a place.
    pub fn ids(&self) -> Vec<String> {
        self.paths.keys().cloned().collect()
    }

    /// Of those, the ones of which nothing is here.
    pub fn anew(&self) -> Vec<String> {
        self.paths
            .keys()
            .filter(|id| !self.receivers.contains_key(*id))
            .cloned()
            .collect()
    }

    /// Receives one round. `images`: where the memory images go, in the final round.
    pub fn receive(&mut self, reader: BlockReader, images: Option<&Path>) -> Result<u64> {
        let mut frames = FrameReader::new(reader, &self.budget).map_err(failed)?;
        while let Some(section) = frames.next_section().map_err(failed)? {
            match (section, images) {
                (Section::Tree(begin), _) => {
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
                (Section::Images(begin), Some(folder)) => {
                    receive_images(&mut frames, &begin, folder).map_err(failed)?;
                }
                (Section::Images(_), None) => {
                    let text = "the source sent memory images before the freeze";
                    return Err(Error::Failed(text.to_owned()));
                }
            }
        }
        Ok(frames.counts().raw_bytes)
    }

    fn receiver(&self, id: &str) -> Result<TreeReceiver> {
        let path = self.paths.get(id).ok_or_else(|| {
            Error::Failed(format!(
                "the source sent tree {id}, which has no place here"
            ))
        })?;
        TreeReceiver::new(path, &self.budget).map_err(failed)
    }

    /// Puts the received root layers where the containers' root file systems will be mounted
    /// from. Fails when a tree of the manifest did not arrive.
    pub fn settle(
        &mut self,
        manifest: &Manifest,
        here: &BTreeMap<String, Arrival>,
        staging: &Path,
    ) -> Result<()> {
        for container in &manifest.containers {
            for tree in &container.trees {
                let id = id_of(&container.name, tree);
                if self.receivers.remove(&id).is_none() {
                    return Err(Error::Failed(format!("tree {id} did not arrive")));
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
        Ok(())
    }
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

/// Copies a tree within this node, exactly, with the code that copies it between nodes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let (reader, writer) =
        io::pipe().map_err(|error| Error::Failed(format!("cannot make a pipe: {error}")))?;
    let budget = Budget::default();
    thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<()> {
            let mut out = FrameWriter::new(writer, &Options::default()).map_err(failed)?;
            let id = TreeId::new("copy").map_err(failed)?;
            let mut sender = TreeSender::new(from).map_err(failed)?;
            let kind = FinalRound::default();
            sender
                .send_round(&mut out, &id, Round::Final(&kind))
                .map_err(failed)?;
            out.finish().map(drop).map_err(failed)
        });
        let mut frames = FrameReader::new(reader, &budget).map_err(failed)?;
        let mut receiver = TreeReceiver::new(to, &budget).map_err(failed)?;
        while let Some(section) = frames.next_section().map_err(failed)? {
            if let Section::Tree(begin) = section {
                receiver
                    .receive_round(&mut frames, &begin)
                    .map_err(failed)?;
            }
        }
        drop(frames);
        sending
            .join()
            .map_err(|_| Error::Failed("the copy of a root layer panicked".to_owned()))?
    })
}

#[allow(clippy::needless_pass_by_value)]
fn failed(error: mycedrive_transfer::Error) -> Error {
    Error::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_takes_the_place_of_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let (staged, upper) = (folder.path().join("staged"), folder.path().join("upper"));
        for way in ["rename", "copy"] {
            let _ = fs::remove_dir_all(&upper);
            fs::create_dir_all(staged.join("etc")).unwrap();
            fs::write(staged.join("etc/a"), "b").unwrap();
            fs::create_dir_all(&upper).unwrap();
            fs::write(upper.join("old"), "x").unwrap();
            match way {
                "rename" => settle(&staged, &upper).unwrap(),
                _ => copy(&staged, &upper).unwrap(),
            }
            assert_eq!(fs::read_to_string(upper.join("etc/a")).unwrap(), "b");
            assert!(!upper.join("old").exists(), "{way}");
            assert!(!folder.path().join("upper.replaced").exists());
        }
    }
}
