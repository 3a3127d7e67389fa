//! Changing an OCI spec so that its program runs under DMTCP, or comes out of DMTCP's images.
//!
//! Only the command line, the mounts below one directory and, where the image lacks a library,
//! `LD_LIBRARY_PATH` change, and two calls are answered otherwise ([`answers`]). User, capabilities,
//! root, working directory and streams stay.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::answers;
use super::fit::Fit;
use super::installed::Installation;
use super::layout::{self, Folder};
use super::message::Dialect;
use super::workarounds;
use crate::EngineError;

/// Our init, compiled by `build.rs`.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
/// Where it is kept on the node: not in `/run`, from which many nodes let nothing run.
const KEPT: &str = "/var/lib/mycedrive/dmtcp";

/// What the container's first program is to do.
pub(super) enum Task<'a> {
    /// Start the spec's own program.
    Launch,
    /// Come out of images.
    Restart {
        /// Directory of the node with the images.
        folder: &'a Path,
        /// Their names in it.
        images: &'a [String],
    },
}

/// Changes the spec.
pub(super) fn prepare(
    spec: &mut Value,
    container: &str,
    folder: &Folder,
    installed: &Installation,
    fit: &Fit,
    task: &Task<'_>,
) -> Result<(), EngineError> {
    directories(folder)?;
    let unfit = |reason: &str| EngineError::Unfit {
        container: container.to_owned(),
        reason: reason.to_owned(),
    };
    let mounts = mounts(folder, installed, fit, task)?;
    match spec.get_mut("mounts").and_then(Value::as_array_mut) {
        Some(list) => list.extend(mounts),
        None => spec["mounts"] = Value::Array(mounts),
    }
    let process = spec
        .get_mut("process")
        .filter(|process| process.is_object())
        .ok_or_else(|| unfit("its spec has no process"))?;
    let mut own = process["args"].as_array().cloned().unwrap_or_default();
    workarounds::arguments(&fit.name, &mut own);
    process["args"] = Value::Array(arguments(installed, task, own));
    if !fit.libraries.is_empty() {
        library_path(process);
    }
    answers::change(spec, fit.glibc);
    Ok(())
}

fn arguments(installed: &Installation, task: &Task<'_>, own: Vec<Value>) -> Vec<Value> {
    let program = match task {
        Task::Launch => "bin/dmtcp_launch",
        Task::Restart { .. } => "bin/dmtcp_restart",
    };
    let mut words: Vec<String> = vec![
        layout::INIT.into(),
        layout::ENVIRONMENT.into(),
        format!("{}/{program}", layout::DMTCP),
        "--join-coordinator".into(),
    ];
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    add(&["-q", "-q", "--ckptdir", layout::IMAGES]);
    add(&["--tmpdir", layout::TEMPORARY]);
    match task {
        Task::Launch => {
            add(&["--no-gzip"]);
            if installed.plugin.is_some() {
                add(&["--with-plugin", layout::PLUGIN]);
            }
            // 4.x takes it for an unknown option.
            if Dialect::of(&installed.version) == Dialect::Numbers {
                add(&["--"]);
            }
        }
        // Images belong to the node's root.
        Task::Restart { .. } => add(&["--no-strict-checking"]),
    }
    let mut all: Vec<Value> = words.into_iter().map(Value::from).collect();
    match task {
        Task::Launch => all.extend(own),
        Task::Restart { images, .. } => all.extend(
            images
                .iter()
                .map(|image| Value::from(format!("{}/{image}", layout::RESTART))),
        ),
    }
    all
}

/// `LD_LIBRARY_PATH` with our directory last.
fn library_path(process: &mut Value) {
    const NAME: &str = "LD_LIBRARY_PATH=";
    let Some(env) = process.get_mut("env").and_then(Value::as_array_mut) else {
        process["env"] = json!([format!("{NAME}{}", layout::LIBRARIES)]);
        return;
    };
    let set = env
        .iter_mut()
        .rev()
        .find(|variable| variable.as_str().is_some_and(|text| text.starts_with(NAME)));
    match set {
        Some(variable) => {
            let old = variable.as_str().unwrap_or_default();
            *variable = Value::from(format!("{old}:{}", layout::LIBRARIES));
        }
        None => env.push(Value::from(format!("{NAME}{}", layout::LIBRARIES))),
    }
}

fn mounts(
    folder: &Folder,
    installed: &Installation,
    fit: &Fit,
    task: &Task<'_>,
) -> Result<Vec<Value>, EngineError> {
    let tmpfs = |destination: &str, options: [&str; 2]| {
        json!({
            "destination": destination, "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "nodev", options[0], options[1]],
        })
    };
    let bind = |source: &Path, destination: &str, mode: &str| {
        json!({
            "destination": destination, "type": "bind", "source": source,
            "options": ["bind", "nosuid", "nodev", "private", mode],
        })
    };
    let mut mounts = vec![
        tmpfs(layout::ROOT, ["mode=755", "size=1m"]),
        tmpfs(layout::TEMPORARY, ["mode=1777", "size=64m"]),
        bind(&kept_init()?, layout::INIT, "ro"),
        bind(&installed.prefix, layout::DMTCP, "ro"),
        bind(&folder.run(), layout::RUN, "ro"),
        bind(&folder.images(), layout::IMAGES, "rw"),
    ];
    for (name, path) in &fit.libraries {
        mounts.push(bind(path, &format!("{}/{name}", layout::LIBRARIES), "ro"));
    }
    if let Some(plugin) = &installed.plugin {
        mounts.push(bind(plugin, layout::PLUGIN, "ro"));
    }
    if let Task::Restart { folder, .. } = task {
        mounts.push(bind(folder, layout::RESTART, "ro"));
    }
    Ok(mounts)
}

/// Makes the container's folder anew.
fn directories(folder: &Folder) -> Result<(), EngineError> {
    let make = |path: &Path, mode: u32| {
        fs::DirBuilder::new()
            .recursive(true)
            .create(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
            .map_err(EngineError::io("create", path))
    };
    make(folder.path(), 0o755)?;
    make(&folder.run(), 0o755)?;
    // Its processes may be of several users.
    make(&folder.images(), 0o1777)
}

/// Our init as a file, written when it is not there yet.
fn kept_init() -> Result<PathBuf, EngineError> {
    let digest = blake3::hash(INIT).to_hex();
    let path = Path::new(KEPT).join(format!("init-{}", &digest[..16]));
    if path.is_file() {
        return Ok(path);
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(KEPT)
        .map_err(EngineError::io("create", Path::new(KEPT)))?;
    // Two shims may do this at one time: each has its own file until it is whole.
    let new = path.with_extension(std::process::id().to_string());
    fs::write(&new, INIT).map_err(EngineError::io("write", &new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))
        .map_err(EngineError::io("change", &new))?;
    fs::rename(&new, &path).map_err(EngineError::io("rename", &new))?;
    Ok(path)
}

#[cfg(test)]
mod tests;
