//! Facts about this node that decide whether a pod can move to it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;

pub use mycedrive_engine::cpu::{features as cpu_features, kernel};
use mycedrive_engine::dmtcp;

use crate::config::Config;
use crate::error::{Error, Result};

/// Version of the `criu` in the path, e.g. "4.2"; empty when there is none.
pub async fn criu_version() -> String {
    let text = version_text(Path::new("criu")).await;
    text.lines()
        .find_map(|line| line.strip_prefix("Version:"))
        .map(|version| version.trim().to_owned())
        .unwrap_or_default()
}

/// What a program prints of its version; empty when there is none.
async fn version_text(program: &Path) -> String {
    let mut command = tokio::process::Command::new(program);
    let output = command.arg("--version").output().await;
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Lets CRIU find out what the kernel can do. It keeps that in `/run/criu.kdat`, so that the node's
/// first freeze and first restore do not wait for it (some 100 ms).
pub async fn warm_criu() {
    let check = tokio::process::Command::new("criu")
        .arg("check")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    tracing::debug!(?check, "criu check");
}

/// Version of the DMTCP that the shims find, e.g. "4.2.0"; empty when there is none.
pub async fn dmtcp_version(config: &Config) -> String {
    let Some(prefix) = dmtcp::find_prefix(config.dmtcp_prefix()) else {
        return String::new();
    };
    let text = version_text(&prefix.join("bin/dmtcp_launch")).await;
    let version = text
        .lines()
        .next()
        .and_then(|line| line.split_once("(DMTCP)"));
    version.map_or_else(String::new, |(_, version)| version.trim().to_owned())
}

/// Major and minor of a version such as "4.2" or "4.2.1".
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let digits: String = parts
        .next()?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some((major, digits.parse().ok()?))
}

/// All processes in the pid namespace of `pid`, as this node numbers them.
pub fn pids_beside(pid: i32) -> Vec<i32> {
    let namespace = |pid: i32| {
        fs::metadata(format!("/proc/{pid}/ns/pid"))
            .ok()
            .map(|metadata| metadata.ino())
    };
    let Some(wanted) = namespace(pid) else {
        return vec![];
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![];
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|found| namespace(*found) == Some(wanted))
        .collect()
}

/// Whether a process exists and has not ended (proc_pid_stat(5)).
pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Bytes of memory that an image of the processes in the pid namespace of `pid` would hold:
/// anonymous and shared memory that is resident.
pub fn memory_of(pid: i32) -> u64 {
    pids_beside(pid)
        .into_iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .map(|status| resident(&status))
        .sum()
}

fn resident(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            if !matches!(key, "RssAnon" | "RssShmem") {
                return None;
            }
            value.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum::<u64>()
        * 1024
}

/// Bytes of memory that can be used without swapping (MemAvailable).
pub fn available_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib * 1024)
}

/// Free bytes of the file system that holds `path`.
pub fn free_space(path: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| Error::io("cannot measure", path)(errno.into()))?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

/// Bytes that the files below `path` take on disk; what cannot be read counts nothing.
pub fn tree_size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match fs::symlink_metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => tree_size(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests;
