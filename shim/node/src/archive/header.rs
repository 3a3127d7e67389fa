//! What an archive says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use mycedrive_proto::PROTOCOL;
use mycedrive_proto::migration::{Manifest, SourceContainer};
use mycedrive_volume::receive::MAX_LAYERS;
use serde::{Deserialize, Serialize};

use super::ArchiveError;
use crate::source::ROOTFS;

/// First bytes of an archive.
const MAGIC: [u8; 8] = *b"MYCEARC\n";
/// The version that this program writes and reads. As of 2, images of CRIU are to be restored inside
/// the pod's network namespace.
const FORMAT: u16 = 2;
/// Largest header.
const LARGEST: u32 = 1 << 20;
/// Most containers of a pod, and most trees of a container.
const MOST: usize = 256;
/// Most bytes of anything: a PiB.
const MOST_BYTES: u64 = 1 << 50;
const DIGEST: usize = 32;

/// The header: about the pod, and what a node needs to take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Seconds since 1970.
    pub created: u64,
    /// Name of the node that it was made on.
    pub node: String,
    /// Kubernetes namespace; empty for a task that `ctr` made.
    pub namespace: String,
    /// Name of the pod, or id of the task.
    pub pod: String,
    /// Version of CRIU.
    pub criu_version: String,
    /// Version of DMTCP, if a container runs under it: its images are those of one version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dmtcp_version: String,
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// Kernel release.
    pub kernel: String,
    /// What the CPU could do, as far as programs choose instructions by it.
    pub cpu_features: Vec<String>,
    /// The containers.
    pub containers: Vec<ContainerHeader>,
    /// Bytes of memory, about.
    pub memory_bytes: u64,
    /// Bytes of root layers and volumes, about.
    pub tree_bytes: u64,
}

/// A container of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerHeader {
    /// Kubernetes' name, or the task's id.
    pub name: String,
    /// Name of its image; empty where nobody told.
    pub image: String,
    /// Digest of its image.
    pub image_digest: String,
    /// The code that it had ended with; `None`: it ran.
    pub exit_code: Option<u32>,
    /// What made its images.
    pub engine: String,
    /// What it was allowed, see `confinement`. Compared with, never applied.
    pub confinement: String,
    /// Its trees: `rootfs`, or where a volume is mounted.
    pub trees: Vec<String>,
    /// Bytes on disk of each of them, about.
    pub tree_bytes: Vec<u64>,
    /// Of those, the volumes that are stacks: number of layers, the base and the upper counted.
    pub layers: BTreeMap<String, u32>,
}

impl Header {
    /// The head of a file with this header.
    pub fn encode(&self) -> Result<Vec<u8>, ArchiveError> {
        let malformed = |problem: String| ArchiveError::Header(problem);
        let json = serde_json::to_vec(self).map_err(|error| malformed(error.to_string()))?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        bounded(length)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(json);
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        Ok(bytes)
    }

    /// Reads the head of a file that anybody may have made. Takes not a byte of what follows.
    pub fn decode(source: &mut impl Read) -> Result<Self, ArchiveError> {
        let mut head = [0; MAGIC.len() + 6];
        source.read_exact(&mut head).map_err(ArchiveError::Read)?;
        let [magic @ .., v0, v1, l0, l1, l2, l3] = head;
        if magic != MAGIC {
            return Err(ArchiveError::Magic);
        }
        let found = u16::from_le_bytes([v0, v1]);
        if found != FORMAT {
            let known = FORMAT;
            return Err(ArchiveError::Format { found, known });
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        bounded(length)?;
        let mut json = vec![0; length as usize];
        source.read_exact(&mut json).map_err(ArchiveError::Read)?;
        let mut digest = [0; DIGEST];
        source.read_exact(&mut digest).map_err(ArchiveError::Read)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head).update(&json);
        if hasher.finalize() != blake3::Hash::from_bytes(digest) {
            return Err(ArchiveError::HeaderDigest);
        }
        let header: Self = serde_json::from_slice(&json)
            .map_err(|error| ArchiveError::Header(error.to_string()))?;
        header.check()?;
        Ok(header)
    }

    /// Whether a container that ran was carried by this engine.
    pub fn uses(&self, engine: &str) -> bool {
        let mut containers = self.containers.iter();
        containers.any(|one| one.exit_code.is_none() && one.engine == engine)
    }

    /// As a source node would describe the pod.
    pub fn manifest(&self) -> Manifest {
        let container = |one: &ContainerHeader| SourceContainer {
            streams: vec![],
            name: one.name.clone(),
            exited: one.exit_code.is_some(),
            exit_code: one.exit_code.unwrap_or_default(),
            engine: one.engine.clone(),
            image_digest: one.image_digest.clone(),
            confinement: one.confinement.clone(),
            trees: one.trees.clone(),
            tree_bytes: one.tree_bytes.clone(),
            layers: one.layers.clone().into_iter().collect(),
        };
        Manifest {
            protocol: PROTOCOL,
            node_name: self.node.clone(),
            containers: self.containers.iter().map(container).collect(),
            addresses: vec![],
            kernel: self.kernel.clone(),
            cpu_features: self.cpu_features.clone(),
            criu_version: self.criu_version.clone(),
            dmtcp_version: self.dmtcp_version.clone(),
            memory_bytes: self.memory_bytes,
            tree_bytes: self.tree_bytes,
            ..Manifest::default()
        }
    }

    /// Names become file names, sizes are added up, texts are shown: they are held to what they
    /// can be.
    fn check(&self) -> Result<(), ArchiveError> {
        let malformed = |problem: String| Err(ArchiveError::Header(problem));
        if self.containers.is_empty() || self.containers.len() > MOST {
            return malformed(format!("{} containers", self.containers.len()));
        }
        let mut names = BTreeSet::new();
        for container in &self.containers {
            let name = &container.name;
            if !plain(name) {
                return malformed(format!("container name {name:?}"));
            }
            if !names.insert(name) {
                return malformed(format!("container {name} is there twice"));
            }
            if container.trees.len() > MOST {
                return malformed(format!("container {name} has too many trees"));
            }
            let mut trees = BTreeSet::new();
            for tree in &container.trees {
                if !(tree == ROOTFS || absolute(tree)) || !trees.insert(tree) {
                    return malformed(format!("tree {tree:?} of container {name}"));
                }
            }
            let sizes = &container.tree_bytes;
            if sizes.len() != trees.len() || sizes.iter().any(|bytes| *bytes > MOST_BYTES) {
                return malformed(format!("sizes of trees of container {name}"));
            }
            for (tree, layers) in &container.layers {
                if tree == ROOTFS || !trees.contains(tree) || !(1..=MAX_LAYERS).contains(layers) {
                    return malformed(format!(
                        "{layers} layers of tree {tree:?} of container {name}"
                    ));
                }
            }
        }
        if !(plain(&self.pod) && (self.namespace.is_empty() || plain(&self.namespace))) {
            return malformed(format!("pod {:?}/{:?}", self.namespace, self.pod));
        }
        if self.memory_bytes.max(self.tree_bytes) > MOST_BYTES {
            return malformed("more than a PiB".to_owned());
        }
        let versions = [&self.criu_version, &self.dmtcp_version];
        let texts = [&self.node, &self.kernel].into_iter().chain(versions);
        if texts.into_iter().any(|text| !printable(text)) {
            return malformed("control characters in a text".to_owned());
        }
        Ok(())
    }
}

fn bounded(bytes: u32) -> Result<(), ArchiveError> {
    let limit = LARGEST;
    if bytes > limit {
        return Err(ArchiveError::HeaderSize { bytes, limit });
    }
    Ok(())
}

/// A name that is a file name of its own.
pub(super) fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// An absolute path without detours.
fn absolute(path: &str) -> bool {
    path.len() <= 4096
        && printable(path)
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

fn printable(text: &str) -> bool {
    text.len() <= 4096 && !text.chars().any(char::is_control)
}
