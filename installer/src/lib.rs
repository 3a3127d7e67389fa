//! Puts MyceDrive on a node or into a node image, and takes it off again.
//!
//! - [`install::install`] and [`uninstall::uninstall`] change a tree, as one
//!   transaction ([`transaction`]); a failed step leaves the tree as it was.
//! - [`root::Root`] is the tree: the live node, or an unbooted root file system
//!   that is never left.
//! - [`containerd`] knows the configurations of containerd, k3s, RKE2 and k0s.
//! - [`doctor`] says what is missing and what works without it.
//! - [`image`] makes node images.
//! - [`manifests`] holds the cluster's side.

pub mod cli;
pub mod containerd;
pub mod criu_conf;
pub mod doctor;
pub mod error;
pub mod image;
pub mod install;
pub mod manifests;
pub mod record;
pub mod root;
pub mod service;
pub mod status;
pub mod transaction;
pub mod uninstall;
pub mod versions;

pub use error::{Error, Result};
