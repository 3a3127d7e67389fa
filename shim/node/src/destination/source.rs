//! Calls to the source's node, and what of its answer makes a migration impossible here.

use std::collections::HashMap;

use mycedrive_proto::PROTOCOL;
use mycedrive_proto::migration::source_client::SourceClient;
use mycedrive_proto::migration::{
    Block, ConcludeRequest, ContainerSpec, CopyRequest, Decision, FreezeRequest, Manifest,
    OfferRequest, OpenRequest,
};
use mycedrive_proto::shim::Container;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::annotations::Wish;
use super::engines::{self, Installed};
use super::migration::Migration;
use crate::app::Shared;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::{confinement, files, machine};

const MIB: u64 = 1 << 20;

/// Why this node cannot take the pod. Nothing of it was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Another version of the protocol.
    #[error(
        "the source speaks protocol {theirs}, this node {ours}: install the same version of \
         mycedrive on both nodes"
    )]
    Protocol {
        /// This node's.
        ours: u32,
        /// The source's.
        theirs: u32,
    },
    /// CPU.
    #[error(
        "the CPU of this node lacks {0}, which programs on the source may use: choose a node with \
         the same or a newer CPU"
    )]
    Cpu(String),
    /// No CRIU, or an old one.
    #[error("this node has {ours}, the source used CRIU {theirs}: install it here")]
    Criu {
        /// This node's.
        ours: String,
        /// The source's.
        theirs: String,
    },
    /// No DMTCP, or another one: its images are those of one version.
    #[error("this node has {ours}, the source uses DMTCP {theirs}: install the same version here")]
    Dmtcp {
        /// This node's.
        ours: String,
        /// The source's.
        theirs: String,
    },
    /// An engine that this node does not know.
    #[error(
        "container {container}: the source uses engine {engine:?}, this node knows criu and dmtcp"
    )]
    Engine {
        /// The container.
        container: String,
        /// Its engine.
        engine: String,
    },
    /// No room.
    #[error("this node has {free} MiB free {place}, the pod needs about {needed} MiB")]
    Space {
        /// Free MiB.
        free: u64,
        /// Needed MiB.
        needed: u64,
        /// Where.
        place: String,
    },
    /// This pod uses the host's network.
    #[error("this pod uses the host's network: a pod can only move into a network of its own")]
    HostNetwork,
    /// Too long a chain.
    #[error(
        "the pod still has connections to the addresses of {0} earlier pods, at most {max} can be \
         carried: wait for some to end, delete an old pod, or set mycedrive.io/connections: close",
        max = mycedrive_connection::ROUTES
    )]
    Routes(usize),
    /// Nothing runs there.
    #[error("no container of the source pod runs: there is nothing to migrate")]
    NothingRuns,
}

/// What a round is to bring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Ids of the trees that have a place here.
    pub trees: Vec<String>,
    /// Of those, the ones of which no round is here.
    pub anew: Vec<String>,
    /// Of those, what is in their places nevertheless.
    pub have: HashMap<String, Vec<u8>>,
    /// Whether it is to bring memory.
    pub memory: bool,
    /// The newest round of memory that is here; 0: none.
    pub memory_base: u32,
    /// Containers whose images can be read here.
    pub images: Vec<String>,
}

/// The source, as one migration uses it.
#[derive(Debug, Clone)]
pub struct Source {
    endpoint: String,
    id: String,
    client: SourceClient<Channel>,
}

impl Source {
    /// Dials the source of a migration.
    pub async fn dial(app: &Shared, migration: &Migration) -> Result<Self> {
        let endpoint = migration.details.endpoint.clone();
        let channel = app.peers.dial(&endpoint).await?;
        let client = SourceClient::new(channel)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        let id = migration.details.id.clone();
        Ok(Self {
            endpoint,
            id,
            client,
        })
    }

    /// Opens, or authorises more containers.
    pub async fn open(
        &mut self,
        app: &Shared,
        migration: &Migration,
        wish: &Wish,
        containers: &[Container],
    ) -> Result<Manifest> {
        let details = &migration.details;
        let mut specs = vec![];
        for container in containers {
            let image_digest = app
                .digests
                .of_container(&details.containerd_namespace, &container.id)
                .await?;
            specs.push(ContainerSpec {
                name: container.name.clone(),
                image_digest,
                confinement: confinement::canonical(&container.confinement),
                mount_destinations: container
                    .mounts
                    .iter()
                    .map(|mount| mount.destination.clone())
                    .collect(),
            });
        }
        let request = OpenRequest {
            protocol: PROTOCOL,
            migration_id: self.id.clone(),
            pod_namespace: wish.namespace.clone(),
            pod_name: wish.pod.clone(),
            destination_namespace: details.namespace.clone(),
            destination_name: details.pod.clone(),
            destination_uid: details.uid.clone(),
            destination_endpoint: app.config.advertise.clone(),
            containers: specs,
            criu_version: machine::criu_version().await,
            dmtcp_version: machine::dmtcp_version(&app.config).await,
            cpu_features: machine::cpu_features(),
            keep_connections: wish.keep_connections,
            bandwidth: wish.bandwidth,
        };
        let remote = Error::remote(&self.endpoint, "to hand the pod over");
        Ok(self
            .client
            .open(request)
            .await
            .map_err(remote)?
            .into_inner())
    }

    /// A round.
    pub async fn copy(&mut self, round: u32, asked: Asked) -> Result<Streaming<Block>> {
        let request = CopyRequest {
            migration_id: self.id.clone(),
            round,
            trees: asked.trees,
            anew: asked.anew,
            have: asked.have,
            memory: asked.memory,
            memory_base: asked.memory_base,
            images: asked.images,
        };
        let remote = Error::remote(&self.endpoint, "to send a round");
        Ok(self
            .client
            .copy(request)
            .await
            .map_err(remote)?
            .into_inner())
    }

    /// The final round.
    pub async fn freeze(&mut self, memory_base: u32) -> Result<Streaming<Block>> {
        let request = FreezeRequest {
            migration_id: self.id.clone(),
            memory_base,
        };
        let remote = Error::remote(&self.endpoint, "to freeze the pod");
        Ok(self
            .client
            .freeze(request)
            .await
            .map_err(remote)?
            .into_inner())
    }

    /// Everything is here.
    pub async fn offer(&mut self, digest: [u8; 32]) -> Result<()> {
        let request = OfferRequest {
            migration_id: self.id.clone(),
            digest: digest.to_vec(),
        };
        let remote = Error::remote(&self.endpoint, "the offer");
        self.client.offer(request).await.map(drop).map_err(remote)
    }

    /// The decision.
    pub async fn conclude(&mut self, decision: Decision, reason: &str) -> Result<Heard> {
        let request = ConcludeRequest {
            migration_id: self.id.clone(),
            decision: decision.into(),
            reason: reason.to_owned(),
        };
        match self.client.conclude(request).await {
            Ok(_) => Ok(Heard::Acknowledged),
            Err(status) if status.code() == Code::NotFound => Ok(Heard::Unknown),
            Err(status) if status.code() == Code::Aborted => Ok(Heard::Overruled),
            Err(status) => Err(Error::remote(&self.endpoint, "the decision")(status)),
        }
    }
}

/// What the source said to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is durable there.
    Acknowledged,
    /// It does not know the migration.
    Unknown,
    /// It contradicts a person's decision there.
    Overruled,
}

/// Whether this node can carry what the manifest describes.
pub async fn check(app: &Shared, manifest: &Manifest, staging: &std::path::Path) -> Result<()> {
    fits(&app.config, manifest).await?;
    room(app, manifest, staging)
}

/// Whether the manifest's pod could go on on this machine, as far as programs and CPU say.
pub async fn fits(config: &Config, manifest: &Manifest) -> Result<()> {
    let refuse = |obstacle: Obstacle| Err(Error::Refused(obstacle.to_string()));
    if manifest.protocol != PROTOCOL {
        return refuse(Obstacle::Protocol {
            ours: PROTOCOL,
            theirs: manifest.protocol,
        });
    }
    if manifest.containers.iter().all(|one| one.exited) {
        return refuse(Obstacle::NothingRuns);
    }
    let routes = 1 + manifest.earlier.len();
    if routes > mycedrive_connection::ROUTES {
        return refuse(Obstacle::Routes(routes));
    }
    let ours = machine::cpu_features();
    let lacking: Vec<&str> = manifest
        .cpu_features
        .iter()
        .filter(|feature| !ours.contains(feature))
        .map(String::as_str)
        .collect();
    if !lacking.is_empty() {
        return refuse(Obstacle::Cpu(lacking.join(", ")));
    }
    if let Some(obstacle) = engines::check(manifest, &Installed::find(config, manifest).await) {
        return refuse(obstacle);
    }
    Ok(())
}

/// What an image may take that is announced with so much memory.
const fn image_bytes(memory: u64) -> u64 {
    memory + memory / 8 + 16 * MIB
}

/// Whether memory can be kept twice: in rounds before the freeze, and whole should all of it have
/// changed since. Otherwise it comes in the freeze only.
pub fn room_for_rounds(app: &Shared, memory: u64) -> bool {
    let images = 2 * image_bytes(memory);
    let place = machine::free_space(&app.config.image_dir).unwrap_or(0);
    place >= images && machine::available_memory() >= images + memory
}

fn room(app: &Shared, manifest: &Manifest, staging: &std::path::Path) -> Result<()> {
    let enough = |free: u64, needed: u64, place: String| {
        if free >= needed {
            return Ok(());
        }
        let obstacle = Obstacle::Space {
            free: free / MIB,
            needed: needed / MIB,
            place,
        };
        Err(Error::Refused(obstacle.to_string()))
    };
    let images = &app.config.image_dir;
    files::make_private_dir(images)?;
    let image = image_bytes(manifest.memory_bytes);
    let place = format!("below {}", images.display());
    enough(machine::free_space(images)?, image, place)?;
    let place = "of memory (image and processes)".to_owned();
    let both = image + manifest.memory_bytes;
    enough(machine::available_memory(), both, place)?;
    let disk = manifest.tree_bytes + manifest.tree_bytes / 16 + 16 * MIB;
    let place = format!("below {}", staging.display());
    enough(machine::free_space(staging)?, disk, place)
}
