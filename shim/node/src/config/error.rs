//! What is wrong with a configuration file, and where.

use std::io;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used. `mycedrive config` prints every key with its default.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {source}", file = .file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it is not TOML, has an unknown key, or a value that is not allowed.
    #[error(
        "{file}:{line}{key}: {message} (`mycedrive config` prints every key with its default)",
        file = .file.display(),
        key = .key.as_ref().map(|key| format!(": {key}")).unwrap_or_default()
    )]
    Line {
        /// Which file.
        file: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The key on that line, with its section.
        key: Option<String>,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// A value that is not allowed, seen after parsing.
    #[error("{file}: {key}: {value:?} is not {wanted}", file = .file.display())]
    Value {
        /// Which file.
        file: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// What stands there.
        value: String,
        /// What is allowed.
        wanted: &'static str,
    },
}

impl ConfigError {
    pub(super) fn of_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Self::Line {
            file: file.to_owned(),
            line,
            key: key_of(text, line),
            message: error.message().replace('`', "\""),
        }
    }

    pub(super) fn value(file: &Path, key: &'static str, value: &str, wanted: &'static str) -> Self {
        Self::Value {
            file: file.to_owned(),
            key,
            value: value.to_owned(),
            wanted,
        }
    }
}

/// The key that a line sets, with the section it is in.
fn key_of(text: &str, line: usize) -> Option<String> {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let (key, _) = lines.get(line.checked_sub(1)?)?.split_once('=')?;
    let section = lines.iter().rev().find_map(|line| {
        line.trim()
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
    });
    let key = key.trim();
    Some(section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}")))
}
