//! Packets of old connections, from the adoption of the old addresses to the end of the routes:
//! one to the pod that this one took over from, and one to each pod before it whose addresses
//! still have connections.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mycedrive_connection::{PodNet, Route as Number, Tun};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_proto::migration::source_client::SourceClient;
use mycedrive_proto::migration::{EarlierRoute, Manifest, Packets};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::Instrument as _;

use super::migration::{Details, Migration};
use crate::app::Shared;
use crate::error::{Error, Result};
use crate::fault;
use crate::relay::{self, Ended, Pump, Timing, Token};

/// Pauses between attempts to drop addresses that the shim still needs.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// An earlier pod's addresses, and where their packets come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Among this pod's routes; 0 is that to the pod it took over from.
    number: usize,
    /// The migration by which the earlier pod was left.
    migration: String,
    /// `host:port` of its node.
    endpoint: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Shown to its node if this is not the first move from there.
    token: Token,
    /// How many moves later this one is.
    hops: u32,
}

/// The routes that a manifest describes.
pub fn of(details: &Details, manifest: &Manifest) -> Vec<Option<Route>> {
    if !details.keep_connections || manifest.parked {
        return vec![];
    }
    let own = Route {
        number: 0,
        migration: details.id.clone(),
        endpoint: details.endpoint.clone(),
        addresses: manifest.addresses.clone(),
        token: Token::received(manifest.relay_token.clone()),
        hops: 0,
    };
    let earlier = manifest.earlier.iter().cloned().zip(1..);
    let earlier = earlier.map(|(route, number)| Route {
        number,
        migration: route.migration_id,
        endpoint: route.endpoint,
        addresses: route.addresses,
        token: Token::received(route.token),
        hops: route.hops.max(1),
    });
    std::iter::once(own).chain(earlier).map(Some).collect()
}

impl Route {
    /// For the node to which the pod moves next.
    pub fn handed_on(&self) -> EarlierRoute {
        EarlierRoute {
            migration_id: self.migration.clone(),
            endpoint: self.endpoint.clone(),
            addresses: self.addresses.clone(),
            token: self.token.reveal(),
            hops: self.hops.saturating_add(1),
        }
    }

    fn tun(&self) -> Result<Tun> {
        let number = Number::new(self.number);
        number
            .map(Tun::Route)
            .map_err(|error| Error::Failed(error.to_string()))
    }

    fn hello(&self) -> Packets {
        let mut hello = Packets {
            migration_id: self.migration.clone(),
            hops: self.hops,
            ..Packets::default()
        };
        if self.hops > 0 {
            hello.token = self.token.reveal();
        }
        hello
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let parsed = self.addresses.iter().map(|address| address.parse());
        parsed.filter_map(std::result::Result::ok).collect()
    }
}

/// Attaches to the pod's TUNs, so that nothing is lost between Run and the relay. A failure costs
/// old connections, not the migration.
pub async fn attach(app: &Shared, migration: &Migration) {
    for route in migration.routes() {
        let attached = async {
            let pump = Pump::attach(net(migration)?, route.tun()?).await?;
            let id = &migration.details.id;
            app.relays.insert(id, route.tun()?, pump);
            Ok::<_, Error>(())
        };
        if let Err(error) = attached.await {
            tracing::warn!(%error, addresses = ?route.addresses, "old connections will not be carried");
        }
    }
}

/// Lets go of the TUNs.
pub fn detach(app: &Shared, migration: &Migration) {
    for route in migration.routes() {
        detach_one(app, migration, &route);
    }
}

fn detach_one(app: &Shared, migration: &Migration, route: &Route) {
    if let Ok(tun) = route.tun() {
        app.relays.remove(&migration.details.id, tun);
    }
}

fn net(migration: &Migration) -> Result<Arc<PodNet>> {
    let net = PodNet::open(Path::new(&migration.details.netns))
        .map_err(|error| Error::Failed(error.to_string()))?;
    Ok(Arc::new(net))
}

/// Carries the connections to the pod that this one took over from, until its route is needed no
/// more; then drops its addresses.
pub async fn carry_own(app: &Shared, migration: &Arc<Migration>) {
    let own = migration
        .routes()
        .into_iter()
        .find(|route| route.number == 0);
    if let Some(route) = own {
        carry(app, migration, &route).await;
    }
}

/// The same for the pods before it, each in a task of its own. They end when this is dropped.
pub fn carry_earlier(app: &Shared, migration: &Arc<Migration>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for route in migration.routes() {
        if route.number > 0 {
            let (app, migration) = (app.clone(), migration.clone());
            let carry = async move { carry(&app, &migration, &route).await };
            tasks.spawn(carry.in_current_span());
        }
    }
    tasks
}

async fn carry(app: &Shared, migration: &Arc<Migration>, route: &Route) {
    let why = tokio::select! {
        () = app.stopping.cancelled() => return,
        () = migration.pod_gone.cancelled() => "this pod is gone",
        () = migration.moved_on.cancelled() => "the pod has moved on",
        why = follow(app, migration, route) => why,
    };
    tracing::info!(why, addresses = ?route.addresses, "a route of old connections ends");
    drop_addresses(app, migration, route).await;
    detach_one(app, migration, route);
    migration.route_ended(route.number);
}

/// Asks the shim until the addresses are dropped: it refuses while the pod is frozen for its next
/// move. They go with the pod as well, and when it has moved on.
async fn drop_addresses(app: &Shared, migration: &Arc<Migration>, route: &Route) {
    let details = &migration.details;
    let limit = app.config.migration.step_timeout;
    let mut wait = PAUSE;
    while !migration.pod_gone.is_cancelled() && !migration.moved_on.is_cancelled() {
        let dropped = match app.shims.connect(&details.sandbox).await {
            Ok(shim) => shim.drop_route(&details.id, route.number, limit).await,
            Err(error) => Err(error),
        };
        match dropped {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "cannot drop the old addresses yet"),
        }
        if shim_gone(app, &details.sandbox) {
            return;
        }
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = migration.pod_gone.cancelled() => return,
            () = migration.moved_on.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_PAUSE);
    }
}

async fn follow(app: &Shared, migration: &Arc<Migration>, route: &Route) -> &'static str {
    let id = &migration.details.id;
    if fault::hit(FaultPoint::DestinationRelayStart).await.is_err() {
        return "an injected error";
    }
    let attached = async {
        let (net, tun) = (net(migration)?, route.tun()?);
        let pump = match app.relays.get(id, tun) {
            Some(pump) => pump,
            // After a restart of the daemon.
            None => Pump::attach(net.clone(), tun).await?,
        };
        app.relays.insert(id, tun, pump.clone());
        Ok::<_, Error>((net, pump))
    };
    let (net, pump) = match attached.await {
        Ok(attached) => attached,
        Err(error) => {
            tracing::warn!(%error, "old connections are not carried");
            return "the pod's network cannot be reached";
        }
    };
    let dial =
        |outgoing: ReceiverStream<Packets>| dial(app.clone(), route.endpoint.clone(), outgoing);
    let timing = Timing::default();
    let old = route.addresses();
    let farewell = async || end_connections(app, migration, route).await;
    match relay::follow(&pump, net, &old, route.hello(), timing, dial, farewell).await {
        Ended::Closed => "the old pod is gone",
        Ended::Idle => "no old connection is left",
        Ended::Gone => "this pod is gone",
    }
}

/// The old pod goes. Not while this one is frozen for its next move: then the peers hear nothing.
async fn end_connections(app: &Shared, migration: &Migration, route: &Route) {
    let details = &migration.details;
    let limit = app.config.migration.step_timeout;
    let ended = match app.shims.connect(&details.sandbox).await {
        Ok(shim) => shim.end_connections(&details.id, route.number, limit).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::info!(%error, addresses = ?route.addresses, "clients of the old pod are not told of its end");
    }
}

async fn dial(
    app: Shared,
    endpoint: String,
    outgoing: ReceiverStream<Packets>,
) -> Result<Streaming<Packets>, Status> {
    let channel = app.peers.dial(&endpoint).await.map_err(Error::from)?;
    let answer = SourceClient::new(channel).relay(outgoing).await?;
    Ok(answer.into_inner())
}

/// Nobody listens on the socket of the sandbox's shim.
pub fn shim_gone(app: &Shared, sandbox: &str) -> bool {
    !app.shims.alive(sandbox)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
