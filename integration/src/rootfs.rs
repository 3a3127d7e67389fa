//! Trees of Debian packages, made once with mmdebstrap and kept in [`CACHE`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::host::debian_mirror;
use crate::run::{capture, last_lines};
use crate::{Error, Result};

/// Where trees and images are kept between runs.
pub(crate) const CACHE: &str = "/var/cache/mycedrive-testbed";
/// The Debian release whose containerd, runc and CRIU are known to work on current kernels.
pub(crate) const SUITE: &str = "forky";

/// The one that has containerd 1.7.
pub(crate) const OLD_SUITE: &str = "trixie";

/// What a node has. containerd's own CNI plugins are a package of theirs; python3, redis-tools, age,
/// checkpointctl, mosquitto-clients, tcpdump and strace are for tests and for people.
const NODE_PACKAGES: &[&str] = &[
    "age",
    "ca-certificates",
    "checkpointctl",
    "containerd",
    "containernetworking-plugins",
    "criu",
    "iproute2",
    "iputils-ping",
    "kmod",
    "mosquitto-clients",
    "mount",
    "nftables",
    "procps",
    "python3",
    "redis-tools",
    "runc",
    "strace",
    "tcpdump",
];

/// What the small images are cut from.
const CORE_PACKAGES: &[&str] = &[
    "base-files",
    "busybox-static",
    "mosquitto",
    "python3",
    "redis-server",
];

/// What the images of further programs are cut from.
const PROGRAM_PACKAGES: &[&str] = &[
    "base-files",
    "busybox-static",
    "default-jre-headless",
    "memcached",
    "nginx-light",
    "nodejs",
    "postgresql",
];

/// Compilers for the programs of images that are not packages.
const BUILD_PACKAGES: &[&str] = &[
    "base-files",
    "binutils",
    "coreutils",
    "dash",
    "default-jdk-headless",
    "golang-go",
    "musl-tools",
];

/// Not needed in any tree.
const EXCLUDED: [&str; 4] = [
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
];

/// A kind of tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tree {
    /// Root of a node.
    Node,
    /// containerd 1.7: its package unpacked, with what it depends on.
    Containerd1,
    /// Files for the small images: packages unpacked but not set up.
    Core,
    /// The same for images of further programs.
    Programs,
    /// Compilers, unpacked but not set up.
    Build,
}

impl Tree {
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Node => NODE_PACKAGES,
            Self::Containerd1 => &["containerd"],
            Self::Core => CORE_PACKAGES,
            Self::Programs => PROGRAM_PACKAGES,
            Self::Build => BUILD_PACKAGES,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Containerd1 => "containerd",
            Self::Core => "image",
            Self::Programs => "programs",
            Self::Build => "build",
        }
    }

    fn variant(self) -> &'static str {
        match self {
            Self::Node => "minbase",
            Self::Containerd1 | Self::Core | Self::Programs | Self::Build => "extract",
        }
    }

    fn suite(self) -> &'static str {
        if self == Self::Containerd1 {
            OLD_SUITE
        } else {
            SUITE
        }
    }

    /// Name in the cache; another list of packages gives another name.
    pub(crate) fn cache_name(self) -> String {
        let suite = self.suite();
        let list = format!("{suite} {} {:?}", self.variant(), self.packages());
        format!(
            "{}-{suite}-{:016x}",
            self.label(),
            fingerprint(list.as_bytes())
        )
    }

    /// The tree's directory, made now if it is not there yet (about a minute).
    pub(crate) fn ensure(self) -> Result<PathBuf> {
        let dir = Path::new(CACHE).join(self.cache_name());
        let _lock = lock_cache()?;
        if dir.is_dir() {
            return Ok(dir);
        }
        let partial = Path::new(CACHE).join(format!("partial-{}", self.cache_name()));
        remove_tree(&partial)?;
        tracing::info!(
            tree = self.label(),
            "making a tree of Debian packages, this takes about a minute"
        );
        self.bootstrap(&partial)?;
        fs::rename(&partial, &dir).map_err(Error::file("rename", &partial))?;
        Ok(dir)
    }

    fn bootstrap(self, target: &Path) -> Result<()> {
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--mode=root", "--format=directory"]);
        command.arg(format!("--variant={}", self.variant()));
        command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        command.arg("--aptopt=APT::Install-Recommends \"false\"");
        command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
        command.arg(format!("--include={}", self.packages().join(",")));
        command.arg(self.suite()).arg(target).args(debian_mirror());
        let output = capture(&mut command)?;
        if output.success() {
            return Ok(());
        }
        remove_tree(target)?;
        Err(Error::Packages {
            packages: self.packages().join(" "),
            reason: last_lines(output.stderr.trim(), 5).to_owned(),
        })
    }
}

/// Makes the cache's directory and keeps others from changing it until the lock is dropped.
pub(crate) fn lock_cache() -> Result<Flock<fs::File>> {
    fs::create_dir_all(CACHE).map_err(Error::file("make", CACHE))?;
    lock(&Path::new(CACHE).join("lock"))
}

/// Takes an exclusive lock on a file, waiting for it.
pub(crate) fn lock(path: &Path) -> Result<Flock<fs::File>> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::file("open", path))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| Error::system(format!("lock {}", path.display()))(error))
}

/// Removes a directory if it is there, without crossing into other file systems.
pub(crate) fn remove_tree(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    capture(
        Command::new("rm")
            .args(["-rf", "--one-file-system", "--"])
            .arg(dir),
    )?
    .ok()
    .map(drop)
}

/// FNV-1a, 64 bits: the same everywhere and always, which the standard library's hash is not.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
