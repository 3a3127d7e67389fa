//! Containers whose shim died.
//!
//! containerd calls `delete` for the sandbox when a pod's shim is gone, but not for the pod's
//! other containers: it only reports that they ended. Their processes would stay, unseen, for
//! ever, beside the container that kubelet starts in their place. Their bundles may be gone
//! already, so they are found in runc's own state.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::Error;
use crate::rootfs;
use crate::runc::Runc;
use crate::spec::annotation;

/// Ends and removes every container of the pod with this sandbox, but not the sandbox nor those in
/// `except`. Goes on after errors and writes them to standard error.
pub fn remove(sandbox_id: &str, runc: &Runc, except: &[String]) {
    let Ok(entries) = fs::read_dir(runc.root()) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(text) = fs::read(entry.path().join("state.json")) else {
            continue;
        };
        let state = serde_json::from_slice(&text).unwrap_or_default();
        let id = entry.file_name();
        let id = id.to_string_lossy();
        if !belongs(&state, sandbox_id) || except.iter().any(|one| *one == id) {
            continue;
        }
        match runc.delete_blocking(&id) {
            Ok(()) | Err(Error::NotFound(_)) => {}
            Err(error) => eprintln!("{error}"),
        }
        if let Some(bundle) = label(&state, "bundle")
            && let Err(error) = rootfs::unmount_all(&Path::new(bundle).join("rootfs"))
        {
            eprintln!("{error}");
        }
    }
}

/// Whether it is the state of another container of the sandbox's pod.
fn belongs(state: &Value, sandbox_id: &str) -> bool {
    label(state, annotation::SANDBOX_ID) == Some(sandbox_id)
        && label(state, annotation::CONTAINER_TYPE) != Some("sandbox")
}

/// A label (the spec's annotations are among them) in runc's `state.json`: `KEY=VALUE`.
fn label<'a>(state: &'a Value, key: &str) -> Option<&'a str> {
    state
        .pointer("/config/labels")?
        .as_array()?
        .iter()
        .find_map(|label| label.as_str()?.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
#[path = "orphans_tests.rs"]
mod tests;
