//! Installing: work out what should be there, compare, change what differs.

mod desired;

use std::path::{Path, PathBuf};

use crate::containerd::Distribution;
use crate::error::Result;
use crate::record::{BACKUPS, Entry, MANIFEST, Manifest, Purpose, Was, backup_path, read_backup};
use crate::root::{Attributes, Kind, Root};
use crate::transaction::{self, Action, Change, Steps, new_file};

/// Where programs go unless the caller says otherwise.
pub const BIN_DIR: &str = "/usr/local/bin";
/// The shim's file name; containerd derives it from the runtime type.
pub const SHIM: &str = "containerd-shim-mycedrive-v2";
/// The daemon and command line.
pub const DAEMON: &str = "mycedrive";
/// What the caller wants.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory on this machine with the programs.
    pub from: PathBuf,
    /// Directory inside the root that gets them.
    pub bin_dir: String,
    /// Which containerd to configure; empty: every one that is found.
    pub distributions: Vec<Distribution>,
    /// Version of a containerd configuration that has to be written anew.
    pub config_version: Option<u32>,
    /// Whether containerd's configuration is touched at all.
    pub runtime_handler: bool,
}

impl Options {
    /// Programs from `from`, everything else as it is found.
    pub fn new(from: &Path) -> Self {
        Self {
            from: from.to_path_buf(),
            bin_dir: BIN_DIR.to_owned(),
            distributions: Vec::new(),
            config_version: None,
            runtime_handler: true,
        }
    }
}

/// What an installation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Paths that changed, directories left out.
    pub changed: Vec<String>,
    /// True if a containerd configuration is among them.
    pub runtime_changed: bool,
    /// True if a former installation had been cut off and was undone first.
    pub recovered: bool,
    /// The distributions that were configured.
    pub distributions: Vec<Distribution>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

struct Desired {
    path: String,
    purpose: Purpose,
    action: Action,
}

/// Installs, or brings an installation up to date. Either everything is done,
/// or the tree is as it was.
pub fn install(root: &Root, options: &Options, steps: &mut dyn Steps) -> Result<Outcome> {
    let _lock = root.lock()?;
    let mut outcome = Outcome {
        recovered: transaction::recover(root)?,
        ..Outcome::default()
    };
    let manifest = Manifest::load(root)?;
    let old = manifest.clone().unwrap_or_default();
    let desired = desired::desired(root, options, &old, &mut outcome)?;
    let mut new = Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..old.clone()
    };
    let mut changes = Vec::new();
    let mut kept = Vec::new();
    for Desired {
        path,
        purpose,
        action,
    } in desired
    {
        let (now, content) = Was::look(root, &path)?;
        let after = after(&action);
        if now == after {
            continue;
        }
        if matches!(now, Was::Dir { .. }) {
            return Err(crate::root::wrong_kind(
                &path,
                &Kind::Dir,
                "a regular file or nothing",
            ));
        }
        outcome.changed.push(path.clone());
        outcome.runtime_changed |= purpose == Purpose::Runtime;
        for dir in root.missing_parents(&path) {
            make_dir(&mut new, &mut changes, dir, 0o755);
        }
        if let Some(entry) = new.entries.iter_mut().find(|entry| entry.path == path) {
            entry.after = after;
        } else {
            if let Was::File { digest, .. } = &now {
                kept.push((digest.clone(), content));
            }
            new.entries.push(Entry {
                path: path.clone(),
                purpose,
                before: now,
                after,
            });
        }
        changes.push(Change { path, action });
    }
    if outcome.changed.is_empty() && manifest.is_some() {
        return Ok(outcome);
    }
    changes.extend(record(root, &mut new, kept)?);
    transaction::run(root, steps, &changes)?;
    Ok(outcome)
}

fn after(action: &Action) -> Was {
    match action {
        Action::File(bytes, attributes) => Was::of_file(bytes, *attributes),
        Action::Link(target) => Was::Link {
            target: target.clone(),
        },
        Action::Dir(mode) => Was::Dir { mode: *mode },
        Action::Remove | Action::RemoveDir => Was::Absent,
    }
}

fn make_dir(manifest: &mut Manifest, changes: &mut Vec<Change>, path: String, mode: u32) {
    if changes.iter().any(|change| change.path == path) {
        return;
    }
    if manifest.entry(&path).is_none() {
        manifest.entries.push(Entry {
            path: path.clone(),
            purpose: Purpose::Directory,
            before: Was::Absent,
            after: Was::Dir { mode },
        });
    }
    changes.push(Change {
        path,
        action: Action::Dir(mode),
    });
}

/// The changes that keep former contents and the manifest.
fn record(
    root: &Root,
    manifest: &mut Manifest,
    kept: Vec<(String, Vec<u8>)>,
) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for dir in root.missing_parents(&format!("{BACKUPS}/x")) {
        let private = dir.starts_with("/var/lib/mycedrive");
        make_dir(
            manifest,
            &mut changes,
            dir,
            if private { 0o700 } else { 0o755 },
        );
    }
    for (digest, bytes) in kept {
        changes.push(Change {
            path: backup_path(BACKUPS, &digest)?,
            action: Action::File(bytes, new_file(0o600)),
        });
    }
    changes.push(Change {
        path: MANIFEST.to_owned(),
        action: Action::File(manifest.to_bytes(), new_file(0o600)),
    });
    Ok(changes)
}

/// The action that puts back what an entry found.
pub(crate) fn restore(root: &Root, before: &Was) -> Result<Action> {
    Ok(match before {
        Was::Absent => Action::Remove,
        Was::Dir { mode } => Action::Dir(*mode),
        Was::Link { target } => Action::Link(target.clone()),
        Was::File {
            digest,
            mode,
            uid,
            gid,
        } => Action::File(
            read_backup(root, BACKUPS, digest)?,
            Attributes {
                mode: *mode,
                uid: *uid,
                gid: *gid,
            },
        ),
    })
}
