//! The directory from which CRIU loads plugins, with ours in it (`shim/criu-plugin`).
//!
//! CRIU knows one such directory, `libdir`. So ours has links to what is in the node's own.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::runtime;
use crate::EngineError;
use crate::runner::{self, Runner};

/// The library, compiled with this crate.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/criu_plugin"));
/// What the plugin reads, see there.
const INODES: &str = "MYCEDRIVE_UNIX_INODES";
const ENDS: &str = "MYCEDRIVE_UNIX_ENDS";
const GATE: &str = "MYCEDRIVE_GATE";
const AT_GATE: &str = "MYCEDRIVE_AT_GATE";
/// Where CRIU looks when neither an option nor this says otherwise.
const CRIU_LIBS_DIR: &str = "CRIU_LIBS_DIR";
const USUAL: &str = "/usr/lib/criu";
const LIMIT: Duration = Duration::from_secs(10);

/// The directory, for one run of CRIU; gone when this is dropped.
pub(super) struct Plugins(Option<Directory>);

struct Directory {
    path: PathBuf,
    /// The library, in memory: what bundles are in is often mounted `noexec`.
    _library: File,
}

impl Plugins {
    /// None are loaded but the node's own.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Makes the directory in a bundle, if it is `wanted`.
    pub(super) async fn make(
        runner: &dyn Runner,
        bundle: &Path,
        wanted: bool,
    ) -> Result<Self, EngineError> {
        if !wanted {
            return Ok(Self::none());
        }
        let own = own_directory(runner).await;
        let path = bundle.join("criu-plugins");
        fill(&path, &own)
            .map(|directory| Self(Some(directory)))
            .map_err(EngineError::io("fill", &path))
    }

    /// Its path.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.0.as_ref().map(|directory| directory.path.as_path())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(%error, directory = %self.path.display(), "a directory stays");
        }
    }
}

fn fill(path: &Path, own: &Path) -> io::Result<Directory> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut library = File::from(memfd_create(c"criu-plugin", MFdFlags::MFD_CLOEXEC)?);
    library.write_all(LIBRARY)?;
    runtime::private_directory(path).map_err(io::Error::other)?;
    // CRIU's /proc is that of this process.
    let target = format!("/proc/{}/fd/{}", std::process::id(), library.as_raw_fd());
    let directory = Directory {
        path: path.to_owned(),
        _library: library,
    };
    symlink(target, path.join("mycedrive.so"))?;
    let entries = match fs::read_dir(own) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(directory),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if name.as_encoded_bytes().ends_with(b".so") {
            symlink(own.join(&name), path.join(&name))?;
        }
    }
    Ok(directory)
}

/// Where this node's CRIU has its plugins.
async fn own_directory(runner: &dyn Runner) -> PathBuf {
    if let Some(directory) = env::var_os(CRIU_LIBS_DIR) {
        return directory.into();
    }
    let mut command = Command::new("criu");
    command.arg("--help");
    let help = runner::output(runner, command, LIMIT).await;
    help.ok()
        .and_then(|help| default_directory(&help))
        .unwrap_or_else(|| USUAL.into())
}

/// From the line `-L|--libdir  path to a plugin directory (by default ...)`.
fn default_directory(help: &str) -> Option<PathBuf> {
    let line = help.lines().find(|line| line.contains("--libdir"))?;
    let (_, rest) = line.split_once("by default ")?;
    let path = rest.split(')').next()?.trim();
    path.starts_with('/').then(|| path.into())
}

/// At a dump: the plugin answers for these sockets.
pub(super) fn answer_for(command: &mut Command, inodes: &[u32]) {
    if !inodes.is_empty() {
        command.env(INODES, list(inodes));
    }
}

/// As the plugin reads it.
pub(super) fn list(inodes: &[u32]) -> String {
    let all: Vec<String> = inodes.iter().map(u32::to_string).collect();
    all.join(",")
}

/// At a dump: the plugin waits for a line out of one of these pipes, after it has written into the
/// other one. Both are this process's.
pub(super) fn wait_at(command: &mut Command, gate: &impl AsRawFd, at_gate: &impl AsRawFd) {
    let path = |fd: &dyn AsRawFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    command.env(GATE, path(gate)).env(AT_GATE, path(at_gate));
}

/// At a restore: the plugin fetches its sockets there.
pub(super) fn fetch_from(command: &mut Command, ends: Option<&str>) {
    if let Some(name) = ends {
        command.env(ENDS, name);
    }
}

#[cfg(test)]
mod tests;
