//! What the testbed needs of the machine it runs on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{capture, last_lines, run};
use crate::{Error, Result};

/// Capabilities without which no node can be made, with their bit (`linux/capability.h`).
const CAPABILITIES: [(&str, u32); 4] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_MKNOD", 27),
];

/// Commands and the Debian package that has each.
const TOOLS: [(&str, &str); 6] = [
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nsenter", "util-linux"),
    ("tar", "tar"),
    ("sha256sum", "coreutils"),
];

/// The program that installs the others.
pub(crate) const INSTALLER: &str = "mycedrive-installer";

/// Why a testbed cannot be made by this process; `None` if it can.
pub fn missing_privilege() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("this process is not root".to_owned());
    }
    let effective = effective_capabilities();
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(_, bit)| effective & (1 << bit) == 0)
        .map(|(name, _)| *name)
        .collect();
    (!missing.is_empty()).then(|| format!("this process lacks {}", missing.join(", ")))
}

/// Does this machine withhold CAP_SYS_RESOURCE, without which CRIU dumps only processes of root?
pub fn lacks_sys_resource() -> bool {
    const BIT: u32 = 24;
    effective_capabilities() & (1 << BIT) == 0
}

/// This process's effective set, a bit for each; see proc_pid_status(5).
fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// Installs the tools that are missing, with apt.
pub(crate) fn install_tools() -> Result<()> {
    let mut packages: Vec<&str> = TOOLS
        .iter()
        .filter(|(tool, _)| !in_path(tool))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    install(&packages)
}

/// Installs packages with apt; does nothing for an empty list.
fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    tracing::info!(?packages, "installing");
    run("apt-get", &["-q", "update"])?;
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
        .args(["-q", "-y", "install", "--no-install-recommends"])
        .args(packages);
    let output = capture(&mut command)?;
    if output.success() {
        return Ok(());
    }
    Err(Error::Packages {
        packages: packages.join(" "),
        reason: last_lines(output.stderr.trim(), 5).to_owned(),
    })
}

fn in_path(tool: &str) -> bool {
    program(tool).is_some()
}

/// A program of this machine.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Where nodes have DMTCP, and where this machine should have it.
pub(crate) const DMTCP: &str = "/opt/dmtcp";

/// The prefix in which this machine has DMTCP, found as shims do: `/opt/dmtcp`, else that of the
/// `dmtcp_launch` in `PATH`.
pub fn dmtcp() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    dmtcp_in(Path::new(DMTCP), std::env::split_paths(&path))
}

/// `usual`, else the prefix of a folder of programs. One that others share is not taken: the whole
/// of it would be mounted into containers.
fn dmtcp_in(usual: &Path, mut folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let has_it = |prefix: &Path| prefix.join("bin/dmtcp_launch").is_file();
    if has_it(usual) {
        return Some(usual.to_owned());
    }
    let shared = [Path::new("/"), Path::new("/usr")];
    folders.find_map(|folder| {
        let program = folder.join("dmtcp_launch").canonicalize().ok()?;
        let prefix = program.parent()?.parent()?;
        (has_it(prefix) && !shared.contains(&prefix)).then(|| prefix.to_owned())
    })
}

/// The archive that this machine's own apt uses, so that a local mirror is used for nodes too.
pub(crate) fn debian_mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(dir.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| mirror_in(&text))
}

fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(ToOwned::to_owned)
}

/// Directory of the programs of the workspace: `MYCEDRIVE_BIN_DIR`, else that of this program.
pub(crate) fn binary_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("MYCEDRIVE_BIN_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let own = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
    let dir = own.parent().unwrap_or(Path::new("/"));
    // Test programs are one folder deeper than the others.
    Ok(if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir).to_owned()
    } else {
        dir.to_owned()
    })
}

/// Builds the shim, DMTCP's plugin, the node daemon, the installer and the testbed's own program with cargo, into the folder from
/// which nodes take them. Does nothing where no workspace is (an installed testbed).
pub fn build_binaries(release: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if !root.join("Cargo.toml").is_file() || std::env::var_os("MYCEDRIVE_BIN_DIR").is_some() {
        return Ok(());
    }
    // With the features of the whole workspace, as `cargo demo` and `cargo verify` are built: with those of one package
    // only, cargo would compile the dependencies again.
    let mut command = cargo(&root);
    // The libraries for those that are none of another program: the plugin, and CRIU's preload.
    command.args(["build", "--quiet", "--workspace", "--bins", "--lib"]);
    if release {
        command.arg("--release");
    }
    capture(&mut command)?.ok().map(drop)
}

/// Cargo, to be run in `root` as a shell would run it. What `cargo run` sets for its program is taken out:
/// build scripts that look at it (ring's does) would be run anew, and all that depends on them compiled again.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(set_by_cargo) {
            command.env_remove(name);
        }
    }
    command
}

/// See "Environment variables Cargo sets for crates" in Cargo's reference.
fn set_by_cargo(variable: &str) -> bool {
    const PREFIXES: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];
    variable == "OUT_DIR" || PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}

#[cfg(test)]
mod tests;
