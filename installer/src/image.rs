//! Node images: a tree with containerd and MyceDrive in it, packed as a tarball.
//!
//! The tree is one that is there, or Debian's, made with mmdebstrap(1). Nothing of it is booted:
//! what installs into it is what `install --root` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::install::{self, Outcome};
use crate::root::Root;
use crate::transaction::NoFaults;

/// What a Debian node needs to run pods that move, and to boot. A kernel is not among it: machines
/// bring their own, or `--include linux-image-amd64` does.
pub const PACKAGES: [&str; 14] = [
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "criu",
    "dbus",
    "iproute2",
    "kmod",
    "mount",
    "nftables",
    "openssh-server",
    "procps",
    "runc",
    "systemd-resolved",
    "systemd-sysv",
];

/// How many lines of a program that failed are shown.
const LAST: usize = 5;

/// Where the tree comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// One that is there; it is installed into.
    Existing(PathBuf),
    /// Debian's, made for this image only.
    Debian {
        /// Release: trixie has no CRIU that is new enough, forky has.
        suite: String,
        /// Archive to take packages from; the default is mmdebstrap's.
        mirror: Option<String>,
        /// Packages beside [`PACKAGES`].
        include: Vec<String>,
        /// Options of apt.conf(5).
        apt_options: Vec<String>,
    },
}

/// An image that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Size of the tarball in bytes.
    pub bytes: u64,
    /// What the installation did.
    pub outcome: Outcome,
}

/// Makes an image. `output` appears when it is whole; its end tells the compression, as tar(1)'s
/// `--auto-compress` does.
pub fn make(tree: &Tree, output: &Path, options: &install::Options) -> Result<Made> {
    if output.symlink_metadata().is_ok() {
        return Err(Error::Usage(format!(
            "{} is there already; remove it, or choose another name",
            output.display()
        )));
    }
    let scratch = Scratch::beside(output)?;
    let dir = match tree {
        Tree::Existing(dir) => dir.clone(),
        Tree::Debian { .. } => scratch.0.join("tree"),
    };
    if let Tree::Debian { .. } = tree {
        bootstrap(tree, &dir)?;
    }
    let outcome = install::install(&Root::open(&dir)?, options, &mut NoFaults)?;
    let name = output.file_name().unwrap_or_default();
    let partial = scratch.0.join(name);
    pack(&dir, &partial)?;
    let io = |action, path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    };
    let file = fs::File::open(&partial).map_err(io("open", &partial))?;
    file.sync_all().map_err(io("sync", &partial))?;
    let bytes = file.metadata().map_err(io("stat", &partial))?.len();
    fs::rename(&partial, output).map_err(io("rename", output))?;
    Ok(Made { bytes, outcome })
}

fn bootstrap(tree: &Tree, dir: &Path) -> Result<()> {
    let Tree::Debian {
        suite,
        mirror,
        include,
        apt_options,
    } = tree
    else {
        return Ok(());
    };
    let mut packages: Vec<&str> = PACKAGES.to_vec();
    packages.extend(include.iter().map(String::as_str));
    let mut command = Command::new("mmdebstrap");
    // Not quiet: what apt says is not told otherwise.
    command.args(["--format=directory", "--variant=minbase"]);
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    command.args(apt_options.iter().map(|one| format!("--aptopt={one}")));
    command.arg(format!("--include={}", packages.join(",")));
    command.arg("--").arg(suite).arg(dir).args(mirror);
    run(command)
}

/// Everything with its owner and attributes, in an order that does not depend on the disk.
fn pack(dir: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args([
        "--create",
        "--auto-compress",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--sort=name",
        "--one-file-system",
    ]);
    command.arg("--file").arg(archive);
    command.arg("--directory").arg(dir).arg(".");
    run(command)
}

fn run(mut command: Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |problem: String| Error::Command {
        command: name.clone(),
        problem,
    };
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("{error}; install the package {name}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, cause(&text))))
}

/// What a program said last; of apt its errors, which other lines follow.
fn cause(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
    let mut errors: Vec<&str> = lines.clone();
    errors.retain(|line| line.starts_with("E: "));
    errors.dedup();
    let mut told = if errors.is_empty() {
        lines[lines.len().saturating_sub(LAST)..].join("; ")
    } else {
        errors.join("; ")
    };
    if text.contains("is expired") || text.contains("is not valid yet") {
        told.push_str(
            "; set this machine's clock, or take the packages as they are with \
             --aptopt 'Acquire::Check-Valid-Until \"false\"'",
        );
    }
    told
}

/// A directory that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(output: &Path) -> Result<Self> {
        let mut name = output.as_os_str().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let dir = PathBuf::from(name);
        fs::create_dir(&dir).map_err(|source| Error::Io {
            action: "create directory",
            path: dir.display().to_string(),
            source,
        })?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
