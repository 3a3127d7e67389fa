//! The files that should be there.

use std::path::Path;

use super::{DAEMON, Desired, Options, Outcome, SHIM, restore};
use crate::containerd::{self, Distribution, Handler};
use crate::criu_conf;
use crate::error::{Error, Result};
use crate::record::{Manifest, Purpose, Was};
use crate::root::{Attributes, Kind, Root};
use crate::transaction::{Action, new_file};
use crate::versions::{PATH, Versions};

const LIB_DIR: &str = "/usr/local/lib/mycedrive";
const CONFIG: &str = "/etc/mycedrive/config.toml";
const UNIT: &str = "/etc/systemd/system/mycedrive.service";
const UNIT_LINK: &str = "/etc/systemd/system/multi-user.target.wants/mycedrive.service";
const UNIT_TEXT: &str = include_str!("../assets/mycedrive.service");
const CONFIG_TEXT: &str = include_str!("../assets/config.toml");

/// What only DMTCP needs; installed where it is present.
const OPTIONAL: [&str; 1] = ["libmycedrive_dmtcp.so"];

/// Works out every file; notes go to `outcome`.
pub(super) fn desired(
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
            versions,
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
            "{} not in {}: pods under DMTCP cannot move, pods under CRIU can",
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
    let socket = distributions
        .last()
        .and_then(|last| last.socket())
        .map(|socket| format!("\n[containerd]\nsocket = \"{socket}\"\n"))
        .unwrap_or_default();
    let text = format!("{CONFIG_TEXT}{socket}");
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
