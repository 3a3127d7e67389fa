//! What the installer remembers in `/var/lib/mycedrive/installer/`.
//!
//! `manifest.json` lists every path it changed, with what was there before;
//! `backups/DIGEST` holds the former contents. Both are written in the same
//! transaction as the changes themselves.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::root::{Attributes, CONFIG_LIMIT, Kind, PROGRAM_LIMIT, Root, wrong_kind};

/// Directory of the installer's own records.
pub const STATE_DIR: &str = "/var/lib/mycedrive/installer";
/// The record of what is installed.
pub const MANIFEST: &str = "/var/lib/mycedrive/installer/manifest.json";
/// Former contents, named by digest.
pub const BACKUPS: &str = "/var/lib/mycedrive/installer/backups";

/// What was at a path, exactly enough to put it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Was {
    /// Nothing.
    Absent,
    /// A directory.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file whose content is kept under its BLAKE3 digest.
    File {
        /// BLAKE3 of the content, hex.
        digest: String,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A symbolic link.
    Link {
        /// Its target.
        target: String,
    },
}

impl Was {
    /// Looks at `path`; for a regular file the content comes along.
    pub fn look(root: &Root, path: &str) -> Result<(Self, Vec<u8>)> {
        Ok(match root.kind(path)? {
            Kind::Absent => (Self::Absent, Vec::new()),
            Kind::Dir => {
                let mode = root.attributes(path)?.map_or(0o755, |found| found.mode);
                (Self::Dir { mode }, Vec::new())
            }
            Kind::Link(target) => (Self::Link { target }, Vec::new()),
            Kind::File => {
                let bytes = root.read(path, PROGRAM_LIMIT)?.unwrap_or_default();
                let found = root.attributes(path)?.unwrap_or(Attributes {
                    mode: 0o644,
                    uid: 0,
                    gid: 0,
                });
                (Self::of_file(&bytes, found), bytes)
            }
            other @ Kind::Other => {
                return Err(wrong_kind(path, &other, "a regular file or nothing"));
            }
        })
    }

    /// The record of a regular file with this content.
    pub fn of_file(bytes: &[u8], attributes: Attributes) -> Self {
        Self::File {
            digest: digest(bytes),
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
        }
    }
}

/// BLAKE3 of `bytes`, hex.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// What a path is to MyceDrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A program or library.
    Program,
    /// The systemd unit or the link that enables it.
    Unit,
    /// `/etc/mycedrive/config.toml`.
    Config,
    /// Configuration of containerd, k3s, RKE2 or k0s.
    Runtime,
    /// `/etc/criu/runc.conf`.
    Criu,
    /// A directory.
    Directory,
}

/// One path that the installer changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Path inside the root.
    pub path: String,
    /// What it is for.
    pub purpose: Purpose,
    /// What was there before the first installation.
    pub before: Was,
    /// What the installer put there.
    pub after: Was,
}

/// Everything that is installed, in the order in which it was put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format, 1.
    pub format: u32,
    /// Version of the installer that wrote it.
    pub version: String,
    /// The changed paths.
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// An empty record.
    pub fn new() -> Self {
        Self {
            format: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            entries: Vec::new(),
        }
    }

    /// Reads the record; `None` if nothing is installed.
    pub fn load(root: &Root) -> Result<Option<Self>> {
        let Some(bytes) = root.read(MANIFEST, CONFIG_LIMIT)? else {
            return Ok(None);
        };
        let damaged = |message: String| Error::Record {
            path: MANIFEST.to_owned(),
            message,
        };
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != 1 {
            return Err(damaged(format!(
                "format {}, this program knows 1",
                manifest.format
            )));
        }
        Ok(Some(manifest))
    }

    /// The record as it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers only: this cannot fail.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The entry of a path.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }
}

impl Default for Manifest {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the content with this digest is kept. Refuses anything but a digest:
/// the name comes from a file of the tree.
pub fn backup_path(dir: &str, digest: &str) -> Result<String> {
    if digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(format!("{dir}/{digest}"))
    } else {
        Err(Error::Record {
            path: dir.to_owned(),
            message: format!("`{digest}` is not a digest"),
        })
    }
}

/// Reads back a kept content and checks it.
pub fn read_backup(root: &Root, dir: &str, digest_hex: &str) -> Result<Vec<u8>> {
    let path = backup_path(dir, digest_hex)?;
    let damaged = |message: &str| Error::Record {
        path: path.clone(),
        message: message.to_owned(),
    };
    let bytes = root
        .read(&path, PROGRAM_LIMIT)?
        .ok_or_else(|| damaged("it is missing"))?;
    if digest(&bytes) != digest_hex {
        return Err(damaged("its content does not match its name"));
    }
    Ok(bytes)
}
