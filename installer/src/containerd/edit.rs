//! Adding the handler to a file that is somebody else's.
//!
//! The block is appended, so every byte of the file stays. Where TOML does not
//! allow that (a parent is an inline table), the handler is put into the
//! parsed document, which keeps comments and formatting. Either way the result
//! is parsed again, and refused unless everything that was there is still there
//! with the same value.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::block::{self, Inherited, Parts};
use super::tree::{
    default_runtime, has_handler, keeps_everything, old_version, parse, plugin, runtime, version,
};
use super::{HANDLER, Handler, POD_ANNOTATIONS, RUNTIME_TYPE};
use crate::error::{Error, Result};

/// What holds where a file does not name its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaid {
    /// The file is a main file: if it is empty it gets this version, else it
    /// is of version 1.
    New(u32),
    /// The file is imported by a main file of this version.
    Imported(u32),
}

/// The `text` of the file at `path` with the handler in it.
pub fn add_handler(path: &str, text: &str, handler: &Handler, unsaid: Unsaid) -> Result<String> {
    let parts = block::split(text);
    let base = format!("{}{}", parts.head, parts.tail);
    let doc = parse(path, &base)?;
    let number = match (version(path, &doc)?, unsaid) {
        (Some(number), _) | (None, Unsaid::Imported(number)) => number,
        (None, Unsaid::New(number)) if doc.as_table().is_empty() => {
            let with_version = format!("version = {number}\n{base}");
            return add_handler(path, &with_version, handler, unsaid);
        }
        (None, Unsaid::New(_)) => {
            return Err(Error::ConfigVersion {
                path: path.to_owned(),
                problem: old_version(),
            });
        }
    };
    if has_handler(&doc) {
        return adjust(path, text, doc, number, handler);
    }
    let runc = number == 2
        && default_runtime(&doc, number) == "runc"
        && runtime(&doc, number, "runc").is_none();
    let inherited = Inherited::from(&doc, number);
    let tables = block::tables(number, handler, &inherited, runc);
    let appended = block::place(&parts, &tables);
    if let Ok(new) = parse(path, &appended)
        && runtime(&new, number, HANDLER).is_some()
        && keeps_everything(doc.as_item(), new.as_item())
    {
        return Ok(appended);
    }
    insert(path, &base, number, &tables)
}

/// A handler that somebody wrote by hand: only what it lacks is added.
fn adjust(
    path: &str,
    text: &str,
    mut doc: DocumentMut,
    number: u32,
    handler: &Handler,
) -> Result<String> {
    let conflict = |problem: String| Error::Conflict {
        path: path.to_owned(),
        problem,
    };
    let table = get_mut(
        doc.as_table_mut(),
        &["plugins", plugin(number), "containerd", "runtimes", HANDLER],
    )
    .ok_or_else(|| {
        conflict(format!(
            "runtime `{HANDLER}` is under another plugin's name"
        ))
    })?;
    match table.get("runtime_type").and_then(Item::as_str) {
        Some(RUNTIME_TYPE) => {}
        other => {
            return Err(conflict(format!(
                "a runtime `{HANDLER}` exists with runtime_type {other:?}; rename or remove it"
            )));
        }
    }
    let mut changed = false;
    if let Some(wanted) = &handler.runtime_path
        && table.get("runtime_path").and_then(Item::as_str) != Some(wanted)
    {
        table.insert("runtime_path", Item::Value(Value::from(wanted.as_str())));
        changed = true;
    }
    let passed = table.get("pod_annotations").and_then(Item::as_array);
    let all = |value: &Value| matches!(value.as_str(), Some(POD_ANNOTATIONS | "*"));
    if !passed.is_some_and(|list| list.iter().any(all)) {
        let mut list = passed.cloned().unwrap_or_else(Array::new);
        list.push(POD_ANNOTATIONS);
        table.insert("pod_annotations", Item::Value(Value::Array(list)));
        changed = true;
    }
    Ok(if changed {
        doc.to_string()
    } else {
        text.to_owned()
    })
}

fn get_mut<'t>(table: &'t mut dyn TableLike, keys: &[&str]) -> Option<&'t mut dyn TableLike> {
    match keys {
        [] => Some(table),
        [key, rest @ ..] => get_mut(table.get_mut(key)?.as_table_like_mut()?, rest),
    }
}

/// Puts the handler into the document itself.
fn insert(path: &str, base: &str, number: u32, tables: &str) -> Result<String> {
    let mut doc = parse(path, base)?;
    let ours = parse(path, tables)?;
    let old = doc.as_item().clone();
    let keys = ["plugins", plugin(number), "containerd", "runtimes"];
    let mut at: &mut Item = doc.as_item_mut();
    for key in keys {
        let known = at
            .as_table_like()
            .is_some_and(|table| table.contains_key(key));
        if !known {
            let mut table = Table::new();
            table.set_implicit(true);
            put(at, key, &table);
        }
        at = at
            .get_mut(key)
            .filter(|item| item.is_table_like())
            .ok_or_else(|| Error::Conflict {
                path: path.to_owned(),
                problem: format!("`{key}` is not a table"),
            })?;
    }
    for name in ["runc", HANDLER] {
        let keys = [keys.as_slice(), &[name]].concat();
        if let Some(table) = super::tree::get(&ours, &keys).and_then(Item::as_table) {
            put(at, name, table);
        }
    }
    let text = doc.to_string();
    let new = parse(path, &text)?;
    if runtime(&new, number, HANDLER).is_none() || !keeps_everything(&old, new.as_item()) {
        return Err(Error::Conflict {
            path: path.to_owned(),
            problem: "the handler cannot be added without changing something else; add it by \
                      hand (docs/install.md) and use --no-runtime-handler"
                .to_owned(),
        });
    }
    Ok(text)
}

/// Inserts into a table of either form, in that form: a table with a header
/// cannot live in an inline one.
fn put(at: &mut Item, key: &str, table: &Table) {
    if let Some(parent) = at.as_inline_table_mut() {
        parent.insert(key, Value::InlineTable(inline(table)));
    } else if let Some(parent) = at.as_table_like_mut() {
        parent.insert(key, Item::Table(fresh(table)));
    }
}

/// A copy that is not tied to a place in another document.
fn fresh(table: &Table) -> Table {
    let mut copy = Table::new();
    copy.set_implicit(table.is_implicit());
    for (key, item) in table {
        match item {
            Item::Table(inner) => copy.insert(key, Item::Table(fresh(inner))),
            other => copy.insert(key, other.clone()),
        };
    }
    copy
}

fn inline(table: &Table) -> InlineTable {
    let mut result = InlineTable::new();
    for (key, item) in table {
        match item {
            Item::Value(value) => {
                result.insert(key, value.clone().decorated(" ", ""));
            }
            Item::Table(inner) => {
                result.insert(key, Value::InlineTable(inline(inner)));
            }
            _ => {}
        }
    }
    result
}

/// The file without what [`add_handler`] put in, for an uninstallation after
/// somebody else edited it; `None` if there is nothing of ours in it.
pub fn remove_handler(path: &str, text: &str) -> Result<Option<String>> {
    if let Some(rest) = block::remove(text) {
        return Ok(Some(rest));
    }
    let mut doc = parse(path, text)?;
    let mut removed = false;
    for number in [2, 3] {
        let keys = ["plugins", plugin(number), "containerd", "runtimes"];
        if let Some(runtimes) = get_mut(doc.as_table_mut(), &keys) {
            removed |= runtimes.remove(HANDLER).is_some();
        }
    }
    Ok(removed.then(|| doc.to_string()))
}

/// Text of a drop-in of our own.
pub fn drop_in(version: u32, handler: &Handler, inherited: &Inherited, runc: bool) -> String {
    format!(
        "# Written by mycedrive-installer.\nversion = {version}\n\n{}",
        block::tables(version, handler, inherited, runc)
    )
}

/// Text of a template of k3s or RKE2 with the block in it.
pub fn template(text: &str, version: u32, handler: &Handler) -> Option<String> {
    let parts: Parts<'_> = block::split(text);
    let theirs = format!("{}{}", parts.head, parts.tail);
    let named = |name: &str| {
        [
            format!("runtimes.{name}]"),
            format!("runtimes.\"{name}\"]"),
            format!("runtimes.'{name}']"),
        ]
        .iter()
        .any(|header| theirs.contains(header))
    };
    if named(HANDLER) {
        return None;
    }
    let base = theirs.contains("template \"base\"");
    // The base template has runc and its cgroup driver; a full copy may not.
    let inherited = if base || theirs.contains(".SystemdCgroup") {
        Inherited::option("SystemdCgroup", "{{ .SystemdCgroup }}")
    } else {
        Inherited::default()
    };
    let runc = version == 2 && !base && !named("runc");
    Some(block::place(
        &parts,
        &block::tables(version, handler, &inherited, runc),
    ))
}
