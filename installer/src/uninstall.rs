//! Uninstalling: every path gets back what was there.

use crate::containerd::edit::remove_handler;
use crate::error::Result;
use crate::install::restore;
use crate::record::{BACKUPS, Entry, MANIFEST, Manifest, Purpose, Was, backup_path};
use crate::root::{Attributes, CONFIG_LIMIT, Root};
use crate::transaction::{self, Action, Change, Steps};

/// What an uninstallation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// False if nothing was installed.
    pub installed: bool,
    /// Paths that were put back, directories left out.
    pub restored: Vec<String>,
    /// True if a containerd configuration is among them.
    pub runtime_changed: bool,
    /// What was left, and why.
    pub notes: Vec<String>,
}

/// Puts back what the installation found. A file that somebody edited since
/// keeps the edit (containerd's loses only the handler), unless `force`.
pub fn uninstall(root: &Root, force: bool, steps: &mut dyn Steps) -> Result<Outcome> {
    let _lock = root.lock()?;
    transaction::recover(root)?;
    let mut outcome = Outcome::default();
    let Some(manifest) = Manifest::load(root)? else {
        return Ok(outcome);
    };
    outcome.installed = true;
    let mut changes = Vec::new();
    let mut directories = Vec::new();
    for entry in manifest.entries.iter().rev() {
        if entry.purpose == Purpose::Directory {
            directories.push(entry.path.clone());
            continue;
        }
        if let Some(action) = undo(root, entry, force, &mut outcome)? {
            outcome.runtime_changed |= entry.purpose == Purpose::Runtime;
            outcome.restored.push(entry.path.clone());
            changes.push(Change {
                path: entry.path.clone(),
                action,
            });
        }
    }
    let remove = |path: String| Change {
        path,
        action: Action::Remove,
    };
    for entry in &manifest.entries {
        if let Was::File { digest, .. } = &entry.before {
            changes.push(remove(backup_path(BACKUPS, digest)?));
        }
    }
    changes.push(remove(MANIFEST.to_owned()));
    changes.extend(directories.iter().map(|path| Change {
        path: path.clone(),
        action: Action::RemoveDir,
    }));
    transaction::run(root, steps, &changes)?;
    // The directories that held the journal until now.
    for path in directories {
        if !root.remove_dir(&path)? {
            outcome
                .notes
                .push(format!("{path} stays: there is something in it"));
        }
    }
    Ok(outcome)
}

fn undo(root: &Root, entry: &Entry, force: bool, outcome: &mut Outcome) -> Result<Option<Action>> {
    let path = &entry.path;
    let (now, _) = Was::look(root, path)?;
    if now == entry.before {
        return Ok(None);
    }
    if now == entry.after || force {
        return restore(root, &entry.before).map(Some);
    }
    if entry.purpose == Purpose::Runtime
        && let Was::File { mode, uid, gid, .. } = now
        && let Some(bytes) = root.read(path, CONFIG_LIMIT)?
        && let Ok(text) = String::from_utf8(bytes)
        && let Ok(Some(rest)) = remove_handler(path, &text)
    {
        outcome.notes.push(format!(
            "{path} was edited since; only the handler was taken out"
        ));
        let attributes = Attributes { mode, uid, gid };
        return Ok(Some(Action::File(rest.into_bytes(), attributes)));
    }
    outcome.notes.push(format!(
        "{path} was changed since and stays; --force puts back what was there before"
    ));
    Ok(None)
}
