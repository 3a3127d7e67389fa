//! The bundle's `config.json`: what the shim reads in it and the little it changes.
//!
//! It is kept as plain JSON, so that nothing this code does not know gets lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Annotations that containerd's CRI puts into the spec.
pub mod annotation {
    /// `sandbox` or `container`.
    pub const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
    /// Id of the pod's sandbox.
    pub const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
    /// Kubernetes' name of the container.
    pub const CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";
    /// Image reference.
    pub const IMAGE_NAME: &str = "io.kubernetes.cri.image-name";
    /// Name of the pod.
    pub const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";
    /// Namespace of the pod.
    pub const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
    /// Uid of the pod.
    pub const SANDBOX_UID: &str = "io.kubernetes.cri.sandbox-uid";
    /// What groups containers into one shim, for users of containerd other than CRI.
    pub const GROUP: &str = "io.containerd.runc.v2.group";
    /// Makes runc hand a file to CRIU as configuration. Ours alone.
    pub const CRIU_CONFIG: &str = "org.criu.config";
    /// Where the pod comes from: makes it a destination.
    pub const MIGRATE_FROM: &str = "mycedrive.io/migrate-from";
    /// What becomes of the pod when it is terminated.
    pub const ON_TERMINATE: &str = "mycedrive.io/on-terminate";
    /// The archive that the pod or task is restored from.
    pub const RESTORE_FROM: &str = "mycedrive.io/restore-from";
    /// Beginning of our own annotations.
    pub const OURS: &str = "mycedrive.io/";
}

/// A bundle's `config.json`.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    json: Value,
}

impl Spec {
    /// Reads `config.json` of a bundle.
    pub fn load(bundle: &Path) -> Result<Self> {
        let path = bundle.join("config.json");
        let text = fs::read(&path).map_err(Error::path("read", &path))?;
        let json = serde_json::from_slice(&text)
            .map_err(|error| Error::decode(path.display().to_string(), error))?;
        Ok(Self { json })
    }

    /// Writes `config.json` of a bundle.
    pub fn save(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join("config.json");
        let text = serde_json::to_vec(&self.json)
            .map_err(|error| Error::decode(path.display().to_string(), error))?;
        fs::write(&path, text).map_err(Error::path("write", &path))
    }

    /// A spec from JSON.
    #[cfg(test)]
    pub fn from_json(json: Value) -> Self {
        Self { json }
    }

    /// The whole spec.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The whole spec, to change it.
    pub fn json_mut(&mut self) -> &mut Value {
        &mut self.json
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.json.get("annotations")?.get(key)?.as_str()
    }

    /// The annotations that begin with `prefix`.
    pub fn annotations(&self, prefix: &str) -> BTreeMap<String, String> {
        let Some(all) = self.json.get("annotations").and_then(Value::as_object) else {
            return BTreeMap::new();
        };
        all.iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// Whether CRI calls this the pod's sandbox.
    pub fn is_sandbox(&self) -> bool {
        self.annotation(annotation::CONTAINER_TYPE) == Some("sandbox")
    }

    /// The group whose containers share one shim, if any.
    pub fn group(&self) -> Option<&str> {
        self.annotation(annotation::GROUP)
            .or_else(|| self.annotation(annotation::SANDBOX_ID))
    }

    fn namespaces(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.json
            .pointer("/linux/namespaces")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry
                    .get("path")
                    .and_then(Value::as_str)
                    .filter(|path| !path.is_empty());
                Some((entry.get("type")?.as_str()?, path))
            })
    }

    /// Path of a namespace that the container joins. None: it has its own or the host's.
    pub fn namespace_path(&self, kind: &str) -> Option<&str> {
        self.namespaces()
            .find(|(found, _)| *found == kind)
            .and_then(|(_, path)| path)
    }

    /// Whether the spec lists a namespace of this kind, own or joined.
    pub fn has_namespace(&self, kind: &str) -> bool {
        self.namespaces().any(|(found, _)| found == kind)
    }

    /// Whether the container has a pid namespace of its own: when its init ends, the kernel
    /// ends everything in it.
    pub fn has_own_pid_namespace(&self) -> bool {
        self.namespaces()
            .any(|(kind, path)| kind == "pid" && path.is_none())
    }

    /// Gives the container a namespace of its own, unless the spec has one of this kind.
    pub fn add_namespace(&mut self, kind: &str) {
        if self.has_namespace(kind) {
            return;
        }
        if let Some(list) = self
            .json
            .pointer_mut("/linux/namespaces")
            .and_then(Value::as_array_mut)
        {
            list.push(json!({ "type": kind }));
        }
    }

    /// Whether the container's processes may mount file systems.
    pub fn may_mount(&self) -> bool {
        let list = self.json.pointer("/process/capabilities/bounding");
        let mut names = list.and_then(Value::as_array).into_iter().flatten();
        names.any(|name| name.as_str() == Some("CAP_SYS_ADMIN"))
    }

    /// Changes from where a mount is made.
    pub fn set_mount_source(&mut self, destination: &str, source: &Path) {
        let list = self.json.get_mut("mounts").and_then(Value::as_array_mut);
        for mount in list.into_iter().flatten() {
            if mount.get("destination").and_then(Value::as_str) == Some(destination) {
                mount["source"] = json!(source.display().to_string());
            }
        }
    }

    /// Refuses annotations that a pod must not set.
    pub fn refuse_reserved(&self) -> Result<()> {
        if self.annotation(annotation::CRIU_CONFIG).is_some() {
            return Err(Error::Invalid(format!(
                "annotation {}: it is reserved for the runtime; remove it from the pod",
                annotation::CRIU_CONFIG
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
