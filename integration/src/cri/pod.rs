//! Pods and containers as a test describes them, and as kubelet would pass them on.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use super::proto::{
    ContainerConfig, ContainerMetadata, DnsConfig, ImageSpec, Int64Value, KeyValue,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, SecurityProfile,
};
use crate::image::reference;

/// A container of a [`Pod`].
#[derive(Debug, Clone, Default)]
pub struct Container {
    name: String,
    image: String,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    mounts: Vec<(String, String, bool)>,
    user: Option<i64>,
    privileged: bool,
    default_seccomp: bool,
    tty: bool,
    stdin: bool,
    read_only: bool,
    memory_limit: i64,
    capabilities: Vec<String>,
}

impl Container {
    /// A container of one of the testbed's images (`redis`, `mosquitto`, `python`, `busybox`) or of a
    /// full image name. Without arguments it runs what the image says.
    pub fn new(name: &str, image: &str, args: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            image: reference(image),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Mounts a directory of the node.
    #[must_use]
    pub fn mount(mut self, node_path: &str, path: &str, read_only: bool) -> Self {
        self.mounts
            .push((node_path.to_owned(), path.to_owned(), read_only));
        self
    }

    /// Runs as this user, and as the group of the same number.
    #[must_use]
    pub fn user(mut self, id: i64) -> Self {
        self.user = Some(id);
        self
    }

    /// Runs privileged.
    #[must_use]
    pub fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }

    /// With the runtime's default seccomp profile; without this it has none.
    #[must_use]
    pub fn default_seccomp(mut self) -> Self {
        self.default_seccomp = true;
        self
    }

    /// Adds a capability, such as `NET_ADMIN`.
    #[must_use]
    pub fn capability(mut self, name: &str) -> Self {
        self.capabilities.push(name.to_owned());
        self
    }

    /// With a terminal, and standard input if `stdin`.
    #[must_use]
    pub fn terminal(mut self, tty: bool, stdin: bool) -> Self {
        (self.tty, self.stdin) = (tty, stdin);
        self
    }

    /// With a read-only root.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Limits its memory, in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: i64) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// What kubelet passes to `CreateContainer`.
    pub fn config(&self, pod: &Pod, attempt: u32) -> ContainerConfig {
        let security = LinuxContainerSecurityContext {
            privileged: self.privileged,
            namespace_options: Some(pod.namespaces()),
            run_as_user: self.user.map(|value| Int64Value { value }),
            run_as_group: self.user.map(|value| Int64Value { value }),
            readonly_rootfs: self.read_only,
            // The profile's type is the default one.
            seccomp: self.default_seccomp.then(SecurityProfile::default),
            capabilities: (!self.capabilities.is_empty()).then(|| super::proto::Capability {
                add_capabilities: self.capabilities.clone(),
                drop_capabilities: Vec::new(),
            }),
            masked_paths: paths(if self.privileged { &[] } else { &MASKED_PATHS }),
            readonly_paths: paths(if self.privileged {
                &[]
            } else {
                &READONLY_PATHS
            }),
            ..LinuxContainerSecurityContext::default()
        };
        let mut labels = pod.all_labels();
        labels.insert("io.kubernetes.container.name".to_owned(), self.name.clone());
        let restarts = (
            "io.kubernetes.container.restartCount".to_owned(),
            attempt.to_string(),
        );
        ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: self.name.clone(),
                attempt,
            }),
            image: Some(ImageSpec {
                image: self.image.clone(),
            }),
            args: self.args.clone(),
            envs: self
                .environment
                .iter()
                .map(|(key, value)| KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            mounts: self
                .mounts
                .iter()
                .map(|(host, container, readonly)| Mount {
                    container_path: container.clone(),
                    host_path: host.clone(),
                    readonly: *readonly,
                })
                .collect(),
            labels,
            annotations: HashMap::from([restarts]),
            log_path: format!("{}/{attempt}.log", self.name),
            stdin: self.stdin,
            tty: self.tty,
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    memory_limit_in_bytes: self.memory_limit,
                    cpu_shares: 2,
                    oom_score_adj: 1000,
                    ..LinuxContainerResources::default()
                }),
                security_context: Some(security),
            }),
            ..ContainerConfig::default()
        }
    }
}

/// What kubelet has masked in containers that do not ask for an unmasked `/proc`.
const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// And what it has made read-only.
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn paths(all: &[&str]) -> Vec<String> {
    all.iter().copied().map(str::to_owned).collect()
}

/// A pod that is to run. Its runtime handler is `mycedrive` unless another one is given.
#[derive(Debug, Clone)]
pub struct Pod {
    namespace: String,
    name: String,
    uid: String,
    handler: String,
    annotations: HashMap<String, String>,
    labels: HashMap<String, String>,
    host_network: bool,
    shared_pid: bool,
    containers: Vec<Container>,
}

impl Pod {
    /// A pod without containers.
    pub fn new(namespace: &str, name: &str) -> Self {
        let uid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.trim().to_owned(),
            handler: "mycedrive".to_owned(),
            annotations: HashMap::new(),
            labels: HashMap::new(),
            host_network: false,
            shared_pid: false,
            containers: Vec::new(),
        }
    }

    /// Adds a container; see [`Container::new`].
    #[must_use]
    pub fn container(self, name: &str, image: &str, args: &[&str]) -> Self {
        self.with(Container::new(name, image, args))
    }

    /// Adds a container.
    #[must_use]
    pub fn with(mut self, container: Container) -> Self {
        self.containers.push(container);
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Runs it with another runtime handler, such as `runc`.
    #[must_use]
    pub fn handler(mut self, handler: &str) -> Self {
        handler.clone_into(&mut self.handler);
        self
    }

    /// In the node's network namespace.
    #[must_use]
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// With one pid namespace for all containers.
    #[must_use]
    pub fn shared_pid(mut self) -> Self {
        self.shared_pid = true;
        self
    }

    /// The same pod as it is to arrive elsewhere: another identity, and the annotation that names its
    /// source, `HOST:PORT/NAMESPACE/POD`.
    #[must_use]
    pub fn migrate_from(&self, address: &str) -> Self {
        let fresh = Self::new(&self.namespace, &self.name);
        let source = format!("{address}:7843/{}/{}", self.namespace, self.name);
        Self {
            uid: fresh.uid,
            ..self.clone()
        }
        .annotation("mycedrive.io/migrate-from", &source)
    }

    /// Its containers, in the order in which they start.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of its runtime handler.
    pub fn handler_name(&self) -> &str {
        &self.handler
    }

    /// Where its containers' logs are on the node.
    pub fn log_directory(&self) -> String {
        format!(
            "/var/log/pods/{}_{}_{}",
            self.namespace, self.name, self.uid
        )
    }

    fn namespaces(&self) -> NamespaceOption {
        let network = if self.host_network {
            NamespaceMode::Node
        } else {
            NamespaceMode::Pod
        };
        let pid = if self.shared_pid {
            NamespaceMode::Pod
        } else {
            NamespaceMode::Container
        };
        NamespaceOption {
            network: network.into(),
            pid: pid.into(),
            ipc: NamespaceMode::Pod.into(),
            ..NamespaceOption::default()
        }
    }

    fn all_labels(&self) -> HashMap<String, String> {
        let mut labels = self.labels.clone();
        for (key, value) in [
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("uid", &self.uid),
        ] {
            labels.insert(format!("io.kubernetes.pod.{key}"), value.clone());
        }
        labels
    }

    /// What kubelet passes to `RunPodSandbox`.
    pub fn config(&self) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: self.name.clone(),
                uid: self.uid.clone(),
                namespace: self.namespace.clone(),
                attempt: 0,
            }),
            hostname: if self.host_network {
                String::new()
            } else {
                self.name.clone()
            },
            log_directory: self.log_directory(),
            dns_config: Some(DnsConfig::default()),
            labels: self.all_labels(),
            annotations: self.annotations.clone(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: String::new(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(self.namespaces()),
                    privileged: self.containers.iter().any(|container| container.privileged),
                }),
                sysctls: HashMap::new(),
            }),
        }
    }
}

/// A pod that runs on a node.
#[derive(Debug, Clone)]
pub struct RunningPod {
    /// What it was made from.
    pub pod: Pod,
    /// Id of its sandbox.
    pub sandbox: String,
    /// First address, normally IPv4; empty with the node's network.
    pub ip: String,
    /// Further addresses, normally one IPv6.
    pub more_ips: Vec<String>,
    /// Ids of the containers by name, as started last.
    pub containers: BTreeMap<String, String>,
}

impl RunningPod {
    /// Id of a container; empty if there is none of that name.
    pub fn id(&self, container: &str) -> &str {
        self.containers.get(container).map_or("", String::as_str)
    }
}
