//! Reading and changing a bundle's `config.json`.
//!
//! The spec stays a JSON value: what this program does not know must survive being rewritten.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::EngineError;

/// Path of a bundle's spec.
pub fn path(bundle: &Path) -> PathBuf {
    bundle.join("config.json")
}

/// Reads a bundle's spec.
pub fn read(bundle: &Path) -> Result<Value, EngineError> {
    let path = path(bundle);
    let text = fs::read(&path).map_err(EngineError::io("read", &path))?;
    serde_json::from_slice(&text).map_err(|error| EngineError::Spec {
        path,
        problem: error.to_string(),
    })
}

/// Replaces a bundle's spec in one step: a reader sees the old one or the new one.
pub fn write(bundle: &Path, spec: &Value) -> Result<(), EngineError> {
    replace(&path(bundle), spec.to_string().as_bytes())
}

/// Writes a file beside `path`, then renames it over `path`. Mode 0600.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), EngineError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(EngineError::io("create", &new))?;
    file.write_all(content)
        .map_err(EngineError::io("write", &new))?;
    fs::rename(&new, path).map_err(EngineError::io("replace", path))
}

/// The value of an annotation.
pub fn annotation<'a>(spec: &'a Value, name: &str) -> Option<&'a str> {
    spec.get("annotations")?.get(name)?.as_str()
}

/// Sets an annotation.
pub fn set_annotation(spec: &mut Value, name: &str, value: &str) {
    if let Some(annotations) = object(spec, "annotations") {
        annotations.insert(name.to_owned(), Value::from(value));
    }
}

/// The path of a namespace in the spec: `None` when the container shares the host's,
/// `Some(None)` when it gets one of its own, `Some(Some(path))` when it joins one.
pub fn namespace<'a>(spec: &'a Value, kind: &str) -> Option<Option<&'a str>> {
    let list = spec.pointer("/linux/namespaces")?.as_array()?;
    let entry = list
        .iter()
        .find(|entry| entry.get("type").and_then(Value::as_str) == Some(kind))?;
    Some(
        entry
            .get("path")
            .and_then(Value::as_str)
            .filter(|path| !path.is_empty()),
    )
}

/// A member of the spec that is an object, made when it is not there.
fn object<'a>(spec: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let member = spec.as_object_mut()?.entry(name).or_insert(Value::Null);
    if member.is_null() {
        *member = Value::Object(Map::new());
    }
    member.as_object_mut()
}

#[cfg(test)]
mod tests;
