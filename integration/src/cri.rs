//! The container runtime interface, called as kubelet calls it.

mod attach;
mod client;
mod more_calls;
mod pod;
mod unpaused;

#[allow(missing_docs, clippy::pedantic)]
/// Messages of the interface.
pub mod proto {
    tonic::include_proto!("runtime.v1");
}

#[allow(missing_docs, clippy::pedantic)]
mod tasks {
    tonic::include_proto!("containerd.services.tasks.v1");
}

pub use attach::Attach;
pub use client::{Cri, ExecResult};
pub use pod::{Container, Pod, RunningPod};
pub use proto::ContainerState;
