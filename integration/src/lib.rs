//! Nodes on one machine, for tests and for trying MyceDrive out.
//!
//! A [`Testbed`] is a set of nodes. Each [`Node`] is a process tree in its own namespaces, with its
//! own containerd, pod network and node daemon, on a root file system made from Debian packages. The
//! nodes are joined by a bridge; the rate of each node's link can be set. A [`Pod`] runs through the
//! container runtime interface, in kubelet's order of calls.
//!
//! Addresses exist only inside the testbed's network namespaces. All that a testbed makes is found by
//! its name: control groups `mycedrive-testbed/NAME`, network namespaces `myce.NAME.*`, directories
//! `/run/mycedrive-testbed/NAME` and `/var/lib/mycedrive-testbed/NAME`. What a killed run left behind
//! is therefore cleared by the next [`Testbed::start`] or [`Testbed::remove`] of that name.

mod arguments;
mod cgroup;
mod cri;
mod crictl;
mod error;
mod host;
mod image;
pub mod init;
mod network;
mod node;
mod rootfs;
mod run;
mod testbed;
pub mod workload;

pub use arguments::arguments;
pub use cri::{Attach, Container, ContainerState, Cri, ExecResult, Pod, RunningPod, proto};
pub use crictl::crictl;
pub use error::{Error, Result};
pub use host::{build_binaries, cargo, dmtcp, lacks_sys_resource, missing_privilege};
pub use image::Images;
pub use node::{Containerd, Node, NodeKind};
pub use run::Output;
pub use testbed::{Testbed, TestbedOptions};
