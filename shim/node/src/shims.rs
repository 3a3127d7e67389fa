//! The shims of this node: which pods run here, and how to talk to them.

mod client;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use mycedrive_proto::shim::DescribeReply;
use mycedrive_proto::shim_ttrpc::PodClient;
use tokio::time::timeout;

use crate::error::{Error, Result};

pub use client::{Resumed, Shim, app_containers, runs};

/// How long a shim may take to accept a connection or to answer Describe.
const SHORT: Duration = Duration::from_secs(3);

/// Finds shims by their sockets; keeps no state, so a daemon that was restarted sees them all.
#[derive(Debug, Clone)]
pub struct Shims {
    dir: PathBuf,
}

impl Shims {
    /// Shims have their sockets in `dir`, `SANDBOX.sock` each.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where their sockets are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ids of all sandboxes that have a socket, alive or not, sorted.
    pub fn ids(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let mut ids: Vec<String> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_suffix(".sock").map(str::to_owned)
            })
            .collect();
        ids.sort();
        ids
    }

    /// Whether somebody listens on the socket of a sandbox: the socket of a shim that was killed
    /// stays.
    pub fn alive(&self, sandbox: &str) -> bool {
        let path = self.dir.join(format!("{sandbox}.sock"));
        std::os::unix::net::UnixStream::connect(path).is_ok()
    }

    /// Connects to the shim of a sandbox.
    pub async fn connect(&self, sandbox: &str) -> Result<Shim> {
        let fail = |message: String| Error::Shim {
            sandbox: sandbox.to_owned(),
            call: "connect",
            message,
        };
        if sandbox.is_empty() || sandbox.contains('/') || sandbox.starts_with('.') {
            return Err(fail("not a sandbox id".to_owned()));
        }
        let address = format!("unix://{}/{sandbox}.sock", self.dir.display());
        let client = timeout(SHORT, ttrpc::r#async::Client::connect(&address))
            .await
            .map_err(|_| fail(format!("no answer within {} s", SHORT.as_secs())))?
            .map_err(|error| fail(error.to_string()))?;
        Ok(Shim::new(sandbox, PodClient::new(client)))
    }

    /// Every live shim with what it says of itself. Sockets that nobody answers on (a shim was
    /// killed) are left out.
    pub async fn list(&self) -> Vec<(Shim, DescribeReply)> {
        let asked = self.ids().into_iter().map(|id| async move {
            let shim = self.connect(&id).await.ok()?;
            match shim.describe().await {
                Ok(described) => Some((shim, described)),
                Err(error) => {
                    tracing::debug!(sandbox = %id, %error, "a shim does not answer");
                    None
                }
            }
        });
        futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// The shim of a pod, by its Kubernetes names. `node` is this node's name, for the error.
    /// Of several pods of that name (an old one is still ending) the one with a running
    /// container is taken.
    pub async fn find(
        &self,
        namespace: &str,
        name: &str,
        node: &str,
    ) -> Result<(Shim, DescribeReply)> {
        let mut found: Vec<(Shim, DescribeReply)> = self
            .list()
            .await
            .into_iter()
            .filter(|(_, pod)| pod.pod_namespace == namespace && pod.pod_name == name)
            .collect();
        found.sort_by_key(|(_, pod)| client::runs(pod));
        found.pop().ok_or_else(|| Error::UnknownPod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: node.to_owned(),
        })
    }
}
