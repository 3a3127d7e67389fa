//! Directories that were renamed in a layer: OverlayFS notes where their lower part is (attribute
//! `redirect`, Documentation/filesystems/overlayfs.rst). Before a layer is merged these parts are
//! set aside, so that a name can be given away and taken by another in any order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Steps;
use crate::entries::{Tree, is_dir, join};
use crate::error::{Error, Result};
use mycedrive_transfer::access::split;

/// A renamed directory of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Redirect {
    /// Where the layer has it.
    path: Vec<u8>,
    /// Where the layers below have it.
    lower: Vec<u8>,
}

/// The renamed directories of a layer, by the layer's name for them.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    all: Vec<Redirect>,
    slots: BTreeMap<Vec<u8>, String>,
}

impl Redirects {
    /// Finds them all.
    pub(crate) fn scan(layer: &Tree) -> Result<Self> {
        let mut all: Vec<Redirect> = Vec::new();
        // Directories with their place in the layers below; None: there is none.
        let mut todo: Vec<(Vec<u8>, Vec<u8>)> = vec![(Vec::new(), Vec::new())];
        while let Some((directory, lower)) = todo.pop() {
            for entry in layer.list(&directory)? {
                if !is_dir(&entry.stat) {
                    continue;
                }
                let name = split(&entry.path).1;
                let below = match layer.overlay(&entry.path, "redirect")? {
                    None => join(&lower, name),
                    Some(target) => {
                        let below = match target.strip_prefix(b"/") {
                            Some(absolute) => absolute.to_vec(),
                            None => join(&lower, &target),
                        };
                        all.push(Redirect {
                            path: entry.path.clone(),
                            lower: below.clone(),
                        });
                        below
                    }
                };
                todo.push((entry.path, below));
            }
        }
        // The deepest first: what was moved out of a directory is not moved with it.
        all.sort_by_key(|one| std::cmp::Reverse((depth(&one.lower), one.lower.clone())));
        Ok(Self::of(all))
    }

    fn of(all: Vec<Redirect>) -> Self {
        let slots = all.iter().enumerate();
        let slots = slots
            .map(|(slot, one)| (one.path.clone(), slot.to_string()))
            .collect();
        Self { all, slots }
    }

    /// Durable when this returns: merging destroys what the scan saw.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let fail = || Error::io("write", file);
        let fresh = file.with_extension("new");
        let text =
            serde_json::to_vec(&self.all).map_err(|error| fail()(std::io::Error::other(error)))?;
        File::create(&fresh)
            .and_then(|mut opened| {
                opened.write_all(&text)?;
                opened.sync_all()
            })
            .map_err(fail())?;
        fs::rename(&fresh, file).map_err(fail())
    }

    /// What [`Self::save`] wrote.
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let text = fs::read(file).map_err(Error::io("read", file))?;
        let all = serde_json::from_slice(&text)
            .map_err(|error| Error::io("read", file)(std::io::Error::other(error)))?;
        Ok(Self::of(all))
    }

    /// Sets the lower parts aside. Done again after a crash, it goes on.
    pub(crate) fn stage(&self, base: &Tree, staging: &Tree, steps: Steps<'_>) -> Result<()> {
        for one in &self.all {
            let slot = self.slots[&one.path].as_bytes();
            let missing = staging.stat(slot)?.is_none();
            if missing && base.stat(&one.lower)?.is_some_and(|stat| is_dir(&stat)) {
                base.rename(&one.lower, staging, slot)?;
                steps();
            }
        }
        Ok(())
    }

    /// Where the lower part of this directory is in the staging directory.
    pub(crate) fn slot(&self, path: &[u8]) -> Option<&[u8]> {
        self.slots.get(path).map(String::as_bytes)
    }

    /// Whether a directory was moved to somewhere beneath `path`.
    pub(crate) fn beneath(&self, path: &[u8]) -> bool {
        let prefix = join(path, b"");
        let mut after = self.slots.range(prefix.clone()..);
        after
            .next()
            .is_some_and(|(path, _)| path.starts_with(&prefix))
    }
}

fn depth(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').count() - 1
}
