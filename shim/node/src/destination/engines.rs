//! Whether this node has the engines that a source's containers are carried by.

use mycedrive_proto::migration::Manifest;

use super::source::Obstacle;
use crate::config::Config;
use crate::machine;

/// Versions of this node's engines; empty for one that is not there or not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    criu: String,
    dmtcp: String,
}

impl Installed {
    /// Asks those that the containers of a manifest use.
    pub async fn find(config: &Config, manifest: &Manifest) -> Self {
        let mut found = Self::default();
        if uses(manifest, "criu") {
            found.criu = machine::criu_version().await;
        }
        if uses(manifest, "dmtcp") {
            found.dmtcp = machine::dmtcp_version(config).await;
        }
        found
    }
}

fn uses(manifest: &Manifest, engine: &str) -> bool {
    manifest
        .containers
        .iter()
        .any(|one| !one.exited && one.engine == engine)
}

/// What this node's engines lack for the containers that run.
pub fn check(manifest: &Manifest, installed: &Installed) -> Option<Obstacle> {
    let known = ["criu", "dmtcp"];
    let unknown = manifest
        .containers
        .iter()
        .find(|one| !one.exited && !known.contains(&one.engine.as_str()));
    if let Some(one) = unknown {
        return Some(Obstacle::Engine {
            container: one.name.clone(),
            engine: one.engine.clone(),
        });
    }
    let named = |name: &str, version: &str| {
        if version.is_empty() {
            format!("no {name}")
        } else {
            format!("{name} {version}")
        }
    };
    let Installed { criu, dmtcp } = installed;
    let (criu_there, dmtcp_there) = (&manifest.criu_version, &manifest.dmtcp_version);
    if uses(manifest, "criu")
        && (criu.is_empty() || machine::version(criu) < machine::version(criu_there))
    {
        return Some(Obstacle::Criu {
            ours: named("CRIU", criu),
            theirs: criu_there.clone(),
        });
    }
    if uses(manifest, "dmtcp") && (dmtcp.is_empty() || dmtcp != dmtcp_there) {
        return Some(Obstacle::Dmtcp {
            ours: named("DMTCP", dmtcp),
            theirs: dmtcp_there.clone(),
        });
    }
    None
}

#[cfg(test)]
mod tests;
