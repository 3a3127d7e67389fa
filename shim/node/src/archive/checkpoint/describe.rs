//! What an archive says of itself, and whether there is room for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use mycedrive_proto::shim::{Container, ContainerState};

use super::super::{ContainerHeader, Header};
use super::{Task, state};
use crate::error::{Error, Result};
use crate::source::Trees;
use crate::units::show_bytes;
use crate::{confinement, files, machine};

impl Task<'_> {
    pub(super) async fn header(
        &self,
        containers: &BTreeMap<&str, &Container>,
        trees: &Trees,
        tree_bytes: u64,
    ) -> Result<Header> {
        let mut listed = vec![];
        let mut memory = 0;
        for (name, container) in containers {
            let described = trees.describe(name);
            let runs = state(container) == ContainerState::CONTAINER_STATE_RUNNING;
            if runs {
                memory += machine::memory_of(container.pid);
            }
            let digest = self
                .app
                .digests
                .of_container(&self.pod.containerd_namespace, &container.id);
            listed.push(ContainerHeader {
                name: (*name).to_owned(),
                image: container.image.clone(),
                image_digest: digest.await?,
                exit_code: (!runs).then_some(container.exit_code),
                engine: container.engine.clone(),
                confinement: confinement::canonical(&container.confinement),
                trees: described.names,
                tree_bytes: described.bytes,
                layers: described.layers.into_iter().collect(),
            });
        }
        let uses = |engine: &str| {
            let mut listed = listed.iter();
            listed.any(|one: &ContainerHeader| one.exit_code.is_none() && one.engine == engine)
        };
        let pod = if self.pod.pod_name.is_empty() {
            &self.pod.sandbox_id
        } else {
            &self.pod.pod_name
        };
        Ok(Header {
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            node: self.app.config.node_name.clone(),
            namespace: self.pod.pod_namespace.clone(),
            pod: pod.clone(),
            criu_version: machine::criu_version().await,
            dmtcp_version: if uses("dmtcp") {
                machine::dmtcp_version(&self.app.config).await
            } else {
                String::new()
            },
            architecture: std::env::consts::ARCH.to_owned(),
            kernel: machine::kernel(),
            cpu_features: machine::cpu_features(),
            containers: listed,
            memory_bytes: memory,
            tree_bytes,
        })
    }

    /// Enough for images and archive, before anything stands still.
    pub(super) fn room(&self, header: &Header) -> Result<()> {
        let images = &self.app.config.image_dir;
        files::make_private_dir(images)?;
        let folder = self.partial.parent().unwrap_or(Path::new("/"));
        let all = header.memory_bytes + header.tree_bytes;
        for (place, needed) in [(images.as_path(), header.memory_bytes), (folder, all)] {
            let needed = needed + needed / 8 + (16 << 20);
            let free = machine::free_space(place)?;
            if free < needed {
                return Err(Error::Refused(format!(
                    "{} free in {}, about {} are needed",
                    show_bytes(free),
                    place.display(),
                    show_bytes(needed)
                )));
            }
        }
        Ok(())
    }
}
