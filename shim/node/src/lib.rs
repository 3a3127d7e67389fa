//! The node daemon and the operator's command.
//!
//! One daemon per node owns the listening port, the keys, transfers, journals and the relay of
//! old connections. Shims own the processes; the daemon tells them what to do and when.
//!
//! - [`app`]: what every part of the daemon shares.
//! - [`source`] and [`destination`]: the two sides of a migration.
//! - [`parked`]: pods that wait on this node as an image.
//! - [`archive`]: a pod in a file.
//! - [`relay`]: packets of old connections between the two nodes.
//! - [`serve`]: `mycedrive serve`; [`cli`]: the operator's commands.

pub mod app;
pub mod archive;
pub mod blocks;
pub mod cli;
pub mod config;
pub mod confinement;
pub mod destination;
pub mod digest;
pub mod doctor;
pub mod error;
pub mod fault;
pub mod files;
pub mod image_files;
pub mod kubernetes;
pub mod machine;
pub mod metrics;
pub mod migrations;
pub mod operator;
pub mod parked;
pub mod peers;
pub mod pki;
pub mod progress;
pub mod relay;
pub mod serve;
pub mod shims;
pub mod source;
pub mod tls;
pub mod units;

pub use app::{App, Shared};
pub use error::{Error, Result};
