//! `/etc/mycedrive/config.toml`: every key has a default, unknown keys are errors.
//!
//! `default.toml` documents the keys; a test holds it to [`Config::default`].

mod document;
mod error;
mod values;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use document::markdown;
pub use error::ConfigError;
pub use values::{Connections, Engine, LinkLost, LogFormat};

/// Where the daemon looks when no `--config` is given.
pub const DEFAULT_FILE: &str = "/etc/mycedrive/config.toml";

/// The documented defaults, as `mycedrive config` prints them.
pub const DOCUMENTED: &str = include_str!("default.toml");

/// The TCP port of node to node traffic.
pub const DEFAULT_PORT: u16 = 7843;

/// The daemon's configuration. The keys are documented in `default.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node's name. Filled in by [`Config::load`]; never empty after it.
    pub node_name: String,
    /// Where other nodes reach this daemon.
    #[serde(deserialize_with = "values::address")]
    pub listen: SocketAddr,
    /// `host:port` that other nodes can dial. Filled in by [`Config::load`].
    #[serde(deserialize_with = "values::endpoint_or_empty")]
    pub advertise: String,
    /// Folder of `ca.crt`, `node.crt`, `node.key`.
    pub pki_dir: PathBuf,
    /// Folder of the sockets.
    pub run_dir: PathBuf,
    /// What survives a restart of the node.
    pub state_dir: PathBuf,
    /// Journals. Filled in by [`Config::load`].
    pub journal_dir: PathBuf,
    /// Images. Filled in by [`Config::load`].
    pub image_dir: PathBuf,
    /// What carries containers.
    pub engine: Engine,
    /// Where DMTCP is; empty: it is looked for.
    pub dmtcp_prefix: PathBuf,
    /// Parked pods. Filled in by [`Config::load`].
    pub park_dir: PathBuf,
    /// `[containerd]`.
    pub containerd: Containerd,
    /// `[migration]`.
    pub migration: Migration,
    /// `[kubernetes]`.
    pub kubernetes: Kubernetes,
    /// `[log]`.
    pub log: Log,
    /// `[metrics]`.
    pub metrics: Metrics,
}

/// `[containerd]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containerd {
    /// Its API socket.
    pub socket: PathBuf,
}

/// `[migration]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Migration {
    /// Target for the freeze.
    #[serde(deserialize_with = "values::duration")]
    pub max_downtime: Duration,
    /// Most pre-copy rounds.
    pub max_rounds: u32,
    /// Bytes per second on the wire; 0: no limit.
    #[serde(deserialize_with = "values::rate")]
    pub bandwidth: u64,
    /// What happens to open connections.
    pub connections: Connections,
    /// Who gets the pod when the link is lost after the offer.
    pub link_lost: LinkLost,
    /// How long the link is waited for.
    #[serde(deserialize_with = "values::duration")]
    pub link_lost_after: Duration,
    /// Limit of a dial, TLS handshake included.
    #[serde(deserialize_with = "values::duration")]
    pub dial_timeout: Duration,
    /// Limit of one call to a shim.
    #[serde(deserialize_with = "values::duration")]
    pub step_timeout: Duration,
    /// Limit of a freeze without an offer.
    #[serde(deserialize_with = "values::duration")]
    pub freeze_limit: Duration,
    /// Bytes of packets held during a freeze.
    #[serde(deserialize_with = "values::size")]
    pub held_packets: u64,
    /// Migrations at one time, per side.
    pub max_parallel: u32,
    /// Ended migrations that are remembered.
    pub keep_logs: u32,
    /// How long a parked pod is kept.
    #[serde(deserialize_with = "values::duration")]
    pub park_time: Duration,
}

/// `[kubernetes]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    /// Credentials for events on pods: a file, "none", or empty for the kubelet's.
    pub kubeconfig: String,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A `tracing` filter.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where Prometheus is answered.
    #[serde(deserialize_with = "values::address_or_empty")]
    pub listen: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            listen: SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)),
            advertise: String::new(),
            pki_dir: "/etc/mycedrive/pki".into(),
            run_dir: "/run/mycedrive".into(),
            state_dir: "/var/lib/mycedrive".into(),
            journal_dir: PathBuf::new(),
            image_dir: PathBuf::new(),
            engine: Engine::Auto,
            dmtcp_prefix: PathBuf::new(),
            park_dir: PathBuf::new(),
            containerd: Containerd::default(),
            migration: Migration::default(),
            kubernetes: Kubernetes::default(),
            log: Log::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Self {
            socket: "/run/containerd/containerd.sock".into(),
        }
    }
}

impl Default for Migration {
    fn default() -> Self {
        Self {
            max_downtime: Duration::from_millis(300),
            max_rounds: 30,
            bandwidth: 0,
            connections: Connections::Keep,
            link_lost: LinkLost::Hold,
            link_lost_after: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(5),
            step_timeout: Duration::from_secs(120),
            freeze_limit: Duration::from_secs(120),
            held_packets: 16 << 20,
            max_parallel: 4,
            keep_logs: 100,
            park_time: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Config {
    /// Reads `file`, or [`DEFAULT_FILE`] when none is given; only the latter may be missing.
    /// Fills in what depends on the machine and on the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let config = match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => {
                Self::default()
            }
            Err(source) => {
                return Err(ConfigError::Read {
                    file: path.to_owned(),
                    source,
                });
            }
        };
        let run_dir = std::env::var_os("MYCEDRIVE_RUN_DIR").map(PathBuf::from);
        Ok(config.completed(run_dir, &host_name()))
    }

    /// Parses the text of `file`; the name is for error messages.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError::of_toml(file, text, &error))?;
        config.check(file)?;
        Ok(config)
    }

    /// Fills in the keys whose default depends on others.
    #[must_use]
    pub fn completed(mut self, run_dir: Option<PathBuf>, host_name: &str) -> Self {
        if let Some(dir) = run_dir {
            self.run_dir = dir;
        }
        if self.node_name.is_empty() {
            host_name.clone_into(&mut self.node_name);
        }
        if self.advertise.is_empty() {
            self.advertise = format!("{}:{}", self.node_name, self.listen.port());
        }
        if self.journal_dir.as_os_str().is_empty() {
            self.journal_dir = self.state_dir.join("journal");
        }
        if self.image_dir.as_os_str().is_empty() {
            self.image_dir = self.default_image_dir();
        }
        if self.park_dir.as_os_str().is_empty() {
            self.park_dir = self.state_dir.join("parked");
        }
        self
    }

    fn check(&self, file: &Path) -> Result<(), ConfigError> {
        let dirs = [
            ("pki_dir", &self.pki_dir, false),
            ("run_dir", &self.run_dir, false),
            ("state_dir", &self.state_dir, false),
            ("journal_dir", &self.journal_dir, true),
            ("image_dir", &self.image_dir, true),
            ("park_dir", &self.park_dir, true),
            ("dmtcp_prefix", &self.dmtcp_prefix, true),
            ("containerd.socket", &self.containerd.socket, false),
        ];
        for (key, path, may_be_empty) in dirs {
            if !(path.is_absolute() || may_be_empty && path.as_os_str().is_empty()) {
                return Err(ConfigError::value(
                    file,
                    key,
                    &path.display().to_string(),
                    "an absolute path",
                ));
            }
        }
        let name = &self.node_name;
        if !name.is_empty() && !crate::pki::valid_name(name) {
            return Err(ConfigError::value(
                file,
                "node_name",
                name,
                "a host name: letters, digits, '-' and '.', at most 253",
            ));
        }
        let kubeconfig = &self.kubernetes.kubeconfig;
        if !matches!(kubeconfig.as_str(), "" | "none") && !Path::new(kubeconfig).is_absolute() {
            return Err(ConfigError::value(
                file,
                "kubernetes.kubeconfig",
                kubeconfig,
                "an absolute path, \"none\" or nothing",
            ));
        }
        if self.migration.max_parallel == 0 {
            return Err(ConfigError::value(
                file,
                "migration.max_parallel",
                "0",
                "a number of 1 or more",
            ));
        }
        Ok(())
    }

    /// Where DMTCP is, if this says so.
    pub fn dmtcp_prefix(&self) -> Option<&Path> {
        Some(self.dmtcp_prefix.as_path()).filter(|path| !path.as_os_str().is_empty())
    }

    /// The socket on which shims reach the daemon.
    pub fn node_socket(&self) -> PathBuf {
        self.run_dir.join("node.sock")
    }

    /// The socket on which the command reaches the daemon.
    pub fn operator_socket(&self) -> PathBuf {
        self.run_dir.join("operator.sock")
    }

    /// Where shims have their sockets.
    pub fn shims_dir(&self) -> PathBuf {
        self.run_dir.join("shims")
    }

    /// Where timelines and logs of migrations are kept.
    pub fn migrations_dir(&self) -> PathBuf {
        self.state_dir.join("migrations")
    }

    /// Where shims have the logs of engines while pods stand still.
    pub fn engine_logs_dir(&self) -> PathBuf {
        self.run_dir.join("logs")
    }

    fn default_image_dir(&self) -> PathBuf {
        self.run_dir.join("images")
    }

    /// Whether nobody chose another place for images.
    pub fn has_default_image_dir(&self) -> bool {
        self.image_dir == self.default_image_dir()
    }

    /// Where the images of a migration are while it runs. Not made by this.
    pub fn images_of(&self, migration: &str) -> PathBuf {
        self.image_dir.join(migration)
    }

    /// Where the rounds of memory that come before those images are kept.
    pub fn memory_of(&self, migration: &str) -> PathBuf {
        self.image_dir.join(format!("{migration}.memory"))
    }

    /// Where restores wait that the shim begins before the images are here (`Gate` in the crate
    /// `mycedrive-engine`). The shim removes it, unless it was killed.
    pub fn gate_of(&self, migration: &str) -> PathBuf {
        self.image_dir.join(format!("{migration}.gate"))
    }
}

/// This machine's host name; `localhost` when it has none.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
