//! A node of a testbed.

mod config;
mod containerd;
mod control;
mod create;
mod pods;
mod power;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::network::{self, Addresses};
use crate::run::{Output, capture};
use crate::{Cri, Error, Result};

pub use containerd::Containerd;
pub(crate) use create::Plan;

/// Variables and search path of commands in a node.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Joins the node's control groups, so that what a command starts ends with the node, then runs it.
const JOIN_GROUPS: &str = r#"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo 0 >/sys/fs/cgroup/init/cgroup.procs
else for group in /sys/fs/cgroup/*/cgroup.procs; do echo 0 >"$group"; done; fi
exec "$@"
"#;

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// Runs containerd, a pod network and the node daemon.
    Worker,
    /// Has only the link network, with routes to all pods: for clients.
    Client,
}

/// A running node. Dropping it does nothing: its [`crate::Testbed`] owns it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    testbed: String,
    name: String,
    kind: NodeKind,
    index: u8,
    /// The machine's pid of the node's pid 1.
    pid: i32,
    /// When that process started, in clock ticks since boot: tells it from a later one of its pid.
    started: u64,
    /// Directory with what the node writes.
    own: PathBuf,
    clock_offset: i64,
}

impl Node {
    /// Its name, which is its host name as well.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Worker or client.
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// IPv4 address on the link between nodes.
    pub fn address(&self) -> String {
        Addresses::link4(self.index)
    }

    /// IPv6 address on the link between nodes.
    pub fn address6(&self) -> String {
        Addresses::link6(self.index)
    }

    /// The machine's pid of the node's pid 1.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The node's root as the machine's processes reach it, with all that is mounted there.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }

    /// Path of one of the node's files for the machine's processes: `path` is absolute in the node.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Is its pid 1 running?
    pub fn alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// A command that runs in the node, with the caller's standard input and output.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        if self.clock_offset != 0 {
            command.arg("--time");
        }
        command
            .args(["--", "/bin/sh", "-c", JOIN_GROUPS, "sh"])
            .args(args);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8");
        command.envs(std::env::var_os("TERM").map(|term| ("TERM", term)));
        command
    }

    /// Runs a command in the node to its end, without standard input.
    pub fn exec(&self, args: &[&str]) -> Result<Output> {
        capture(&mut self.command(args))
    }

    /// Runs a command in the node; its standard output without the space at its ends, or an error that
    /// holds what it printed.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.exec(&["/bin/sh", "-euc", script])?.ok()
    }

    /// Connects to the node's containerd.
    pub fn cri(&self) -> Result<Cri> {
        Cri::connect(&self.name, &self.path("/run/containerd/containerd.sock"))
    }

    /// Limits what the node sends and receives to a rate such as `3mbit`; `None`: no limit.
    pub fn set_rate(&self, rate: Option<&str>) -> Result<()> {
        network::set_rate(&self.testbed, &self.name, self.index, rate)
    }

    /// Connects or cuts the node's link to all others.
    pub fn set_link(&self, up: bool) -> Result<()> {
        network::set_link(&self.testbed, self.index, up)
    }

    /// Directory on the machine with the node's /var/log; it outlives the node's processes.
    pub fn log_dir(&self) -> PathBuf {
        self.own.join("log")
    }

    /// A service's log so far; empty if it has none.
    pub fn log(&self, service: &str) -> String {
        let path = self
            .log_dir()
            .join("testbed")
            .join(format!("{service}.log"));
        std::fs::read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

/// Field 22 of /proc/PID/stat, see proc_pid_stat(5). `None` if there is no such process, or a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        None
    } else {
        fields.nth(18)?.parse().ok()
    }
}

/// Used where something was expected in a node's environment but is not there.
fn timed_out(what: String, seconds: u64, detail: &str) -> Error {
    let detail = if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    };
    Error::TimedOut {
        what,
        seconds,
        detail,
    }
}
