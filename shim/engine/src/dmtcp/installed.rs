//! Which DMTCP is installed on this node, and what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::EngineError;
use crate::preflight::elf::{self, Elf};
use crate::runner::{self, Runner};

/// Oldest version whose restored containers hold.
const WANTED: &str = "4.1.1";
/// Where it is looked for first.
const USUAL: &str = "/opt/dmtcp";
const LIMIT: Duration = Duration::from_secs(10);
/// What is loaded inside a container.
const LOADED: [&str; 4] = [
    "bin/dmtcp_launch",
    "bin/dmtcp_restart",
    "bin/mtcp_restart",
    "lib/dmtcp/libdmtcp.so",
];
/// Our plugin, where an installation puts it: beside the shim, or in a library directory.
const PLUGIN: &str = "libmycedrive_dmtcp.so";
const PLUGIN_PLACES: [&str; 3] = ["", "../lib/mycedrive", "deps"];
/// What glibc itself consists of; its parts have one version.
const GLIBC: [&str; 8] = [
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libresolv.so.2",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];

/// An installed DMTCP.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    /// Holds `bin` and `lib/dmtcp`, and nothing else that containers must not see.
    pub prefix: PathBuf,
    /// As `dmtcp_launch --version` says.
    pub version: String,
    /// The oldest glibc that it runs with.
    pub glibc: (u32, u32),
    /// Further libraries by name, with the versions that it wants of each.
    pub libraries: BTreeMap<String, BTreeSet<String>>,
    /// Our plugin, if it is installed.
    pub plugin: Option<PathBuf>,
}

impl Installation {
    /// Looks for it, in `configured` alone if that is given.
    pub(super) async fn find(
        runner: &dyn Runner,
        configured: Option<&Path>,
    ) -> Result<Self, EngineError> {
        let missing = |source| EngineError::Missing {
            program: "dmtcp",
            wanted: WANTED,
            source,
        };
        let prefix = find_prefix(configured).ok_or_else(|| {
            let text = match configured {
                Some(prefix) => format!(
                    "{}, which the node's configuration names (dmtcp_prefix), does not have all of {}",
                    prefix.display(),
                    LOADED.join(", ")
                ),
                None => format!(
                    "there is no bin/dmtcp_launch in {USUAL}, nor in a prefix of its own in PATH"
                ),
            };
            missing(io::Error::new(io::ErrorKind::NotFound, text))
        })?;
        let mut command = Command::new(prefix.join("bin/dmtcp_launch"));
        command.arg("--version");
        let text = runner::output(runner, command, LIMIT)
            .await
            .map_err(missing)?;
        let version = new_enough(&text).ok_or_else(|| EngineError::TooOld {
            program: "dmtcp",
            found: text.lines().next().unwrap_or_default().to_owned(),
            wanted: WANTED,
        })?;
        let plugin = plugin();
        let mut files: Vec<PathBuf> = LOADED.iter().map(|name| prefix.join(name)).collect();
        files.extend(plugin.clone());
        let mut installation = Self {
            prefix,
            version,
            glibc: (0, 0),
            libraries: BTreeMap::new(),
            plugin,
        };
        for file in &files {
            installation.add(file)?;
        }
        Ok(installation)
    }

    /// Adds what one of its files needs.
    fn add(&mut self, path: &Path) -> Result<(), EngineError> {
        let file = File::open(path).map_err(EngineError::io("open", path))?;
        let elf = Elf::read(file).map_err(EngineError::io("read", path))?;
        self.glibc = self.glibc.max(needs_glibc(&elf));
        for (name, versions) in others(&elf) {
            self.libraries.entry(name).or_default().extend(versions);
        }
        Ok(())
    }
}

/// The glibc that a file needs at least.
pub(super) fn needs_glibc(elf: &Elf) -> (u32, u32) {
    elf::glibc(elf.wants.values().flatten()).unwrap_or((0, 0))
}

/// What a file needs besides glibc.
pub(super) fn others(elf: &Elf) -> impl Iterator<Item = (String, BTreeSet<String>)> + '_ {
    elf.needed
        .iter()
        .filter(|name| !GLIBC.contains(&name.as_str()))
        .map(|name| {
            (
                name.clone(),
                elf.wants.get(name).cloned().unwrap_or_default(),
            )
        })
}

/// The prefix with an installed DMTCP: `configured` or none, if that is given; else `/opt/dmtcp`, or
/// that of a `dmtcp_launch` in `PATH`.
pub fn find_prefix(configured: Option<&Path>) -> Option<PathBuf> {
    if let Some(prefix) = configured {
        return Some(prefix.to_owned()).filter(|prefix| has_it(prefix));
    }
    let usual = Some(PathBuf::from(USUAL)).filter(|prefix| has_it(prefix));
    usual.or_else(|| {
        env::split_paths(&env::var_os("PATH")?)
            .filter_map(|bin| bin.join("dmtcp_launch").canonicalize().ok())
            .filter_map(|program| Some(program.parent()?.parent()?.to_owned()))
            // Of a prefix that it shares with others the whole would be mounted into containers.
            .find(|prefix| {
                has_it(prefix) && ![Path::new("/usr"), Path::new("/")].contains(&prefix.as_path())
            })
    })
}

fn has_it(prefix: &Path) -> bool {
    LOADED.iter().all(|name| prefix.join(name).is_file())
}

fn plugin() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?;
    PLUGIN_PLACES
        .iter()
        .map(|place| folder.join(place).join(PLUGIN))
        .find(|path| path.is_file())
        .and_then(|path| path.canonicalize().ok())
}

/// The version in a first line like `dmtcp_launch (DMTCP) 4.2.0`, unless it is too old.
fn new_enough(text: &str) -> Option<String> {
    let version = text
        .lines()
        .next()?
        .split_once("(DMTCP)")?
        .1
        .trim()
        .to_owned();
    (numbers(&version)? >= numbers(WANTED)?).then_some(version)
}

/// Major, minor and patch level.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let major = parts.next()?;
    (major > 0).then(|| [major, parts.next().unwrap_or(0), parts.next().unwrap_or(0)])
}

#[cfg(test)]
mod tests;
