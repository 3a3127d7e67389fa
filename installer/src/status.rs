//! What is installed, and whether it is still as the installer left it.

use serde::Serialize;

use crate::containerd::{self, Distribution, tree};
use crate::error::Result;
use crate::record::{Manifest, Purpose, Was};
use crate::root::Root;

/// A path's state compared with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it was installed.
    Installed,
    /// Changed since.
    Changed,
    /// Gone.
    Missing,
}

/// One installed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Path inside the root.
    pub path: String,
    /// What it is for.
    pub purpose: Purpose,
    /// How it is now.
    pub state: State,
    /// Its size in bytes; 0 for directories and links.
    pub bytes: u64,
}

/// The state of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Version of the installer that installed, `None` if nothing is.
    pub version: Option<String>,
    /// What is installed.
    pub items: Vec<Item>,
    /// containerd configuration files that define the handler.
    pub handler_in: Vec<String>,
}

impl Status {
    /// Size in bytes of all that is installed.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// True if everything is in place and the handler is defined.
    pub fn complete(&self) -> bool {
        self.version.is_some()
            && !self.handler_in.is_empty()
            && self.items.iter().all(|item| item.state != State::Missing)
    }
}

/// Looks at the tree.
pub fn status(root: &Root) -> Result<Status> {
    let mut status = Status {
        handler_in: handlers(root, &containerd::detect(root)),
        ..Status::default()
    };
    let Some(manifest) = Manifest::load(root)? else {
        return Ok(status);
    };
    status.version = Some(manifest.version);
    for entry in manifest.entries {
        let (now, content) = Was::look(root, &entry.path)?;
        let same_kind = matches!((&now, &entry.after), (Was::Dir { .. }, Was::Dir { .. }));
        let state = match now {
            _ if now == entry.after || same_kind => State::Installed,
            Was::Absent => State::Missing,
            _ => State::Changed,
        };
        status.items.push(Item {
            path: entry.path,
            purpose: entry.purpose,
            state,
            bytes: content.len() as u64,
        });
    }
    Ok(status)
}

/// The configuration files that define the handler. Templates are searched as
/// text, since they are not TOML yet.
pub fn handlers(root: &Root, distributions: &[Distribution]) -> Vec<String> {
    let mut found = Vec::new();
    for distribution in distributions {
        for path in containerd::candidates(root, *distribution) {
            let text = root
                .follow(&path)
                .and_then(|path| containerd::read_text(root, &path));
            let Ok(Some(text)) = text else {
                continue;
            };
            let defines = if containerd::has_extension(&path, "tmpl") {
                text.contains(&format!("runtimes.{}]", containerd::HANDLER))
            } else {
                tree::parse(&path, &text).is_ok_and(|doc| tree::has_handler(&doc))
            };
            if defines && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}
