//! The node's configuration: the daemon's, of which the shim wants two keys.

use std::fs;
use std::path::PathBuf;

const FILE: &str = "/etc/mycedrive/config.toml";

/// The file; empty when there is none.
pub fn text() -> String {
    fs::read_to_string(FILE).unwrap_or_default()
}

/// A string among the keys of the top level. The daemon, which reads all of the file, refuses one
/// that is not well formed; here such a key counts as one that is not there.
pub fn value<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    config
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| name.trim() == key)
        .and_then(|(_, value)| {
            let value = value.trim();
            let quote = value
                .chars()
                .next()
                .filter(|first| "\"'".contains(*first))?;
            Some(value[1..].split_once(quote)?.0)
        })
}

/// The prefix in which DMTCP is, if the node says so.
pub fn dmtcp_prefix(config: &str) -> Option<PathBuf> {
    value(config, "dmtcp_prefix")
        .filter(|value| value.starts_with('/'))
        .map(PathBuf::from)
}

#[cfg(test)]
#[path = "node_config_tests.rs"]
mod tests;
