//! What every part of the daemon shares.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::digest::Digests;
use crate::migrations::Migrations;
use crate::peers::Peers;
use crate::relay::Relays;
use crate::shims::Shims;

/// [`App`] as the parts of the daemon hold it.
pub type Shared = Arc<App>;

/// The daemon's context: made once at start, never replaced.
#[derive(Debug)]
pub struct App {
    /// The configuration, with every default filled in.
    pub config: Config,
    /// The shims of this node.
    pub shims: Shims,
    /// Other nodes.
    pub peers: Peers,
    /// Image digests, from containerd.
    pub digests: Digests,
    /// The migrations this node takes part in, or took part in.
    pub migrations: Migrations,
    /// Pumps for packets of old connections.
    pub relays: Relays,
    /// Migrations that leave this node.
    pub source: crate::source::Table,
    /// Migrations that arrive on this node.
    pub destination: crate::destination::Table,
    /// Cancelled when the daemon is asked to stop. Long waits must end then; a migration that
    /// is under way is left to its journal and taken up again at the next start.
    pub stopping: CancellationToken,
}

impl App {
    /// Puts the context together. Opens nothing and connects to nothing.
    pub fn new(config: Config, peers: Peers) -> Shared {
        Arc::new(Self {
            shims: Shims::new(config.shims_dir()),
            digests: Digests::new(config.containerd.socket.clone()),
            migrations: Migrations::new(config.migrations_dir()),
            relays: Relays::default(),
            stopping: CancellationToken::new(),
            source: crate::source::Table::default(),
            destination: crate::destination::Table::default(),
            peers,
            config,
        })
    }
}
