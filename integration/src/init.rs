//! A node's first process: makes the node's namespaces and mounts, then starts its services again
//! whenever they end, and reaps.
//!
//! It runs twice. The outer run (`testbed init FILE`) joins the node's control groups and network
//! namespace, unshares the others and starts the inner run, which is pid 1 of the node. The outer run
//! prints the inner one's pid when the node is ready, and ends.

mod install;
mod mounts;
mod services;

pub(crate) use install::{PRELOAD, into as install};
pub(crate) use services::CONTROL;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Hierarchy};
use crate::{Error, Result};

/// What the inner run says on its standard output when the mounts are there.
const READY: &str = "ready";
/// Argument that tells the inner run from the outer one.
pub const INNER: &str = "--inner";

/// How a node is to be made; written by the testbed, read by both runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InitConfig {
    /// Name within the node.
    pub hostname: String,
    /// Network namespace to join.
    pub network: PathBuf,
    /// Hierarchies to mount, and in the same order the node's group in each.
    pub hierarchies: Vec<Hierarchy>,
    /// The node's group in each hierarchy.
    pub groups: Vec<PathBuf>,
    /// Root file system, never written to.
    pub lower: PathBuf,
    /// Directory with `upper`, `work` and `root`: what the node writes, and where it is put together.
    pub own: PathBuf,
    /// Directories of the machine that the node sees at a path of its own.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Directory of the machine with the programs that the node gets, and their installer.
    pub programs: Option<PathBuf>,
    /// Directories of the machine that the node sees read-only.
    pub read_only: Vec<(PathBuf, PathBuf)>,
    /// Kernel settings below /proc/sys.
    pub sysctls: Vec<(String, String)>,
    /// Seconds that the node's monotonic and boot clocks are ahead of the machine's.
    pub clock_offset: i64,
    /// Programs to keep running.
    pub services: Vec<Service>,
}

/// A program that pid 1 keeps running, unless `/run/testbed/NAME.down` exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Service {
    /// Its log is `/var/log/testbed/NAME.log`.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment beside the usual one.
    pub environment: Vec<(String, String)>,
}

/// Body of `testbed init FILE [--inner]`.
pub fn main(file: &Path, inner: bool) -> Result<()> {
    let text = fs::read_to_string(file).map_err(Error::file("read", file))?;
    let config: InitConfig = serde_json::from_str(&text).map_err(|error| Error::State {
        path: file.to_owned(),
        reason: error.to_string(),
    })?;
    if inner {
        run_inner(&config)
    } else {
        run_outer(file, &config)
    }
}

fn run_outer(file: &Path, config: &InitConfig) -> Result<()> {
    nix::unistd::setsid().map_err(Error::system("start a session"))?;
    for group in &config.groups {
        let procs = group.join("cgroup.procs");
        fs::write(&procs, "0").map_err(Error::file("join", &procs))?;
    }
    let network = fs::File::open(&config.network).map_err(Error::file("open", &config.network))?;
    setns(&network, CloneFlags::CLONE_NEWNET)
        .map_err(Error::system("join the node's network namespace"))?;
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    if config.clock_offset != 0 {
        flags |= CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
    }
    unshare(flags).map_err(Error::system("make the node's namespaces"))?;
    if config.clock_offset != 0 {
        let offsets = format!("monotonic {0} 0\nboottime {0} 0\n", config.clock_offset);
        let path = "/proc/self/timens_offsets";
        fs::write(path, offsets).map_err(Error::file("write", path))?;
    }
    leave_unified_group(config)?;
    let mut child = Command::new("/proc/self/exe")
        .arg("init")
        .arg(file)
        .arg(INNER)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Spawn {
            command: "testbed init".to_owned(),
            source,
        })?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    if line.trim() != READY {
        let status = child
            .wait()
            .map_or_else(|error| error.to_string(), |status| status.to_string());
        return Err(Error::Command {
            command: "testbed init".to_owned(),
            status,
            output: "its reason is above".to_owned(),
        });
    }
    println!("{}", child.id());
    Ok(())
}

/// Version 2 does not let a group have both processes and groups with controllers below it, so the
/// node's own processes live in a leaf. The cgroup namespace's root, made before this, stays above.
fn leave_unified_group(config: &InitConfig) -> Result<()> {
    if config
        .hierarchies
        .iter()
        .any(|hierarchy| !hierarchy.unified)
    {
        return Ok(());
    }
    for group in &config.groups {
        let leaf = group.join("init");
        fs::create_dir_all(&leaf).map_err(Error::file("make", &leaf))?;
        let procs = leaf.join("cgroup.procs");
        fs::write(&procs, "0").map_err(Error::file("join", &procs))?;
        cgroup::delegate(group);
    }
    Ok(())
}

fn run_inner(config: &InitConfig) -> Result<()> {
    mounts::mount_all(config)?;
    nix::unistd::sethostname(&config.hostname).map_err(Error::system("set the host name"))?;
    for (key, value) in &config.sysctls {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        fs::write(&path, value).map_err(Error::file("write", &path))?;
    }
    println!("{READY}");
    io::stdout()
        .flush()
        .map_err(Error::file("write", "standard output"))?;
    // The pipe ends here, so that the outer run does not wait for it.
    nix::unistd::dup2_stdout(io::stderr()).map_err(Error::system("redirect standard output"))?;
    services::supervise(&config.services)
}
