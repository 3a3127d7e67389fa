//! Makes a node: directories, control groups, network, first process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Containerd, Node, NodeKind, config, start_time};
use crate::cgroup;
use crate::host::{self, binary_dir, lacks_sys_resource};
use crate::init::{InitConfig, PRELOAD, Service};
use crate::network::{self, Addresses};
use crate::run::capture;
use crate::{Error, Result};

/// Directories of the machine's own file system that a node sees: an overlay (which the node's root is)
/// cannot be the upper layer of a container's overlay.
const OWN_DIRS: [(&str, &str); 6] = [
    ("containerd", "/var/lib/containerd"),
    ("cni", "/var/lib/cni"),
    ("kubelet", "/var/lib/kubelet"),
    ("mycedrive", "/var/lib/mycedrive"),
    ("volumes", "/srv"),
    ("log", "/var/log"),
];

/// Where tests arm fault points, within a node.
pub(super) const FAULTS: &str = "/run/mycedrive-faults";

/// What is to be made.
pub(crate) struct Plan<'a> {
    pub testbed: &'a str,
    pub name: &'a str,
    pub kind: NodeKind,
    /// Number of the node, which gives its addresses; starts at 1.
    pub index: u8,
    /// Root file system.
    pub lower: &'a Path,
    /// Directory for what the node writes.
    pub own: PathBuf,
    /// Directory for the testbed's notes about running nodes.
    pub state: PathBuf,
    /// All nodes: name, number.
    pub peers: Vec<(String, u8)>,
    /// Which containerd it runs.
    pub containerd: Containerd,
    /// Seconds by which its monotonic and boot clocks are ahead.
    pub clock_offset: i64,
}

impl Plan<'_> {
    /// Makes the node and starts its services.
    pub(crate) fn create(&self) -> Result<Node> {
        for dir in ["upper", "work", "root", "log/testbed"] {
            make_dir(&self.own.join(dir))?;
        }
        for (dir, _) in OWN_DIRS {
            make_dir(&self.own.join(dir))?;
        }
        self.write_files()?;
        network::create_link(self.testbed, self.name, self.index)?;
        let services = if self.kind == NodeKind::Worker {
            self.services()?
        } else {
            Vec::new()
        };
        let pid = self.start_init(services)?;
        let started = start_time(pid).ok_or_else(|| self.died())?;
        let node = Node {
            testbed: self.testbed.to_owned(),
            name: self.name.to_owned(),
            kind: self.kind,
            index: self.index,
            pid,
            started,
            own: self.own.clone(),
            clock_offset: self.clock_offset,
        };
        Ok(node)
    }

    fn write_files(&self) -> Result<()> {
        let upper = self.own.join("upper");
        let peers = self
            .peers
            .iter()
            .map(|(name, index)| (name.as_str(), *index));
        config::install(&upper, "etc/hosts", &config::hosts(peers))?;
        config::install(&upper, "etc/hostname", &format!("{}\n", self.name))?;
        config::install(&upper, "etc/resolv.conf", "")?;
        if self.kind == NodeKind::Client {
            return Ok(());
        }
        self.containerd.install(&upper)?;
        config::install(
            &upper,
            "etc/containerd/config.toml",
            &self.containerd.config(),
        )?;
        config::install(
            &upper,
            "etc/cni/net.d/10-pods.conflist",
            &config::pod_network(self.index),
        )?;
        config::install(&upper, "etc/mycedrive/config.toml", &config::daemon())?;
        // `ctr --cni` looks for plugins here.
        make_dir(&upper.join("opt/cni"))?;
        let link = upper.join("opt/cni/bin");
        std::os::unix::fs::symlink("/usr/lib/cni", &link).map_err(Error::file("link", &link))
    }

    fn services(&self) -> Result<Vec<Service>> {
        let environment = vec![("MYCEDRIVE_FAULT_DIR".to_owned(), FAULTS.to_owned())];
        let mut of_shims = environment.clone();
        if lacks_sys_resource() {
            of_shims.push(("MYCEDRIVE_CRIU_PRELOAD".to_owned(), PRELOAD.to_owned()));
        }
        let mut services = vec![Service {
            name: "containerd".to_owned(),
            argv: vec!["/usr/bin/containerd".to_owned()],
            environment: of_shims,
        }];
        if self.issue_certificate()? {
            services.push(Service {
                name: "mycedrive".to_owned(),
                argv: vec!["/usr/local/bin/mycedrive".to_owned(), "serve".to_owned()],
                environment,
            });
        }
        Ok(services)
    }

    /// Gives the node a certificate of the testbed's CA; false if there is no program for that.
    fn issue_certificate(&self) -> Result<bool> {
        let program = binary_dir()?.join("mycedrive");
        let authority = self.state.join("pki");
        let certificate = authority.join("ca.crt");
        if !certificate.is_file() && program.is_file() {
            capture(
                Command::new(&program)
                    .args(["pki", "ca", "--out"])
                    .arg(&authority),
            )?
            .ok()?;
        }
        if !certificate.is_file() {
            tracing::warn!(program = %program.display(), "no working node daemon: the node has none");
            return Ok(false);
        }
        let issued = self.own.join("pki");
        let mut command = Command::new(&program);
        command
            .args(["pki", "issue", "--ca"])
            .arg(&authority)
            .args(["--name", self.name]);
        command
            .args(["--address", &Addresses::link4(self.index), "--out"])
            .arg(&issued);
        capture(&mut command)?.ok()?;
        let target = self.own.join("upper/etc/mycedrive/pki");
        make_dir(&target)?;
        capture(
            Command::new("cp")
                .arg("-a")
                .arg(issued.join("."))
                .arg(&target),
        )?
        .ok()?;
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .arg(authority.join("ca.crt"))
            .arg(target.join("ca.crt"));
        capture(&mut copy)?.ok()?;
        Ok(true)
    }

    fn start_init(&self, services: Vec<Service>) -> Result<i32> {
        let hierarchies = cgroup::hierarchies()?;
        let groups = cgroup::create(&hierarchies, self.testbed, self.name)?;
        let mut sysctls = vec![
            ("net.ipv6.conf.all.accept_dad", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
        ];
        if self.kind == NodeKind::Worker {
            sysctls.extend([
                ("net.ipv4.ip_forward", "1"),
                ("net.ipv6.conf.all.forwarding", "1"),
            ]);
        }
        let config = InitConfig {
            hostname: self.name.to_owned(),
            network: network::namespace_path(self.testbed, self.name),
            hierarchies,
            groups,
            lower: self.lower.to_owned(),
            own: self.own.clone(),
            binds: OWN_DIRS
                .iter()
                .map(|(from, to)| (self.own.join(from), PathBuf::from(to)))
                .collect(),
            programs: if self.kind == NodeKind::Worker {
                Some(binary_dir()?)
            } else {
                None
            },
            // The same in every node, if this machine has it.
            read_only: host::dmtcp()
                .map(|prefix| (prefix, PathBuf::from(host::DMTCP)))
                .into_iter()
                .collect(),
            sysctls: sysctls
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            clock_offset: self.clock_offset,
            services,
        };
        let file = init_file(self.name, &self.state);
        let text = serde_json::to_string_pretty(&config).map_err(|error| Error::State {
            path: file.clone(),
            reason: error.to_string(),
        })?;
        fs::write(&file, text).map_err(Error::file("write", &file))?;
        boot(self.name, &self.state, &self.own)
    }

    fn died(&self) -> Error {
        died(self.name, &self.own)
    }
}

/// Where the description of a node's first process is.
fn init_file(name: &str, state: &Path) -> PathBuf {
    state.join(format!("{name}.init.json"))
}

/// Starts the first process of a node that was described before; answers with its pid.
pub(super) fn boot(name: &str, state: &Path, own: &Path) -> Result<i32> {
    let log = own.join("log/testbed/init.log");
    let errors = fs::File::create(&log).map_err(Error::file("make", &log))?;
    let program = binary_dir()?.join("testbed");
    let output = Command::new(&program)
        .arg("init")
        .arg(init_file(name, state))
        .stdin(Stdio::null())
        .stderr(errors)
        .output()
        .map_err(|source| Error::Spawn {
            command: program.display().to_string(),
            source,
        })?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| died(name, own))
}

pub(super) fn died(name: &str, own: &Path) -> Error {
    let log = fs::read_to_string(own.join("log/testbed/init.log")).unwrap_or_default();
    super::timed_out(format!("the start of node {name}"), 0, log.trim())
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::file("make", path))
}
