//! The client as a process in a node's network.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::protocol::Protocol;
use super::report::Report;
use crate::host::binary_dir;
use crate::{Error, Node, Result};

/// A client in a node's network; killed when dropped.
#[derive(Debug)]
pub struct Client {
    child: Child,
    dir: TempDir,
    port: u16,
}

impl Client {
    /// Path of the program `client`, which is built beside this one.
    pub fn program() -> Result<PathBuf> {
        Ok(binary_dir()?.join("client"))
    }

    /// Starts a client of Redis in the network namespace of `node`.
    pub fn start(node: &Node, program: &Path, address: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(address, Protocol::Redis.port());
        Self::start_on(node, program, address, "counter")
    }

    /// The same for another port and the counter of this name: each client needs its own.
    pub fn start_on(
        node: &Node,
        program: &Path,
        address: SocketAddr,
        counter: &str,
    ) -> Result<Self> {
        Self::launch(Protocol::Redis, node, program, address, counter)
    }

    /// Starts a client of another program.
    pub fn speaking(
        protocol: Protocol,
        node: &Node,
        program: &Path,
        address: IpAddr,
    ) -> Result<Self> {
        let address = SocketAddr::new(address, protocol.port());
        Self::launch(protocol, node, program, address, "counter")
    }

    fn launch(
        protocol: Protocol,
        node: &Node,
        program: &Path,
        address: SocketAddr,
        counter: &str,
    ) -> Result<Self> {
        let dir = TempDir::new().map_err(Error::file("make", "/tmp"))?;
        let service = dir.path().join("service");
        write(&service, &address.to_string())?;
        let child = Command::new("nsenter")
            .args(["--target", &node.pid().to_string(), "--net", "--"])
            .arg(program)
            .args([Path::new("--service"), &service])
            .args([Path::new("--stop"), &dir.path().join("stop")])
            .args([Path::new("--out"), &dir.path().join("report.json")])
            .args(["--counter", counter])
            .args(["--protocol", protocol.name()])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|source| Error::Spawn {
                command: "nsenter ... client".to_owned(),
                source,
            })?;
        Ok(Self {
            child,
            dir,
            port: address.port(),
        })
    }

    /// The service is at this address for connections from now on.
    pub fn point_to(&self, address: IpAddr) -> Result<()> {
        let fresh = self.dir.path().join("service.new");
        write(&fresh, &SocketAddr::new(address, self.port).to_string())?;
        fs::rename(&fresh, self.dir.path().join("service")).map_err(Error::file("rename", &fresh))
    }

    /// Ends the client and reads what it saw.
    pub fn finish(mut self) -> Result<Report> {
        write(&self.dir.path().join("stop"), "")?;
        let path = self.dir.path().join("report.json");
        self.child
            .wait()
            .map_err(Error::file("wait for the client of", &path))?;
        let text = fs::read(&path).map_err(Error::file("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| Error::State {
            path,
            reason: error.to_string(),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}

/// `CLOCK_REALTIME` in nanoseconds: the client and the nodes share one machine's clock.
pub fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
