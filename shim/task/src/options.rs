//! The runtime options that containerd sends with Create, and keeps for `delete`.
//!
//! They come as `containerd.runc.v1.Options` (ctr) or, because CRI does not know this runtime,
//! as `runtimeoptions.v1.Options` that holds the TOML section of the CRI configuration or the
//! path of a TOML file.

use std::fs;
use std::path::Path;

use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{CodedInputStream, Message};
use containerd_shim::protos::shim::oci::Options as RuncMessage;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What of containerd's runc options this runtime honours. The names in the file
/// `options.json` of the bundle are those that `io.containerd.runc.v2` writes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Options {
    /// Do not pivot_root.
    pub no_pivot_root: bool,
    /// Do not make a new session keyring.
    pub no_new_keyring: bool,
    /// Cgroup for the shim itself.
    pub shim_cgroup: String,
    /// Owner of the stdio pipes.
    pub io_uid: u32,
    /// Group of the stdio pipes.
    pub io_gid: u32,
    /// OCI runtime; empty: `runc`.
    pub binary_name: String,
    /// Directory of the OCI runtime's state; empty: `/run/containerd/runc`.
    pub root: String,
    /// Let systemd make the cgroups.
    pub systemd_cgroup: bool,
    /// Where `ctr` checkpoints go.
    pub criu_image_path: String,
    /// Where CRIU logs.
    pub criu_work_path: String,
}

/// File in the bundle that keeps the options for the `delete` command.
const FILE: &str = "options.json";

impl Options {
    /// Decodes what came with Create or on the standard input of `start`.
    pub fn from_any(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any else {
            return Ok(Self::default());
        };
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        match name {
            "" => Ok(Self::default()),
            "containerd.runc.v1.Options" => RuncMessage::parse_from_bytes(&any.value)
                .map(Self::from)
                .map_err(|error| Error::decode(name, error)),
            "runtimeoptions.v1.Options" => {
                let generic =
                    Generic::parse(&any.value).map_err(|error| Error::decode(name, error))?;
                let body = if generic.body.is_empty() && !generic.path.is_empty() {
                    let path = Path::new(&generic.path);
                    fs::read_to_string(path).map_err(Error::path("read", path))?
                } else {
                    generic.body
                };
                Ok(Self::from_toml(&body))
            }
            _ => Err(Error::Invalid(format!(
                "runtime options of type {name}: expected containerd.runc.v1.Options"
            ))),
        }
    }

    /// Reads the flat `Key = value` lines of a TOML section. Only that much TOML is needed:
    /// containerd itself wrote it from its configuration.
    fn from_toml(text: &str) -> Self {
        let mut options = Self::default();
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                break;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim();
            let text = || value.trim_matches(['"', '\'']).to_owned();
            match key.trim() {
                "NoPivotRoot" => options.no_pivot_root = value == "true",
                "NoNewKeyring" => options.no_new_keyring = value == "true",
                "ShimCgroup" => options.shim_cgroup = text(),
                "IoUid" => options.io_uid = value.parse().unwrap_or_default(),
                "IoGid" => options.io_gid = value.parse().unwrap_or_default(),
                "BinaryName" => options.binary_name = text(),
                "Root" => options.root = text(),
                "SystemdCgroup" => options.systemd_cgroup = value == "true",
                "CriuImagePath" => options.criu_image_path = text(),
                "CriuWorkPath" => options.criu_work_path = text(),
                _ => {}
            }
        }
        options
    }

    /// Keeps the options in the bundle.
    pub fn save(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        let json =
            serde_json::to_vec(self).map_err(|error| Error::decode("runtime options", error))?;
        fs::write(&path, json).map_err(Error::path("write", &path))
    }

    /// The options kept in the bundle; the default ones when there are none.
    pub fn load(bundle: &Path) -> Self {
        fs::read(bundle.join(FILE))
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }

    /// The OCI runtime's program.
    pub fn binary(&self) -> &str {
        if self.binary_name.is_empty() {
            "runc"
        } else {
            &self.binary_name
        }
    }
}

impl From<RuncMessage> for Options {
    fn from(message: RuncMessage) -> Self {
        Self {
            no_pivot_root: message.no_pivot_root,
            no_new_keyring: message.no_new_keyring,
            shim_cgroup: message.shim_cgroup,
            io_uid: message.io_uid,
            io_gid: message.io_gid,
            binary_name: message.binary_name,
            root: message.root,
            systemd_cgroup: message.systemd_cgroup,
            criu_image_path: message.criu_image_path,
            criu_work_path: message.criu_work_path,
        }
    }
}

/// `runtimeoptions.v1.Options` of containerd: type_url = 1, config_path = 2, config_body = 3.
#[derive(Default)]
struct Generic {
    path: String,
    body: String,
}

impl Generic {
    fn parse(bytes: &[u8]) -> containerd_shim::protos::protobuf::Result<Self> {
        const CONFIG_PATH: u32 = 2 << 3 | 2;
        const CONFIG_BODY: u32 = 3 << 3 | 2;
        let mut input = CodedInputStream::from_bytes(bytes);
        let mut generic = Self::default();
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match tag {
                CONFIG_PATH => generic.path = input.read_string()?,
                CONFIG_BODY => {
                    generic.body = String::from_utf8_lossy(&input.read_bytes()?).into_owned();
                }
                _ => {
                    // The only other field is a string as well.
                    input.read_bytes()?;
                }
            }
        }
        Ok(generic)
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
