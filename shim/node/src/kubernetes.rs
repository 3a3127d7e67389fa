//! Events on pods: what `kubectl describe pod` shows of a migration, and of a pod that no engine
//! carries. Written with the credentials of the node's kubelet, which may do that
//! (<https://kubernetes.io/docs/reference/access-authn-authz/node/>). Nothing else is asked of the
//! API server, and nothing depends on it.

mod client;
mod events;
mod kubeconfig;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::Shared;
use crate::config;
use crate::error::{Error, Result};

use client::Client;
use events::PodEvent;
use kubeconfig::Access;

/// How often pods and migrations are looked at.
const EVERY: Duration = Duration::from_secs(10);
/// Where kubelets have their credentials: kubeadm, older installers, k3s, k0s, MicroK8s.
const KUBELETS: [&str; 5] = [
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/kubelet/kubeconfig",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/var/lib/k0s/kubelet.conf",
    "/var/snap/microk8s/current/credentials/kubelet.config",
];

/// The file with the credentials; `None`: no events are written.
pub fn file(config: &config::Kubernetes) -> Option<PathBuf> {
    match config.kubeconfig.as_str() {
        "none" => None,
        "" => KUBELETS
            .iter()
            .map(PathBuf::from)
            .find(|file| file.exists()),
        file => Some(file.into()),
    }
}

/// Dials the API server that `file` names; which one that is.
pub async fn dial(file: &Path) -> Result<String> {
    let access = Access::read(file)?;
    Client::dial(&access).await?;
    Ok(access.server)
}

/// Writes events, until the task is aborted.
pub async fn run(app: Shared) {
    let mut reporter = Reporter::default();
    loop {
        tokio::time::sleep(EVERY).await;
        // A node may join its cluster after this daemon was started.
        if let Some(file) = file(&app.config.kubernetes) {
            let wanted = reporter.wanted(&app).await;
            let written = reporter.write(&file, wanted, &app.config.node_name).await;
            reporter.tell(written);
        }
    }
}

#[derive(Default)]
struct Reporter {
    /// Names of the events that were written.
    written: BTreeSet<String>,
    /// Names of those that were wanted the last time: what passes is not worth an event.
    before: BTreeSet<String>,
    /// Why none could be written the last time.
    failed: Option<String>,
}

impl Reporter {
    async fn wanted(&mut self, app: &Shared) -> Vec<PodEvent> {
        let pods: Vec<_> = app.shims.list().await;
        let pods = pods.into_iter().map(|(_, pod)| pod).collect::<Vec<_>>();
        let all = events::all(&pods, &app.migrations.list());
        let names = |events: &[PodEvent]| events.iter().map(PodEvent::name).collect();
        let now: BTreeSet<String> = names(&all);
        self.written.retain(|name| now.contains(name));
        let lasting = |event: &PodEvent| event.at_once || self.before.contains(&event.name());
        let wanted = all
            .into_iter()
            .filter(|event| lasting(event) && !self.written.contains(&event.name()))
            .collect();
        self.before = now;
        wanted
    }

    async fn write(&mut self, file: &Path, wanted: Vec<PodEvent>, node: &str) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        // Read each time: certificates and tokens are renewed.
        let mut client = Client::dial(&Access::read(file)?).await?;
        for event in wanted {
            client.create(&event, node).await?;
            self.written.insert(event.name());
        }
        Ok(())
    }

    /// Says once why no event can be written.
    fn tell(&mut self, written: Result<()>) {
        let failed = written.err().map(|error| error.to_string());
        if let Some(error) = failed.as_ref().filter(|_| failed != self.failed) {
            tracing::warn!(%error, "no events are written on pods; it is tried again");
        }
        self.failed = failed;
    }
}

fn failed(message: impl Into<String>) -> Error {
    Error::Kubernetes(message.into())
}
