//! Installing: work out what should be there, compare, change what differs.

use std::path::{Path, PathBuf};

use crate::containerd::{self, Distribution, Handler};
use crate::criu_conf;
use crate::error::{Error, Result};
use crate::record::{BACKUPS, Entry, MANIFEST, Manifest, Purpose, Was, backup_path, read_backup};
use crate::root::{Attributes, Kind, Root};
use crate::transaction::{self, Action, Change, Steps, new_file};
use crate::versions::{PATH, Versions};

/// Where programs go unless the caller says otherwise.
pub const BIN_DIR: &str = "/usr/local/bin";
const LIB_DIR: &str = "/usr/local/lib/mycedrive";
const CONFIG: &str = "/etc/mycedrive/config.toml";
const UNIT: &str = "/etc/systemd/system/mycedrive.service";
const UNIT_LINK: &str = "/etc/systemd/system/multi-user.target.wants/mycedrive.service";
const UNIT_TEXT: &str = include_str!("assets/mycedrive.service");
const CONFIG_TEXT: &str = include_str!("assets/config.toml");

/// The shim's file name; containerd derives it from the runtime type.
pub const SHIM: &str = "containerd-shim-mycedrive-v2";
/// The daemon and command line.
pub const DAEMON: &str = "mycedrive";
/// Parts that only DMTCP needs; installed where they are present.
const OPTIONAL: [&str; 2] = ["libmycedrive_dmtcp_plugin.so", "mycedrive-init"];

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
    let desired = desired(root, options, &old, &mut outcome)?;
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

fn desired(
    root: &Root,
    options: &Options,
    old: &Manifest,
    outcome: &mut Outcome,
) -> Result<Vec<Desired>> {
    let mut desired = programs(options, outcome)?;
    outcome.distributions = if options.distributions.is_empty() {
        containerd::detect(root)
    } else {
        options.distributions.clone()
    };
    if outcome.distributions.is_empty() && options.runtime_handler {
        return Err(Error::NoContainerd {
            root: root.path().to_path_buf(),
        });
    }
    desired.extend(unit(root, options, outcome)?);
    desired.extend(node_config(root, old, &outcome.distributions)?);
    desired.extend(criu(root)?);
    if !options.runtime_handler {
        outcome
            .notes
            .push("containerd's configuration was left alone, as asked for".to_owned());
        return Ok(desired);
    }
    let handler = Handler {
        runtime_path: (!PATH.contains(&options.bin_dir.as_str()))
            .then(|| format!("{}/{SHIM}", options.bin_dir)),
    };
    let versions = Versions::find(root);
    let mut planned: Vec<String> = Vec::new();
    for distribution in outcome.distributions.clone() {
        let plan = containerd::plan(
            root,
            distribution,
            &handler,
            options.config_version,
            &versions,
        )?;
        outcome.notes.extend(plan.notes);
        for file in plan.files {
            let attributes = kept_attributes(root, &file.path)?;
            planned.push(file.path.clone());
            desired.push(Desired {
                path: file.path,
                purpose: Purpose::Runtime,
                action: Action::File(file.text.into_bytes(), attributes),
            });
        }
    }
    // A file that an older run wrote and that is not the right place any more.
    for entry in &old.entries {
        if entry.purpose == Purpose::Runtime
            && !planned.is_empty()
            && !planned.contains(&entry.path)
            && Was::look(root, &entry.path)?.0 == entry.after
        {
            desired.push(Desired {
                path: entry.path.clone(),
                purpose: Purpose::Runtime,
                action: restore(root, &entry.before)?,
            });
        }
    }
    Ok(desired)
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

fn kept_attributes(root: &Root, path: &str) -> Result<Attributes> {
    Ok(match root.kind(path)? {
        Kind::File => root.attributes(path)?.unwrap_or(new_file(0o644)),
        _ => new_file(0o644),
    })
}

fn programs(options: &Options, outcome: &mut Outcome) -> Result<Vec<Desired>> {
    let mut desired = Vec::new();
    for name in [SHIM, DAEMON] {
        let bytes = read_program(&options.from.join(name))?.ok_or_else(|| Error::NoProgram {
            name,
            searched: options.from.clone(),
        })?;
        desired.push(program(&options.bin_dir, name, bytes));
    }
    let mut absent = Vec::new();
    for name in OPTIONAL {
        match read_program(&options.from.join(name))? {
            Some(bytes) => desired.push(program(LIB_DIR, name, bytes)),
            None => absent.push(name),
        }
    }
    if !absent.is_empty() {
        outcome.notes.push(format!(
            "{} not in {}: the DMTCP engine is not available, CRIU is",
            absent.join(" and "),
            options.from.display()
        ));
    }
    Ok(desired)
}

fn program(dir: &str, name: &str, bytes: Vec<u8>) -> Desired {
    Desired {
        path: format!("{dir}/{name}"),
        purpose: Purpose::Program,
        action: Action::File(bytes, new_file(0o755)),
    }
}

fn read_program(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::ReadProgram {
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn unit(root: &Root, options: &Options, outcome: &mut Outcome) -> Result<Vec<Desired>> {
    let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]
        .iter()
        .any(|path| root.is_file(path));
    if !systemd && !root.is_dir("/etc/systemd/system") {
        outcome.notes.push(format!(
            "no systemd here: have `{}/{DAEMON} serve` started and kept running by other means",
            options.bin_dir
        ));
        return Ok(Vec::new());
    }
    let mut desired = vec![Desired {
        path: UNIT.to_owned(),
        purpose: Purpose::Unit,
        action: Action::File(
            UNIT_TEXT.replace("@BIN@", &options.bin_dir).into_bytes(),
            new_file(0o644),
        ),
    }];
    match root.kind(UNIT_LINK)? {
        // Whatever enables the unit already is somebody's decision.
        Kind::Link(_) => {}
        _ => desired.push(Desired {
            path: UNIT_LINK.to_owned(),
            purpose: Purpose::Unit,
            action: Action::Link(UNIT.to_owned()),
        }),
    }
    Ok(desired)
}

fn node_config(
    root: &Root,
    old: &Manifest,
    distributions: &[Distribution],
) -> Result<Option<Desired>> {
    let path = root.follow(CONFIG)?;
    let ours = match old.entry(&path) {
        Some(entry) => Was::look(root, &path)?.0 == entry.after,
        None => root.kind(&path)? == Kind::Absent,
    };
    let mut text = CONFIG_TEXT.to_owned();
    if let Some(socket) = distributions.last().and_then(|last| last.socket()) {
        text += &format!("\n[containerd]\nsocket = \"{socket}\"\n");
    }
    Ok(ours.then(|| Desired {
        path,
        purpose: Purpose::Config,
        action: Action::File(text.into_bytes(), new_file(0o644)),
    }))
}

fn criu(root: &Root) -> Result<Option<Desired>> {
    let path = root.follow(criu_conf::PATH)?;
    let existing = containerd::read_text(root, &path)?;
    let attributes = kept_attributes(root, &path)?;
    Ok(criu_conf::merge(existing.as_deref()).map(|text| Desired {
        path,
        purpose: Purpose::Criu,
        action: Action::File(text.into_bytes(), attributes),
    }))
}
