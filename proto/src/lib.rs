//! The protocols of MyceDrive.
//!
//! - [`shim`] and [`node`]: the shim and the daemon of one node, ttrpc over unix sockets.
//! - [`migration`]: daemon to daemon, gRPC over mutual TLS.
//!
//! The messages are documented in `proto/proto/*.proto`.

#[allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]
mod generated {
    pub mod shim {
        include!(concat!(env!("OUT_DIR"), "/shim.rs"));
    }
    pub mod shim_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/shim_ttrpc.rs"));
    }
    pub mod node {
        include!(concat!(env!("OUT_DIR"), "/node.rs"));
    }
    pub mod node_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/node_ttrpc.rs"));
    }
    pub mod migration {
        tonic::include_proto!("mycedrive.migration.v1");
    }
}

pub use generated::{migration, node, node_ttrpc, shim, shim_ttrpc};

/// Version of the daemon-to-daemon protocol. Both sides must speak the same one.
///
/// 2: images of CRIU are made inside the pod's network namespace, and must be restored in one.
pub const PROTOCOL: u32 = 2;
