//! The CRIU configuration file of a container: `option [value]` a line, criu(8).

use std::path::{Path, PathBuf};

use crate::{Connections, EngineError, Purpose, spec};

/// Largest file that is deleted but still open and goes into the image whole.
const GHOST_LIMIT: &str = "2G";

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    lines: Vec<String>,
}

impl Config {
    /// For a checkpoint.
    pub(super) fn checkpoint(purpose: Purpose, connections: Connections) -> Self {
        let mut config = Self::both(purpose, connections);
        config.add(&format!("ghost-limit {GHOST_LIMIT}"));
        config
    }

    /// For a restore.
    pub(super) fn restore(purpose: Purpose, connections: Connections) -> Self {
        let mut config = Self::both(purpose, connections);
        config.add("leave-stopped");
        config
    }

    /// CRIU loads the plugins in this directory, instead of those in its own.
    pub(super) fn plugins(mut self, directory: Option<&Path>) -> Self {
        if let Some(directory) = directory {
            self.add(&format!("libdir {}", directory.display()));
        }
        self
    }

    /// The processes join this IPC namespace.
    pub(super) fn ipc(mut self, namespace: Option<&Path>) -> Self {
        if let Some(namespace) = namespace {
            self.add(&format!("join-ns ipc:{}", namespace.display()));
        }
        self
    }

    fn both(purpose: Purpose, connections: Connections) -> Self {
        let mut config = Self::default();
        config.add(match purpose {
            // The pod's lock covers it, and stays when CRIU is done.
            Purpose::Migration => "network-lock skip",
            // The default, iptables, takes 100 ms longer.
            Purpose::Local { .. } => "network-lock nftables",
        });
        config.add(match connections {
            Connections::Keep => "tcp-established",
            Connections::Close => "tcp-close",
        });
        config
    }

    fn add(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    fn text(&self) -> String {
        let mut text = String::from("# Written by MyceDrive before each checkpoint and restore.\n");
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// The file of the container with this bundle.
pub(super) fn path(bundle: &Path) -> PathBuf {
    bundle.join("criu.conf")
}

/// Replaces the file.
pub(super) fn write(bundle: &Path, config: &Config) -> Result<(), EngineError> {
    spec::replace(&path(bundle), config.text().as_bytes())
}

#[cfg(test)]
mod tests;
