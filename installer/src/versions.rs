//! Programs of the tree and their versions.
//!
//! In an unbooted tree nothing is run: versions come from dpkg's database. On
//! the live node a program is asked (`--version`).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::root::Root;

const DPKG_STATUS: &str = "/var/lib/dpkg/status";
/// dpkg's database of a full desktop is a few MB.
const DPKG_LIMIT: u64 = 64 << 20;
const TIME_OUT: Duration = Duration::from_secs(5);
/// Directories in which containerd, its shims and systemd look for programs.
pub const PATH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Path inside the root.
    pub path: String,
    /// Its version, if it can be told.
    pub version: Option<String>,
}

/// What must be known before a configuration is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versions {
    /// Major version of the tree's own containerd.
    pub containerd_major: Option<u32>,
}

impl Versions {
    /// Looks into the tree.
    pub fn find(root: &Root) -> Self {
        let packages = ["containerd", "containerd.io"];
        let program = find(root, "containerd", &[], &packages);
        let major = program
            .and_then(|program| program.version)
            .and_then(|version| numbers(&version).first().copied());
        Self {
            containerd_major: major,
        }
    }
}

/// Finds a program in the usual directories or in `more`.
pub fn find(root: &Root, name: &str, more: &[&str], packages: &[&str]) -> Option<Program> {
    let path = more
        .iter()
        .chain(PATH.iter())
        .map(|dir| format!("{dir}/{name}"))
        .find(|path| root.is_file(path))?;
    Some(of(root, path, packages))
}

/// The program at `path`, if it is there.
pub fn find_in(root: &Root, path: &str) -> Option<Program> {
    root.is_file(path).then(|| of(root, path.to_owned(), &[]))
}

fn of(root: &Root, path: String, packages: &[&str]) -> Program {
    let version = if root.is_live() {
        ask(&path)
    } else {
        packages.iter().find_map(|package| dpkg(root, package))
    };
    Program { path, version }
}

/// The numbers of a version such as `v2.1.9~ds1-1` or `1:4.2.1`.
pub fn numbers(version: &str) -> Vec<u32> {
    let version = version.rsplit_once(':').map_or(version, |(_, rest)| rest);
    let version = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = version
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(version.len());
    version[..end]
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

/// Version of an installed Debian package.
pub fn dpkg(root: &Root, package: &str) -> Option<String> {
    let bytes = root.read_followed(DPKG_STATUS, DPKG_LIMIT).ok()??;
    let text = String::from_utf8_lossy(&bytes);
    text.split("\n\n").find_map(|paragraph| {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let installed = field("Status").is_none_or(|status| !status.contains("not-installed"));
        (field("Package") == Some(package) && installed)
            .then(|| field("Version").map(str::to_owned))
            .flatten()
    })
}

/// The first thing like a version that the program prints. It gets no input,
/// a clean environment and a few seconds.
fn ask(path: &str) -> Option<String> {
    let mut child = Command::new(Path::new(path))
        .arg("--version")
        .env_clear()
        .env("PATH", PATH.join(":"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let end = Instant::now() + TIME_OUT;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    let output = child.wait_with_output().ok()?;
    first_version(&String::from_utf8_lossy(&output.stdout))
}

fn first_version(text: &str) -> Option<String> {
    text.split_whitespace()
        .map(|word| {
            word.trim_start_matches('v')
                .trim_end_matches([',', ';', ')'])
        })
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
