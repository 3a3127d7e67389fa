//! Runs the OCI runtime (runc, or what `BinaryName` says) and understands its errors.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::reaper;

/// Where runc keeps its state when the options do not say.
const DEFAULT_ROOT: &str = "/run/containerd/runc";

static LOGS: AtomicU64 = AtomicU64::new(0);

/// The OCI runtime as one container uses it.
#[derive(Clone, Debug)]
pub struct Runc {
    binary: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    systemd_cgroup: bool,
}

/// Standard streams of a runtime command; None is /dev/null.
#[derive(Debug, Default)]
pub struct Streams {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

/// One line of runc's JSON log.
#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

impl Runc {
    /// The runtime for the container in `bundle`, in the containerd namespace `namespace`.
    pub fn new(options: &Options, namespace: &str, bundle: &Path) -> Self {
        let root = if options.root.is_empty() {
            Path::new(DEFAULT_ROOT)
        } else {
            Path::new(&options.root)
        };
        Self {
            binary: PathBuf::from(options.binary()),
            root: root.join(namespace),
            bundle: bundle.to_owned(),
            systemd_cgroup: options.systemd_cgroup,
        }
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The directory of runc's state; each container has one of its id below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command line with the global options; `log` gets runc's messages as JSON lines.
    fn command(&self, log: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(log)
            .args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command
    }

    fn log_file(&self) -> PathBuf {
        let number = LOGS.fetch_add(1, Ordering::Relaxed);
        self.bundle.join(format!("runc-{number}.log"))
    }

    /// Runs `runc ARGS…` with /dev/null as its streams.
    pub async fn run<I, S>(&self, args: I) -> Result<()>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.run_with(args, Streams::default()).await
    }

    /// Runs `runc ARGS…`; a container made by it inherits `streams`.
    pub async fn run_with<I, S>(&self, args: I, streams: Streams) -> Result<()>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let log = self.log_file();
        let args: Vec<OsString> = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        let result = self.spawn_and_wait(&args, streams, &log).await;
        let _ = fs::remove_file(&log);
        result
    }

    async fn spawn_and_wait(&self, args: &[OsString], streams: Streams, log: &Path) -> Result<()> {
        let stream = |end: Option<OwnedFd>| end.map_or_else(Stdio::null, Stdio::from);
        let name = args
            .first()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let watch = {
            // No await between the spawn and the watch: see `reaper`.
            let child = self
                .command(log)
                .args(args)
                .stdin(stream(streams.stdin))
                .stdout(stream(streams.stdout))
                .stderr(stream(streams.stderr))
                .spawn()
                .map_err(Error::path("run", &self.binary))?;
            reaper::watch(child.id() as i32)
        };
        let exit = reaper::exited(watch).await;
        if exit.code == 0 {
            return Ok(());
        }
        let text = fs::read_to_string(log).ok();
        Err(failure(name, exit.code, text.as_deref()))
    }

    /// Runs `runc ARGS…` with `input` on its standard input.
    pub async fn run_input(&self, args: &[&str], input: &[u8]) -> Result<()> {
        let (read, write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Error::io("make a pipe"))?;
        let streams = Streams {
            stdin: Some(read),
            ..Streams::default()
        };
        // What is sent here (resources) is far below a pipe's capacity.
        fs::File::from(write)
            .write_all(input)
            .map_err(Error::io("write to runc"))?;
        self.run_with(args, streams).await
    }

    /// Whether `runc features` lists the namespace `kind`. A runtime that does not know the
    /// command does not have it either.
    pub async fn has_namespace(&self, kind: &str) -> bool {
        let Ok(text) = self.output(&["features"]).await else {
            return false;
        };
        serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .as_ref()
            .and_then(|features| features.pointer("/linux/namespaces")?.as_array())
            .is_some_and(|list| list.iter().any(|entry| entry == kind))
    }

    /// What `runc ARGS…` prints.
    pub async fn output(&self, args: &[&str]) -> Result<Vec<u8>> {
        let (read, write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Error::io("make a pipe"))?;
        let mut read = pipe::Receiver::from_owned_fd(read).map_err(Error::io("use a pipe"))?;
        let streams = Streams {
            stdout: Some(write),
            ..Streams::default()
        };
        let mut text = Vec::new();
        let (result, read) =
            tokio::join!(self.run_with(args, streams), read.read_to_end(&mut text));
        result?;
        read.map_err(Error::io("read what runc prints"))?;
        Ok(text)
    }

    /// `runc delete --force`, without a reaper: for the `delete` command of the shim.
    pub fn delete_blocking(&self, id: &str) -> Result<()> {
        let log = self.log_file();
        let status = self
            .command(&log)
            .args(["delete", "--force", id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(Error::path("run", &self.binary))?;
        let text = fs::read_to_string(&log).ok();
        let _ = fs::remove_file(&log);
        if status.success() {
            return Ok(());
        }
        let code = status.code().unwrap_or(255) as u32;
        Err(failure("delete".to_owned(), code, text.as_deref()))
    }
}

/// The error in runc's log, as the kind that containerd expects.
fn failure(command: String, code: u32, log: Option<&str>) -> Error {
    let message = log
        .and_then(last_error)
        .unwrap_or_else(|| format!("exit code {code}"));
    let gone = [
        "container does not exist",
        "does not exist",
        "container not running",
        "process already finished",
        "no such process",
    ];
    if matches!(command.as_str(), "kill" | "delete")
        && gone.iter().any(|text| message.contains(text))
    {
        return Error::NotFound(format!("runc {command}: {message}"));
    }
    Error::Runc { command, message }
}

/// The last line of level error (or worse) in runc's log.
fn last_error(log: &str) -> Option<String> {
    log.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<LogLine>(line).ok())
        .find(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic"))
        .map(|line| line.msg)
}

#[cfg(test)]
#[path = "runc_tests.rs"]
mod tests;
