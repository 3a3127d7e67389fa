//! Init: a plain directory becomes a stack. Only names move.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use mycedrive_transfer::access::Attributes;

use crate::Steps;
use crate::entries::{Tree, is_mark};
use crate::error::{Error, Result};
use crate::layout::{FOLDER, Found, Layout, Phase, State, make_dir, sync};
use crate::room;

/// Makes a stack of a plain volume: its content becomes the base. Everything that holds the
/// directory itself (a bind mount, a quota) goes on holding it.
///
/// Nobody may use the volume. After a crash, see [`crate::recover`].
pub fn init(volume: &Path, steps: Steps<'_>) -> Result<()> {
    let layout = Layout::of(volume);
    layout.remove_unfinished()?;
    if layout.load()? != Found::Plain {
        return Err(Error::state(volume, "it is no plain directory"));
    }
    let attributes = attributes(volume)?;
    steps();
    layout.create(State::new(Phase::Init, 0))?;
    steps();
    put(&layout.part("root"), &attributes)?;
    steps();
    for name in ["base", "upper", "work"] {
        make_dir(&layout.part(name))?;
        steps();
    }
    room::keep(&layout)?;
    steps();
    room::with(&layout, || fill(&layout, &attributes, steps))
}

/// The content becomes the base.
fn fill(layout: &Layout, attributes: &Attributes, steps: Steps<'_>) -> Result<()> {
    let (from, to) = (
        Tree::open(&layout.volume)?,
        Tree::open(&layout.part("base"))?,
    );
    for entry in from.list(b"")? {
        if entry.path != FOLDER.as_bytes() {
            from.rename(&entry.path, &to, &entry.path)?;
            steps();
        }
    }
    for name in ["base", "upper"] {
        put(&layout.part(name), attributes)?;
        steps();
    }
    sync(&layout.part("base"))?;
    sync(&layout.volume)?;
    layout.save(State::new(Phase::Stack, 0))?;
    steps();
    Ok(())
}

/// Undoes an init that was cut: the content goes back to where it was.
pub(crate) fn undo(layout: &Layout, steps: Steps<'_>) -> Result<()> {
    let base = layout.part("base");
    if base.exists() {
        let (from, to) = (Tree::open(&base)?, Tree::open(&layout.volume)?);
        for entry in from.list(b"")? {
            from.rename(&entry.path, &to, &entry.path)?;
            steps();
        }
        sync(&layout.volume)?;
    }
    remove(layout, steps)
}

/// Removes the folder, which holds nothing of the volume's content any more, and gives the
/// volume's directory the attributes that `root` keeps for it.
pub(crate) fn remove(layout: &Layout, steps: Steps<'_>) -> Result<()> {
    let root = layout.part("root");
    // Read before: what is removed below alters the directory's times.
    let kept = root.exists().then(|| attributes(&root)).transpose()?;
    let folder = Tree::open(&layout.folder)?;
    for entry in folder.list(b"")? {
        if entry.path != b"root" {
            folder.remove(&entry.path)?;
            steps();
        }
    }
    if let Some(kept) = &kept {
        put(&layout.volume, kept)?;
        steps();
        fs::remove_dir(&root).map_err(Error::io("remove", &root))?;
        steps();
    }
    fs::remove_dir(&layout.folder).map_err(Error::io("remove", &layout.folder))?;
    steps();
    if let Some(kept) = &kept {
        put(&layout.volume, kept)?;
    }
    sync(&layout.volume)
}

/// Attributes of a directory.
pub(crate) fn attributes(directory: &Path) -> Result<Attributes> {
    let opened = File::open(directory).map_err(Error::io("open", directory))?;
    Attributes::of(opened.as_fd()).map_err(Error::io("read the attributes of", directory))
}

/// Attributes of a layer's root, without OverlayFS's own.
pub(crate) fn attributes_of_layer(layer: &Path) -> Result<Attributes> {
    Ok(attributes(layer)?.without(is_mark))
}

/// Gives a directory, made if need be, these attributes.
pub(crate) fn put(directory: &Path, attributes: &Attributes) -> Result<()> {
    make_dir(directory)?;
    let opened = File::open(directory).map_err(Error::io("open", directory))?;
    attributes
        .apply(opened.as_fd())
        .map_err(Error::io("set the attributes of", directory))
}
