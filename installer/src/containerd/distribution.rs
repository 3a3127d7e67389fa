//! Which containerd a tree has.

use crate::root::Root;

/// Who starts containerd and writes its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Distribution {
    /// containerd as a service of its own, `/etc/containerd/config.toml`.
    Containerd,
    /// k3s, which generates the configuration from a template.
    K3s,
    /// RKE2, likewise.
    Rke2,
    /// k0s, which merges `/etc/k0s/containerd.d/*.toml`.
    K0s,
}

impl Distribution {
    /// Its name as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::K3s => "k3s",
            Self::Rke2 => "RKE2",
            Self::K0s => "k0s",
        }
    }

    /// Systemd units of which one runs containerd on such a node.
    pub fn units(self) -> &'static [&'static str] {
        match self {
            Self::Containerd => &["containerd.service"],
            Self::K3s => &["k3s.service", "k3s-agent.service"],
            Self::Rke2 => &["rke2-server.service", "rke2-agent.service"],
            Self::K0s => &["k0sworker.service", "k0scontroller.service"],
        }
    }

    /// Socket of its containerd where that is not the usual one.
    pub fn socket(self) -> Option<&'static str> {
        match self {
            Self::Containerd => None,
            Self::K3s | Self::Rke2 => Some("/run/k3s/containerd/containerd.sock"),
            Self::K0s => Some("/run/k0s/containerd.sock"),
        }
    }

    fn traces(self) -> &'static [&'static str] {
        match self {
            Self::Containerd => &[
                "/etc/containerd/config.toml",
                "/usr/bin/containerd",
                "/usr/local/bin/containerd",
            ],
            Self::K3s => &[
                "/usr/local/bin/k3s",
                "/usr/bin/k3s",
                "/opt/bin/k3s",
                "/etc/rancher/k3s",
                "/var/lib/rancher/k3s",
            ],
            Self::Rke2 => &[
                "/usr/local/bin/rke2",
                "/usr/bin/rke2",
                "/opt/rke2/bin/rke2",
                "/etc/rancher/rke2",
                "/var/lib/rancher/rke2",
            ],
            Self::K0s => &[
                "/usr/local/bin/k0s",
                "/usr/bin/k0s",
                "/etc/k0s",
                "/var/lib/k0s",
            ],
        }
    }
}

/// Every distribution that left a trace in the tree.
pub fn detect(root: &Root) -> Vec<Distribution> {
    let all = [
        Distribution::Containerd,
        Distribution::K3s,
        Distribution::Rke2,
        Distribution::K0s,
    ];
    all.into_iter()
        .filter(|distribution| {
            let traces = distribution.traces();
            traces
                .iter()
                .any(|path| root.is_file(path) || root.is_dir(path))
        })
        .collect()
}
