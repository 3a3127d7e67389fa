//! containerd's own services, as its clients call them.

mod client;
mod events;

#[allow(missing_docs, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("containerd_api");
}

pub use client::{Client, Streams, Target, code_of};
pub use events::{Event, Events};
