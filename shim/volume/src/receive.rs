//! Receive Checkpoint: layers of another node's stack become this volume's. Until [`commit`]
//! the volume beside the folder stays what it was.

use std::path::{Path, PathBuf};

use crate::Steps;
use crate::end::escaped;
use crate::entries::Tree;
use crate::error::{Error, Result};
use crate::init::{attributes, attributes_of_layer, put, remove};
use crate::layout::{FOLDER, Found, Layout, Phase, State, make_dir, recover, sync};
use crate::room;

/// Most layers that another node may send, the base counted.
pub const MAX_LAYERS: u32 = 64;

/// Prepares for `layers` layers (the base counted) and returns their directories, the base first.
/// What an interrupted attempt with as many layers left is still in them. A stack that was
/// complete here is taken apart into what it holds: nobody may have it mounted.
pub fn begin(volume: &Path, layers: u32) -> Result<Vec<PathBuf>> {
    let layout = Layout::of(volume);
    if layers == 0 || layers > MAX_LAYERS {
        let reason = format!("{layers} layers were announced, 1 to {MAX_LAYERS} are possible");
        return Err(Error::state(volume, reason));
    }
    let sealed = layers - 1;
    let wanted = State::new(Phase::Receive, sealed);
    match recover(volume, &mut crate::undisturbed)? {
        Found::Foreign => {
            let reason = format!("it has an entry {FOLDER} of its own; rename that");
            return Err(Error::state(volume, reason));
        }
        Found::Plain => create(&layout, wanted)?,
        Found::Stack(state) if state == wanted => {}
        Found::Stack(state) if state.phase == Phase::Receive => {
            discard(volume)?;
            create(&layout, wanted)?;
        }
        Found::Stack(_) => {
            crate::end(volume, &mut crate::undisturbed)?;
            create(&layout, wanted)?;
        }
    }
    let mut all = vec![layout.part("base")];
    all.extend((1..=sealed).map(|number| layout.layer(number, wanted)));
    if let Err(error) = room::keep(&layout) {
        discard(volume)?;
        return Err(error);
    }
    room::with(&layout, || {
        for layer in &all {
            make_dir(layer)?;
        }
        // The other node may have merged layers into its base.
        escaped(&layout)
    })?;
    Ok(all)
}

fn create(layout: &Layout, state: State) -> Result<()> {
    let kept = attributes(&layout.volume)?;
    layout.create(state)?;
    put(&layout.part("root"), &kept)
}

/// Everything has arrived: the volume becomes the stack of it, with an empty upper. What the
/// volume held before goes. After a crash, see [`crate::recover`].
pub fn commit(volume: &Path, steps: Steps<'_>) -> Result<()> {
    let layout = Layout::of(volume);
    let state = match layout.load()? {
        Found::Stack(state) if matches!(state.phase, Phase::Receive | Phase::Commit) => state,
        _ => return Err(Error::state(volume, "no layers were received")),
    };
    room::with(&layout, || replace(&layout, state, steps))
}

fn replace(layout: &Layout, state: State, steps: Steps<'_>) -> Result<()> {
    steps();
    layout.save(state.to(Phase::Commit))?;
    steps();
    let plain = Tree::open(&layout.volume)?;
    for entry in plain.list(b"")? {
        if entry.path != FOLDER.as_bytes() {
            plain.remove(&entry.path)?;
            steps();
        }
    }
    let newest = if state.sealed == 0 {
        layout.part("base")
    } else {
        layout.layer(state.sealed, state)
    };
    put(&layout.part("upper"), &attributes_of_layer(&newest)?)?;
    make_dir(&layout.part("work"))?;
    steps();
    sync(&layout.folder)?;
    layout.save(state.to(Phase::Stack))?;
    steps();
    Ok(())
}

/// Undoes [`commit`] of a stack in which nothing ran: its layers are received ones again. Nobody
/// may have it mounted.
pub fn uncommit(volume: &Path) -> Result<()> {
    let layout = Layout::of(volume);
    match recover(volume, &mut crate::undisturbed)? {
        Found::Stack(state) if state.phase == Phase::Stack => {
            layout.save(state.to(Phase::Receive))?;
            let folder = Tree::open(&layout.folder)?;
            folder.remove(b"upper")?;
            folder.remove(b"work")
        }
        _ => Ok(()),
    }
}

/// Forgets what was received; the volume is plain again, as it was before.
pub fn discard(volume: &Path) -> Result<()> {
    let layout = Layout::of(volume);
    match layout.load()? {
        Found::Stack(state) if state.phase == Phase::Receive => {
            remove(&layout, &mut crate::undisturbed)
        }
        _ => Ok(()),
    }
}
