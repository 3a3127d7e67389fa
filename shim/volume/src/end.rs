//! End: a stack becomes a plain directory again. And what needs the same care: sealing a layer,
//! and merging old ones.

use std::fs;
use std::path::Path;

use crate::Steps;
use crate::entries::{ESCAPED, LIFTED, OVERLAY, Tree};
use crate::error::{Error, Result};
use crate::init::{attributes, attributes_of_layer, put, remove};
use crate::layout::{FOLDER, Found, Layout, Phase, State, make_dir, recover, sync};
use crate::merge::merge;
use crate::redirect::Redirects;
use crate::room;

/// More sealed layers than this are merged into the base. OverlayFS takes 500; each one costs at
/// every lookup.
const MAX_SEALED: u32 = 32;

/// File that says: entries of the base have a container's own attributes under the names that
/// OverlayFS keeps them under.
const OWN: &str = "own";
/// The same file when none has such a name any more: all have [`LIFTED`] ones. In two turns, as
/// what a container calls `trusted.overlay.overlay.X` would lose two beginnings if it was met
/// twice: under another hard link, or after a crash.
const OWN_LIFTED: &str = "own-lifted";

/// Folds a stack back: its layers are merged into the base, oldest first, and the base's content
/// moves to where it was. Nobody may have it mounted. A plain volume stays as it is.
///
/// After a crash, see [`crate::recover`].
pub fn end(volume: &Path, steps: Steps<'_>) -> Result<()> {
    let layout = Layout::of(volume);
    match recover(volume, steps)? {
        Found::Plain | Found::Foreign => Ok(()),
        // Nothing of this node's is in it.
        Found::Stack(state) if state.phase == Phase::Receive => crate::receive::discard(volume),
        Found::Stack(state) => {
            room::give_back(&layout)?;
            let state = state.to(Phase::Fold {
                staged: false,
                all: true,
            });
            layout.save(state)?;
            steps();
            resume(&layout, state, steps)
        }
    }
}

/// Goes on with a fold.
pub(crate) fn resume(layout: &Layout, mut state: State, steps: Steps<'_>) -> Result<()> {
    if state.phase == Phase::Out && !layout.part("base").exists() {
        // All of it is out.
        return remove(layout, steps);
    }
    let base = Tree::open(&layout.part("base"))?;
    while let Phase::Fold { staged, all } = state.phase {
        if state.first > state.sealed + 1 {
            rename_own(layout, &base, steps)?;
            // The volume's directory becomes what the mounted root was.
            put(&layout.part("root"), &attributes(&base.path)?)?;
            steps();
            sync(&base.path)?;
            state = state.to(Phase::Out);
        } else if staged {
            merge_first(layout, state, &base, steps)?;
            state.first += 1;
            state = state.to(if all {
                Phase::Fold { staged: false, all }
            } else {
                Phase::Stack
            });
        } else {
            stage_first(layout, state, &base, steps)?;
            state = state.to(Phase::Fold { staged: true, all });
        }
        layout.save(state)?;
        steps();
    }
    if state.phase == Phase::Out {
        out(layout, &base, steps)
    } else {
        Ok(())
    }
}

/// Says that the base may have [`ESCAPED`] attributes.
pub(crate) fn escaped(layout: &Layout) -> Result<()> {
    let mark = layout.part(OWN);
    if mark.exists() {
        return Ok(());
    }
    fs::File::create(&mark).map_err(Error::io("create", &mark))?;
    sync(&layout.folder)
}

/// Gives a container's own attributes their names. Can be done again.
fn rename_own(layout: &Layout, base: &Tree, steps: Steps<'_>) -> Result<()> {
    let (escaped, lifted) = (layout.part(OWN), layout.part(OWN_LIFTED));
    if escaped.exists() {
        base.rename_attributes(ESCAPED, LIFTED, steps)?;
        sync(&base.path)?;
        fs::rename(&escaped, &lifted).map_err(Error::io("rename", &escaped))?;
        sync(&layout.folder)?;
        steps();
    }
    if lifted.exists() {
        base.rename_attributes(LIFTED, OVERLAY, steps)?;
    }
    Ok(())
}

fn plan(layout: &Layout, state: State) -> std::path::PathBuf {
    layout.part(&format!("plan-{}", state.first))
}

fn stage_first(layout: &Layout, state: State, base: &Tree, steps: Steps<'_>) -> Result<()> {
    let plan = plan(layout, state);
    make_dir(&layout.part("staging"))?;
    let staging = Tree::open(&layout.part("staging"))?;
    let redirects = if plan.exists() {
        Redirects::load(&plan)?
    } else {
        let layer = Tree::open(&layout.layer(state.first, state))?;
        let redirects = Redirects::scan(&layer)?;
        redirects.save(&plan)?;
        redirects
    };
    steps();
    redirects.stage(base, &staging, steps)
}

fn merge_first(layout: &Layout, state: State, base: &Tree, steps: Steps<'_>) -> Result<()> {
    let layer = Tree::open(&layout.layer(state.first, state))?;
    let staging = Tree::open(&layout.part("staging"))?;
    let redirects = Redirects::load(&plan(layout, state))?;
    let own = || escaped(layout);
    merge(&layer, base, &staging, &redirects, &own, steps)
}

/// The base's content moves into the volume's directory.
fn out(layout: &Layout, base: &Tree, steps: Steps<'_>) -> Result<()> {
    let volume = Tree::open(&layout.volume)?;
    for entry in base.list(b"")? {
        let mut to = entry.path.clone();
        if to == FOLDER.as_bytes() {
            // The volume's own entry of the folder's name must go somewhere.
            to.extend_from_slice(b".1");
            let volume = layout.volume.display();
            tracing::warn!(%volume, "an entry that has the folder's name gets the suffix .1");
        }
        base.rename(&entry.path, &volume, &to)?;
        steps();
    }
    sync(&layout.volume)?;
    remove(layout, steps)
}

/// Seals the upper of a stack that nobody has mounted: it becomes the newest sealed layer, and a
/// new empty upper is made. Returns its number. When there are many, the oldest are merged.
///
/// After a crash, see [`crate::recover`].
pub fn create_checkpoint(volume: &Path, steps: Steps<'_>) -> Result<u32> {
    let layout = Layout::of(volume);
    let Found::Stack(mut state) = recover(volume, steps)? else {
        let reason = "it is no stack, so there is no layer to seal";
        return Err(Error::state(volume, reason));
    };
    if state.phase != Phase::Stack {
        let reason = "layers arrive from another node; there is nothing to seal yet";
        return Err(Error::state(volume, reason));
    }
    room::with(&layout, || {
        while state.count() >= MAX_SEALED {
            let fold = Phase::Fold {
                staged: false,
                all: false,
            };
            layout.save(state.to(fold))?;
            steps();
            resume(&layout, state.to(fold), steps)?;
            state.first += 1;
        }
        layout.save(state.to(Phase::Seal))?;
        steps();
        seal(&layout, state, steps)
    })?;
    Ok(state.sealed + 1)
}

/// Goes on with a seal.
pub(crate) fn seal(layout: &Layout, mut state: State, steps: Steps<'_>) -> Result<()> {
    let upper = layout.part("upper");
    state.sealed += 1;
    let layer = layout.layer(state.sealed, state);
    if !layer.exists() {
        fs::rename(&upper, &layer).map_err(Error::io("rename", &upper))?;
        steps();
    }
    put(&upper, &attributes_of_layer(&layer)?)?;
    steps();
    sync(&layout.folder)?;
    layout.save(state.to(Phase::Stack))?;
    steps();
    Ok(())
}
