//! Reading containerd's TOML.

use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::HANDLER;
use crate::error::{Error, Result};

/// Parses a configuration file.
pub fn parse(path: &str, text: &str) -> Result<DocumentMut> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| Error::Toml {
            path: path.to_owned(),
            message: error.to_string(),
        })
}

/// Name of the plugin that holds `containerd.runtimes` in this version.
pub fn plugin(version: u32) -> &'static str {
    if version >= 3 {
        "io.containerd.cri.v1.runtime"
    } else {
        "io.containerd.grpc.v1.cri"
    }
}

/// The configuration's version, or `None` where the file does not say.
/// Versions 2 (containerd 1.3 and newer), 3 (2.0) and 4 (2.3) are known.
pub fn version(path: &str, doc: &DocumentMut) -> Result<Option<u32>> {
    let problem = |problem: String| Error::ConfigVersion {
        path: path.to_owned(),
        problem,
    };
    match doc.get("version") {
        None => Ok(None),
        Some(item) => match item.as_integer() {
            Some(found @ 2..=4) => Ok(Some(found as u32)),
            Some(1) => Err(problem(old_version())),
            _ => Err(problem(format!(
                "version = {}, this program knows 2, 3 and 4; add the handler by hand \
                 (docs/install.md) and use --no-runtime-handler",
                item.to_string().trim()
            ))),
        },
    }
}

/// What to do about a file of version 1.
pub fn old_version() -> String {
    "it has no `version`, or version 1, whose plugin names differ; bring it to version 2 or 3 \
     (`containerd config migrate` prints it), or use --no-runtime-handler"
        .to_owned()
}

/// Follows keys through tables of any form.
pub fn get<'d>(doc: &'d DocumentMut, keys: &[&str]) -> Option<&'d Item> {
    let mut at = doc.as_item();
    for key in keys {
        at = at.as_table_like()?.get(key)?;
    }
    Some(at)
}

/// A runtime's table.
pub fn runtime<'d>(doc: &'d DocumentMut, version: u32, name: &str) -> Option<&'d dyn TableLike> {
    get(
        doc,
        &["plugins", plugin(version), "containerd", "runtimes", name],
    )?
    .as_table_like()
}

/// True if the file defines our handler.
pub fn has_handler(doc: &DocumentMut) -> bool {
    [2, 3]
        .iter()
        .any(|version| runtime(doc, *version, HANDLER).is_some())
}

/// The runtime that pods without a RuntimeClass get.
pub fn default_runtime(doc: &DocumentMut, version: u32) -> &str {
    get(
        doc,
        &[
            "plugins",
            plugin(version),
            "containerd",
            "default_runtime_name",
        ],
    )
    .and_then(Item::as_str)
    .filter(|name| !name.is_empty())
    .unwrap_or("runc")
}

/// True if the file switches CRI off, as Docker's package does.
pub fn cri_disabled(doc: &DocumentMut) -> bool {
    let names = ["cri", "io.containerd.grpc.v1.cri", plugin(3)];
    get(doc, &["disabled_plugins"])
        .and_then(Item::as_array)
        .is_some_and(|list| {
            list.iter()
                .filter_map(Value::as_str)
                .any(|name| names.contains(&name))
        })
}

/// True if everything in `old` is in `new` with the same value.
pub fn keeps_everything(old: &Item, new: &Item) -> bool {
    if let Some(old) = old.as_table_like() {
        let Some(new) = new.as_table_like() else {
            return false;
        };
        return old.iter().all(|(key, item)| {
            new.get(key)
                .is_some_and(|found| keeps_everything(item, found))
        });
    }
    match (old.as_array_of_tables(), new.as_array_of_tables()) {
        (Some(old), Some(new)) => {
            old.len() == new.len()
                && old.iter().zip(new.iter()).all(|(old, new)| {
                    keeps_everything(&Item::Table(old.clone()), &Item::Table(new.clone()))
                })
        }
        (None, None) => old.to_string().trim() == new.to_string().trim(),
        _ => false,
    }
}
